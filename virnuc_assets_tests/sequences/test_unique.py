"""Distinct sequences come longest first, then by their bytes, and rows lead back to them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.sequences import runs, spool
from virnuc_assets.sequences.ragged import flat
from virnuc_assets.sequences.runs import merge_runs, write_run
from virnuc_assets.sequences.spool import Spool
from virnuc_assets.sequences.unique import unique_longest_first
from virnuc_assets.store import sequence_table
from virnuc_assets.store.sequence_table import SequenceTable

# Few letters and shared beginnings, so that sequences repeat and agree for longer than one key.
pieces = st.sampled_from(["", "A", "C", "G", "ACGTACGTACGT", "ACGTACGTACGTACGTACGTACGTA", "*-.Z"])
sequences = st.builds("".join, st.lists(pieces, max_size=4))


def strings(values):
    return pa.array(values, pa.large_string())


def in_order(values):
    return sorted(set(values), key=lambda sequence: (-len(sequence), sequence))


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.lists(sequences, max_size=40))
def test_as_sorted_sets_do(values):
    distinct, rows = unique_longest_first(strings(values))
    assert distinct.to_pylist() == in_order(values)
    assert distinct.take(pa.array(rows)).to_pylist() == values


def test_part_of_a_longer_array():
    whole = strings(["GG", "ACGT", "AC", "ACGT", "TT"])
    distinct, rows = unique_longest_first(whole[1:4])
    assert (distinct.to_pylist(), rows.tolist()) == (["ACGT", "AC"], [0, 1, 0])
    letters, offsets = flat(whole[1:4])
    assert (letters.tobytes(), offsets.tolist()) == (b"ACGTACACGT", [0, 4, 6, 10])


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(
    blocks=st.lists(st.lists(sequences, max_size=30), min_size=1, max_size=5),
    batch_rows=st.integers(1, 5),
    part_letters=st.integers(1, 200),
    room=st.sampled_from([0, 500, 1 << 20]),
    threads=st.integers(1, 3),
)
def test_runs_merge_into_what_one_sort_gives(
    blocks, batch_rows, part_letters, room, threads, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("runs")
    keeper = Spool(folder, room)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "BATCH_ROWS", batch_rows)
        written = [write_run(keeper, strings(block)) for block in blocks]
        merged = merge_runs(
            [run for run, _ in written], folder / "table.arrow", folder, threads, part_letters
        )
    table = SequenceTable(folder / "table.arrow")
    everything = [sequence for block in blocks for sequence in block]
    assert merged.sequences == len(table)
    assert merged.letters == sum(map(len, set(everything)))
    assert table.take(range(len(table))) == in_order(everything)
    for number, (block, (_, rows)) in enumerate(zip(blocks, written, strict=True)):
        assert table.take(merged.rows(number)[rows]) == block


def test_parts_are_of_the_size_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "BATCH_ROWS", 10)
    keeper = Spool(tmp_path, 0)
    values = [
        f"{'ACGT'[i % 4]}{'CAT' * (i % 7)}{chr(65 + i % 26)}{chr(65 + i // 26)}" for i in range(600)
    ]
    written = [write_run(keeper, strings(values[i::3]))[0] for i in range(3)]
    sizes = []
    sort = runs.unique_longest_first

    def watched(part):
        sizes.append(len(flat(part)[0]))
        return sort(part)

    monkeypatch.setattr(runs, "unique_longest_first", watched)
    merged = merge_runs(written, tmp_path / "table.arrow", tmp_path, 1, 1000)
    assert merged.letters == sum(sizes)
    assert len(sizes) == merged.letters // 1000 + 1
    assert max(sizes) < 2000


def test_long_sequences_are_read_and_sorted_a_few_at_a_time(tmp_path, monkeypatch):
    """Every block holds a long sequence and shorter ones, as contigs come: no part takes all."""
    monkeypatch.setattr(spool, "_BATCH_BYTES", 1000)
    keeper = Spool(tmp_path, 0)
    blocks = [
        ["ACGT"[i % 4] * (1000 - 90 * k) + "GATC"[i // 4] * i for k in range(11)] for i in range(12)
    ]
    written = [write_run(keeper, strings(block))[0] for block in blocks]
    assert all(run.kept.batch_rows == 1 for run in written)
    sizes = []
    sort = runs.unique_longest_first

    def watched(part):
        sizes.append(len(flat(part)[0]))
        return sort(part)

    monkeypatch.setattr(runs, "unique_longest_first", watched)
    merged = merge_runs(written, tmp_path / "table.arrow", tmp_path, 1, 3000)
    assert max(sizes) < 3000 + 2 * 1020
    everything = [sequence for block in blocks for sequence in block]
    assert SequenceTable(tmp_path / "table.arrow").take(range(merged.sequences)) == in_order(
        everything
    )


def test_sequences_that_differ_late_are_told_apart(tmp_path, monkeypatch):
    """Places hold but the first letters of a sequence; equal ones still meet in one part."""
    monkeypatch.setattr(runs, "_PLACE_LETTERS", 4)
    monkeypatch.setattr(spool, "BATCH_ROWS", 2)
    blocks = [["ACGT" + "ACGT"[(i + k) % 4] * 3 + "AC"[k % 2] for k in range(9)] for i in range(5)]
    written = [
        write_run(Spool(tmp_path / str(i), 1 << 20), strings(b)) for i, b in enumerate(blocks)
    ]
    merged = merge_runs([run for run, _ in written], tmp_path / "t.arrow", tmp_path, 1, 8)
    table = SequenceTable(tmp_path / "t.arrow")
    assert table.take(range(len(table))) == in_order([s for block in blocks for s in block])
    for number, (block, (_, rows)) in enumerate(zip(blocks, written, strict=True)):
        assert table.take(merged.rows(number)[rows]) == block


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(
    parts=st.lists(st.lists(st.text("ACGT", max_size=9), max_size=9), max_size=6),
    rows=st.integers(1, 6),
    letters=st.integers(1, 20),
)
def test_a_table_depends_on_its_sequences_and_not_on_parts(parts, rows, letters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence_table, "_BATCH_ROWS", rows)
        patch.setattr(sequence_table, "_BATCH_LETTERS", letters)
        found = [b.to_pylist() for b in sequence_table._batches(map(strings, parts))]
    expected = [[]]
    for sequence in [sequence for part in parts for sequence in part]:
        last = expected[-1]
        if last and (len(last) == rows or sum(map(len, [*last, sequence])) > letters):
            expected.append([])
        expected[-1].append(sequence)
    assert found == [batch for batch in expected if batch]
