"""Frames of real indexes carry their records' labels; masked negatives are not learnt from."""

from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.sequences.chunks import chunk_records
from virnuc_assets.sequences.index import build_index
from virnuc_assets.training.frames import NO_MASK, IndexedSample, labelled_frames
from virnuc_assets.training.labelled import LabelledRecord

NONE = np.empty(0, np.int64)
LENGTH = 90


@pytest.fixture
def indexed(write_fasta, tmp_path):
    """Two indexed files of three records each, and the records' labels."""
    records, samples = [], []
    for number, (name, is_virus) in enumerate((("v", True), ("o", False))):
        ids = [f"{name}{i}" for i in range(3)]
        file = write_fasta(f"{name}.fa", ids, gc=0.7, length=1000)
        build_index(file, tmp_path / name, LENGTH, tool_version="test")
        places = np.arange(3 * number, 3 * number + 3)
        samples.append(IndexedSample(tmp_path / name, LENGTH, places, (NONE, NONE)))
        records += [
            LabelledRecord(one, file, is_virus, f"group {name}", f"genome {one}", split)
            for one, split in zip(ids, ("train", "validation", "test"), strict=True)
        ]
    return samples, records


def index_frames(sample):
    return pl.read_parquet(sample.index / "frames.parquet")


def test_every_frame_has_its_rows_and_its_records_labels(indexed):
    samples, records = indexed
    frames = labelled_frames(samples, records, NO_MASK)
    place = 0
    for number, sample in enumerate(samples):
        for row in index_frames(sample).iter_rows(named=True):
            record = records[3 * number + row["record"]]
            assert frames.sample[place] == number
            assert frames.nucleotide_row[place] == row["nucleotide_row"]
            assert frames.protein_row[place] == row["protein_row"]
            assert frames.is_virus[place] == record.is_virus
            assert frames.groups[frames.group[place]] == record.group
            assert frames.genomes[frames.genome[place]] == record.genome
            assert place in frames.part(record.split)
            place += 1
    assert len(frames) == place
    assert not frames.masked.any()


def test_frames_without_an_embedding_are_left_out(indexed):
    samples, records = indexed
    aside = IndexedSample(samples[0].index, LENGTH, samples[0].records, (np.array([2]), NONE))
    frames = labelled_frames([aside, samples[1]], records, NO_MASK)
    lost = index_frames(samples[0]).filter(pl.col("nucleotide_row") == 2)
    assert len(frames) == sum(len(index_frames(one)) for one in samples) - len(lost)
    assert 2 not in frames.nucleotide_row[frames.sample == 0]


def test_a_chunk_that_is_masked_by_half_is_no_training_negative(indexed):
    samples, records = indexed
    # The same places in a virus, in a training negative and in a test negative.
    mask = pl.DataFrame(
        [(one, 300, 500) for one in ("v0", "o0", "o2")],
        schema=["id", "start", "end"],
        orient="row",
    )
    frames = labelled_frames(samples, records, mask)
    chunks = chunk_records(np.array([0, 1000]), LENGTH)
    place = 0
    for sample in samples:
        for row in index_frames(sample).iter_rows(named=True):
            start, stop = chunks.start[row["chunk"] - 1], chunks.stop[row["chunk"] - 1]
            half = 2 * max(0, min(stop, 500) - max(start, 300)) >= stop - start
            name = records[frames.record[place]].record_id
            assert frames.masked[place] == (half and name in ("o0", "o2"))
            place += 1
    masked = np.flatnonzero(frames.masked)
    assert len(masked)
    assert set(masked).isdisjoint(frames.part("train"))
    assert set(masked) & set(frames.part("test"))


def test_an_index_of_other_records_is_refused(indexed):
    samples, records = indexed
    short = IndexedSample(samples[0].index, LENGTH, np.arange(2), (NONE, NONE))
    with pytest.raises(StoreError, match="holds 3 records where 2 are labelled"):
        labelled_frames([short], records, NO_MASK)


def test_draws_are_balanced_by_class_group_and_genome(make_features):
    """Roots of sizes, counted frame by frame."""
    rng = np.random.default_rng(0)
    # A genome's number says its class and group.
    genome = rng.choice(40, 3000, p=np.arange(1, 41) / 820).astype(np.int32)
    group = np.where(genome < 3, 2, genome % 2).astype(np.int32)
    frames = replace(
        make_features(3000, 0.0).frames, is_virus=genome % 3 == 0, group=group, genome=genome
    )
    rows = rng.permutation(3000)[:2000]
    found = frames.sampling_weights(rows)

    labels = [(bool(frames.is_virus[one]), int(group[one]), int(genome[one])) for one in rows]
    of_genome = Counter(labels)
    genomes = Counter(one[:2] for one in of_genome)
    groups = {one: count**0.5 for one, count in genomes.items()}
    roots = {
        label: sum(n**0.5 for one, n in of_genome.items() if one[:2] == label) for label in genomes
    }
    classes = {
        label: sum(share for one, share in groups.items() if one[0] == label)
        for label in (False, True)
    }
    expected = [
        0.5
        * (groups[one[:2]] / classes[one[0]])
        * (of_genome[one] ** 0.5 / roots[one[:2]])
        / of_genome[one]
        for one in labels
    ]
    np.testing.assert_allclose(found, expected)
    assert found.sum() == pytest.approx(1)
