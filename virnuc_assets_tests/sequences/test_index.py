"""An index is complete, unique, sorted, reproducible, and replaced whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import random
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.errors import InputError, StoreError
from virnuc_assets.sequences import index as index_module
from virnuc_assets.sequences.frames import FRAME_NAMES
from virnuc_assets.sequences.index import (
    FRAMES_FILE,
    NUCLEOTIDES_FILE,
    PROTEINS_FILE,
    RECORDS_FILE,
    build_index,
)
from virnuc_assets.sequences.index_block import frame_names
from virnuc_assets.sequences.manifest import read_manifest
from virnuc_assets.sequences.runs import merge_runs
from virnuc_assets.sequences.spool import Spool
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets.store.shard_locks import LOCKS

FILES = {FRAMES_FILE, NUCLEOTIDES_FILE, PROTEINS_FILE, RECORDS_FILE, "manifest.json"}
# `twice` repeats `once`; `closed` has a stop in all six frames; `short` holds no codon.
TEXT = (
    ">once\nATGGCCATTGCAATGGGCCGC\n>closed\nTAATTAATTAATTAATTAA\n"
    ">twice\natggccattgcaatgggccgc\n>rna\nAUGGCCGGGGGG\n>short\nAC\n"
)


@pytest.fixture
def index(write, tmp_path):
    directory = tmp_path / "index"
    return directory, build_index(write(TEXT), directory, 300, tool_version="1.2.3")


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_every_record_is_accounted_for(index):
    directory, manifest = index
    records = pl.read_parquet(directory / RECORDS_FILE)
    frames = pl.read_parquet(directory / FRAMES_FILE)
    assert records["ordinal"].to_list() == [0, 1, 2, 3, 4]
    assert records["id"].to_list() == ["once", "closed", "twice", "rna", "short"]
    assert records["length"].to_list() == [21, 19, 21, 12, 2]
    assert records["n_chunks"].to_list() == [1, 1, 1, 1, 1]
    assert records["rna"].to_list() == [False, False, False, True, False]
    counts = dict(frames.group_by("record").len().iter_rows())
    assert records["n_frames"].to_list() == [counts.get(i, 0) for i in range(5)]
    assert records["n_frames"][1] == records["n_frames"][4] == 0
    assert manifest.records_without_open_frame == 2


def test_tables_are_unique_longest_first_then_by_sequence(index):
    directory, manifest = index
    for name, column, unique, residues in (
        (NUCLEOTIDES_FILE, "nucleotide_row", manifest.unique_nucleotides, "nucleotide_residues"),
        (PROTEINS_FILE, "protein_row", manifest.unique_proteins, "protein_residues"),
    ):
        table = SequenceTable(directory / name)
        rows = pq.read_table(directory / FRAMES_FILE)[column].to_numpy()
        sequences = [table.take([row])[0] for row in range(len(table))]
        assert sequences == sorted(set(sequences), key=lambda s: (-len(s), s))
        assert set(rows) == set(range(len(table))), "every row is some frame's"
        assert len(table) == unique
        assert sum(map(len, sequences)) == getattr(manifest, residues)


def test_identical_sequences_share_a_row(index):
    frames = pl.read_parquet(index[0] / FRAMES_FILE)
    once, twice = (frames.filter(pl.col("record") == record) for record in (0, 2))
    assert once.height > 0
    columns = ["frame", "nucleotide_row", "protein_row"]
    assert once.select(columns).equals(twice.select(columns))


def test_the_manifest_tells_the_whole(index, write):
    directory, manifest = index
    assert {path.name for path in directory.iterdir()} == {*FILES, LOCKS}
    assert read_manifest(directory) == manifest
    assert (manifest.records, manifest.chunks, manifest.chunk_length) == (5, 5, 300)
    assert manifest.frames == pq.read_metadata(directory / FRAMES_FILE).num_rows
    assert (manifest.input_name, manifest.input_bytes) == ("input.fa", len(TEXT))
    assert manifest.input_sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    for name, digest in (
        (NUCLEOTIDES_FILE, manifest.nucleotides_sha256),
        (PROTEINS_FILE, manifest.proteins_sha256),
    ):
        assert digest == hashlib.sha256((directory / name).read_bytes()).hexdigest()
    assert manifest.tool_version == "1.2.3"
    sequences = manifest.unique_nucleotides + manifest.unique_proteins
    assert manifest.unique_share == sequences / (2 * manifest.frames) < 1
    assert manifest.warnings == ("1 of 5 records hold U (RNA), which was read as T",)
    for name in (RECORDS_FILE, FRAMES_FILE):
        metadata = pq.read_metadata(directory / name).metadata
        assert metadata[b"virnuc.index_digest"] == manifest.index_digest.encode()


def test_rna_is_logged(write, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build_index(write(TEXT), tmp_path / "index", 300, tool_version="1")
    assert "1 of 5 records hold U" in caplog.text


def test_a_rebuild_is_byte_identical(index, write, tmp_path):
    directory, _ = index
    before = contents(directory)
    build_index(write(TEXT), directory, 300, tool_version="1.2.3")
    build_index(write(TEXT), tmp_path / "other", 300, tool_version="1.2.3")
    assert contents(directory) == contents(tmp_path / "other") == before


def test_the_digest_follows_what_was_indexed_and_how(index, write, tmp_path):
    _, manifest = index

    def digest(text, chunk_length, version="1.2.3"):
        path = write(text)
        return build_index(path, tmp_path / "x", chunk_length, tool_version=version).index_digest

    assert digest(TEXT, 300, version="9") == manifest.index_digest
    assert digest(TEXT, 500) != manifest.index_digest
    assert digest(TEXT + "\n", 300) != manifest.index_digest


def test_the_order_of_records_changes_no_table(write, tmp_path):
    records = TEXT.rstrip().split(">")[1:]
    forward = build_index(
        write(">" + ">".join(records)), tmp_path / "forward", 300, tool_version="1"
    )
    backward = build_index(
        write(">" + "\n>".join(record.rstrip() for record in reversed(records))),
        tmp_path / "backward",
        300,
        tool_version="1",
    )
    assert forward.nucleotides_sha256 == backward.nucleotides_sha256
    assert forward.proteins_sha256 == backward.proteins_sha256


def test_a_sample_without_any_open_frame(write, tmp_path, read_frames):
    manifest = build_index(write(">a\nAC\n>b\nNNNNNN\n"), tmp_path / "index", 300, tool_version="1")
    assert (manifest.frames, manifest.unique_proteins, manifest.protein_residues) == (0, 0, 0)
    assert manifest.records_without_open_frame == 2
    assert read_frames(tmp_path / "index") == []
    assert len(SequenceTable(tmp_path / "index" / PROTEINS_FILE).lengths()) == 0


@pytest.mark.parametrize("text", [TEXT + ">once\nAC\n", TEXT + ">p\nMKLE\n", "no FASTA"])
def test_a_failed_rebuild_leaves_the_earlier_index(text, index, write):
    directory, manifest = index
    before = contents(directory)
    with pytest.raises(InputError):
        build_index(write(text), directory, 500, tool_version="2")
    assert contents(directory) == before
    assert read_manifest(directory) == manifest


def test_a_death_amid_the_swap_leaves_no_manifest(index, write, monkeypatch):
    directory, _ = index
    path_type = type(directory)
    replace = path_type.replace

    def die_at_proteins(self, target):
        if self.name == PROTEINS_FILE and self.parent.name == ".building":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(path_type, "replace", die_at_proteins)
    with pytest.raises(KeyboardInterrupt):
        build_index(write(">a\nATGGCC\n"), directory, 300, tool_version="2")
    with pytest.raises(StoreError, match="holds no complete index"):
        read_manifest(directory)
    monkeypatch.undo()
    build_index(write(TEXT), directory, 300, tool_version="2")
    assert {path.name for path in directory.iterdir()} == {*FILES, LOCKS}


def test_what_a_killed_build_left_behind_is_cleared(index, write):
    directory, _ = index
    (directory / ".building").mkdir()
    (directory / ".building" / "rubbish").write_text("x")
    build_index(write(TEXT), directory, 300, tool_version="2")
    assert {path.name for path in directory.iterdir()} == {*FILES, LOCKS}


@pytest.mark.parametrize("chunk_length", [2, 0, -300, 300.0, "500", True, 1_000_001, 2**63])
def test_chunk_lengths_that_make_no_sense(chunk_length, write, tmp_path):
    with pytest.raises(InputError, match=r"chunk length .*whole number of at least 3"):
        build_index(write(TEXT), tmp_path / "index", chunk_length, tool_version="1")


def test_a_folder_that_cannot_be_written(write, tmp_path):
    blocker = write("x", "blocker")
    with pytest.raises(StoreError, match=r"cannot be written .*; choose another output folder"):
        build_index(write(TEXT), blocker / "index", 300, tool_version="1")


def test_manifests_that_cannot_be_used(index):
    directory, _ = index
    path = directory / "manifest.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "schema": 99}))
    with pytest.raises(StoreError, match="index schema 99 and this version reads 1; make the"):
        read_manifest(directory)
    path.write_text(json.dumps({"kind": "something else"}))
    with pytest.raises(StoreError, match="is not the manifest of an index"):
        read_manifest(directory)
    path.write_text("[]")
    with pytest.raises(StoreError, match="is not the manifest of an index"):
        read_manifest(directory)
    path.unlink()
    with pytest.raises(StoreError, match="holds no complete index; make it first"):
        read_manifest(directory)


def make_text(records, seed=0):
    rng = random.Random(seed)
    styles = ("ACGT", "GGGCCCCA", "GCN", "ACGTacgtNRY")
    return "".join(
        f">r{i}\n{''.join(rng.choices(styles[i % 4], k=rng.choice([150, 150, 700, 2500])))}\n"
        for i in range(records)
    )


def test_threads_and_memory_change_no_byte(write, tmp_path, monkeypatch):
    path = write(make_text(300))
    monkeypatch.setattr(index_module, "merge_runs", partial(merge_runs, part_letters=5000))
    for name, threads, room in (("one", 1, 1 << 30), ("three", 3, 1 << 30), ("disk", 2, 0)):
        monkeypatch.setattr(index_module, "Spool", partial(Spool, room=room))
        build_index(
            path, tmp_path / name, 300, tool_version="1", threads=threads, block_bytes=20_000
        )
    assert contents(tmp_path / "one") == contents(tmp_path / "three") == contents(tmp_path / "disk")


def test_blocks_change_nothing_but_row_groups(write, tmp_path):
    path = write(make_text(100))
    large, small = (
        build_index(path, tmp_path / str(size), 300, tool_version="1", block_bytes=size)
        for size in (1 << 24, 1000)
    )
    assert large == small
    for name in (RECORDS_FILE, FRAMES_FILE):
        a, b = (pq.read_table(tmp_path / str(size) / name) for size in (1 << 24, 1000))
        assert a.equals(b)


def test_fastq_and_packed_files_give_the_tables_that_fasta_does(write, tmp_path):
    text = make_text(40)
    records = [record.split("\n")[:2] for record in text.split(">")[1:]]
    fastq = "".join(f"@{name} x\n{letters}\n+\n{'I' * len(letters)}\n" for name, letters in records)
    files = {
        "a.fa": text.encode(),
        "a.fq": fastq.encode(),
        "a.fq.gz": gzip.compress(fastq.encode()),
        "a.fa.zst": pa.compress(text.encode(), "zstd", asbytes=True),
    }
    tables = set()
    for name, content in files.items():
        directory = tmp_path / name.replace(".", "_")
        manifest = build_index(write(content, name), directory, 300, tool_version="1")
        assert manifest.input_sha256 == hashlib.sha256(content).hexdigest()
        frames = (directory / FRAMES_FILE).read_bytes().replace(manifest.index_digest.encode(), b"")
        tables.add((manifest.nucleotides_sha256, manifest.proteins_sha256, frames))
    assert len(tables) == 1


def test_nothing_is_left_beside_the_index(index, write):
    directory, _ = index
    with pytest.raises(InputError):
        build_index(write(TEXT + ">x\nAC\n>x\nAC\n"), directory, 300, tool_version="1")
    assert {path.name for path in directory.iterdir()} == {*FILES, LOCKS}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**12), st.integers(0, 5)), max_size=20)
)
def test_names_of_frames(frames):
    ids = ["a", "NC_001416.1|x", "9", "read_10/2"]
    record, number, frame = (np.array([row[i] for row in frames], np.int64) for i in range(3))
    found = frame_names(pa.array(ids, pa.large_string()), record, number, frame)
    assert found.to_pylist() == [f"{ids[r]}_chunk_{n}{FRAME_NAMES[f]}" for r, n, f in frames]
