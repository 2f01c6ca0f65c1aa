from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.mask import masked_chunks, read_mask
from virnuc_assets.sequences.chunks import chunk_records

CHUNK = 10
interval = st.tuples(st.sampled_from("abx"), st.integers(0, 60), st.integers(1, 40))
lengths = st.tuples(st.integers(1, 70), st.integers(1, 70))


def tables(sizes: Any, intervals: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    records = pl.DataFrame({"ordinal": [3, 5], "id": ["a", "b"], "length": list(sizes)})
    mask = pl.DataFrame(
        [(name, start, start + size) for name, start, size in intervals],
        {"id": pl.String, "start": pl.Int64, "end": pl.Int64},
        orient="row",
    )
    return records, mask


def base_by_base(records: pl.DataFrame, mask: pl.DataFrame) -> list[tuple[int, int]]:
    found = []
    for record in records.iter_rows(named=True):
        covered = np.zeros(200, bool)
        for name, start, end in mask.iter_rows():
            if name == record["id"]:
                covered[start:end] = True
        chunks = chunk_records(np.array([0, record["length"]]), CHUNK)
        for number, start, stop in zip(chunks.number, chunks.start, chunks.stop, strict=True):
            if covered[start:stop].sum() >= (stop - start) / 2:
                found.append((record["ordinal"], number))
    return found


@settings(deadline=None)
@given(lengths, st.lists(interval, max_size=8))
def test_chunks_of_which_half_is_covered_are_masked(sizes: Any, intervals: Any) -> None:
    records, mask = tables(sizes, intervals)
    assert masked_chunks(records, mask, CHUNK).rows() == base_by_base(records, mask)


def test_half_of_a_chunk_is_enough() -> None:
    records, mask = tables((20, 20), [("a", 0, 4), ("a", 2, 3), ("b", 14, 4)])
    assert masked_chunks(records, mask, CHUNK).rows() == [(3, 1)]
    records, mask = tables((20, 20), [("b", 14, 3), ("b", 18, 2)])
    assert masked_chunks(records, mask, CHUNK).rows() == [(5, 2)]


def test_a_table_of_intervals_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mask.tsv"
    path.write_text("file\trecord_id\tstart0\tend\tshared\nx.fa\ta\t0\t12\t3\nx.fa\tb\t5\t6\t1\n")
    assert read_mask(path).rows() == [("a", 0, 12), ("b", 5, 6)]


@pytest.mark.parametrize("line", ["a\t5\t5", "a\t-1\t5", "a\tx\t5", "a\t1.5\t5"])
def test_what_is_no_interval_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mask.tsv"
    path.write_text(f"record_id\tstart0\tend\na\t0\t1\n{line}\n")
    with pytest.raises(InputError, match=r"mask\.tsv: line 3 is no interval"):
        read_mask(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.tsv"
    path.write_text("record_id\tstart\tend\na\t0\t1\n")
    with pytest.raises(InputError, match="has no column start0 but record_id, start, end"):
        read_mask(path)
