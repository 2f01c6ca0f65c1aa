"""The index holds exactly the frames that the plain reference finds."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virnuc_assets.sequences import chunks as chunks_module
from virnuc_assets.sequences import frames as frames_module
from virnuc_assets.sequences.chunks import chunk_records, windows
from virnuc_assets.sequences.index import build_index
from virnuc_assets.sequences.ragged import offsets_of

SENSE = [
    a + b + c
    for a in "ACGT"
    for b in "ACGT"
    for c in "ACGT"
    if a + b + c not in {"TAA", "TAG", "TGA"}
]
# Random DNA is nearly all closed frames; the other styles leave frames open or stop codons rare.
STYLES = {
    "random": lambda rng, n: "".join(rng.choices("ACGT", k=n)),
    "coding": lambda rng, n: "".join(rng.choices(SENSE, k=n // 3 + 1))[:n],
    "stopless": lambda rng, n: "".join(rng.choices("GGGCCCCA", k=n)),
    "iupac": lambda rng, n: "".join(rng.choices("GGGGGGCCCCCCAANRYSWKMBDHV", k=n)),
    "runs": lambda rng, n: "".join(rng.choice("GCN") * rng.randint(1, 90) for _ in range(n))[:n],
    "rna": lambda rng, n: "".join(rng.choices("GGGCCCAU", k=n)),
    "mixed_case": lambda rng, n: "".join(rng.choices("gGcCaAtTnN", k=n)),
}


def make_record(style: str, length: int, seed: int) -> str:
    return STYLES[style](random.Random(seed), length)


generated_records = st.lists(
    st.builds(
        make_record,
        st.sampled_from(sorted(STYLES)),
        st.one_of(st.integers(1, 1100), st.sampled_from([299, 300, 301, 499, 500, 501, 600, 1000])),
        st.integers(0, 2**32),
    ),
    min_size=100,
    max_size=100,
)


def as_fasta(records: list[tuple[str, str]], width: int = 60, end: str = "\n") -> str:
    return "".join(
        f">{name} about it{end}"
        + "".join(letters[i : i + width] + end for i in range(0, len(letters), width))
        for name, letters in records
    )


def test_ten_thousand_records_at_both_chunk_lengths(write, tmp_path, frames_of, read_frames):
    compared = 0

    @settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @given(generated_records)
    def same(sequences):
        nonlocal compared
        records = [(f"record_{i}", letters) for i, letters in enumerate(sequences)]
        path = write(as_fasta(records))
        for chunk_length in (300, 500):
            build_index(path, tmp_path / "index", chunk_length, tool_version="test")
            assert read_frames(tmp_path / "index") == frames_of(records, chunk_length)
        compared += len(records)

    same()
    assert compared >= 10_000


@settings(
    max_examples=200,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    sequences=st.lists(st.text("ACGTacgtUNRY", min_size=1, max_size=90), min_size=1, max_size=8),
    chunk_length=st.integers(3, 40),
    width=st.integers(1, 100),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_short_chunks(sequences, chunk_length, width, end, write, tmp_path, frames_of, read_frames):
    records = [(f"r{i}|x", letters) for i, letters in enumerate(sequences)]
    path = write(as_fasta(records, width, end))
    manifest = build_index(path, tmp_path / "index", chunk_length, tool_version="test")
    expected = frames_of(records, chunk_length)
    assert read_frames(tmp_path / "index") == expected
    assert manifest.frames == len(expected)
    assert manifest.unique_nucleotides == len({frame.nucleotides for frame in expected})
    assert manifest.unique_proteins == len({frame.protein for frame in expected})
    assert manifest.records_without_open_frame == len(records) - len({f.record for f in expected})


@pytest.mark.parametrize(
    ("length", "starts", "lengths"),
    [
        (1, [0], [1]),
        (300, [0], [300]),
        (301, [0, 150], [300, 151]),
        (600, [0, 300], [300, 300]),
        # r = 299, lo = 74, up = 77: three overlaps of 75 and a last chunk cut to 226.
        (901, [0, 225, 450, 675], [300, 300, 300, 226]),
        # r = 100, lo = 25, up = 25.
        (1100, [0, 274, 548, 822], [300, 300, 300, 278]),
        # r = 5, lo = 1, up = 2: overlaps 2, 2, 1.
        (1195, [0, 298, 596, 895], [300, 300, 300, 300]),
    ],
)
def test_worked_examples_of_chunking(length, starts, lengths):
    chunks = chunk_records(np.array([0, length]), 300)
    assert chunks.start.tolist() == starts
    assert (chunks.stop - chunks.start).tolist() == lengths
    assert chunks.number.tolist() == list(range(1, len(starts) + 1))


def test_chunks_of_every_length_equal_the_reference(chunks_of):
    lengths = np.arange(1, 900)
    letters = "".join(random.Random(1).choices("ACGT", k=int(lengths.sum())))
    offsets = offsets_of(lengths)
    for chunk_length in (3, 7, 100, 300):
        chunks = chunk_records(offsets, chunk_length)
        found = [letters[a:b] for a, b in zip(chunks.start, chunks.stop, strict=True)]
        expected = [chunks_of(letters[a:b], chunk_length) for a, b in pairwise(offsets)]
        assert found == [chunk for record in expected for chunk in record]
        assert chunks.record.tolist() == [i for i, record in enumerate(expected) for _ in record]


@pytest.mark.parametrize(("letters", "chunks"), [(1 << 20, 1 << 16), (1 << 30, 1000)])
def test_windows_divide_the_chunks_in_order(letters, chunks, monkeypatch):
    monkeypatch.setattr(chunks_module, "_WINDOW", letters)
    monkeypatch.setattr(chunks_module, "_WINDOW_CHUNKS", chunks)
    found = chunk_records(offsets_of(np.array([5_000_000, 10, 3_000_000])), 500)
    slices = list(windows(found))
    assert len(slices) > 5
    assert [slices[0].start, slices[-1].stop] == [0, found.start.size]
    assert all(a.stop == b.start for a, b in pairwise(slices))
    assert all(part.stop - part.start <= chunks for part in slices)
    assert all(np.ptp(found.start[part]) < letters for part in slices)


@pytest.mark.parametrize("span", [1, 100, 1000])
def test_letters_looked_up_together_change_nothing(
    span, write, tmp_path, frames_of, read_frames, monkeypatch
):
    monkeypatch.setattr(frames_module, "_SPAN", span)
    rng = random.Random(span)
    records = [
        (f"r{i}", make_record(rng.choice(sorted(STYLES)), rng.randint(1, 400), i))
        for i in range(300)
    ]
    for chunk_length in (7, 48, 50, 100, 300):
        build_index(write(as_fasta(records)), tmp_path / "index", chunk_length, tool_version="test")
        assert read_frames(tmp_path / "index") == frames_of(records, chunk_length)


def test_a_record_longer_than_a_window(write, tmp_path, frames_of, read_frames):
    rng = random.Random(2)
    records = [("long", "".join(rng.choices(SENSE, k=800_000))), ("short", "ATGGCC")]
    build_index(write(as_fasta(records)), tmp_path / "index", 500, tool_version="test")
    assert read_frames(tmp_path / "index") == frames_of(records, 500)


def test_ambiguous_codons_shorten_the_nucleotides(write, tmp_path, read_frames):
    build_index(write(">a\nATGNNNGCC\n"), tmp_path / "index", 300, tool_version="test")
    frames = {frame.frame: frame for frame in read_frames(tmp_path / "index")}
    assert (frames["F1"].protein, frames["F1"].nucleotides) == ("MA", "ATGNNNG")
    assert (frames["R1"].protein, frames["R1"].nucleotides) == ("GH", "GGCNNNC")


@pytest.mark.parametrize(
    "name", ["mixed_metagenome.fa", "messy_mixed.fa.gz", "phage_lambda_complete.fa"]
)
@pytest.mark.parametrize("chunk_length", [300, 500])
def test_real_samples(name, chunk_length, samples, tmp_path, frames_of, read_frames):
    pyfastx = pytest.importorskip("pyfastx")
    records = [record[:2] for record in pyfastx.Fastx(str(samples / name))]
    manifest = build_index(samples / name, tmp_path, chunk_length, tool_version="test")
    frames = read_frames(tmp_path)
    assert frames == frames_of(records, chunk_length)
    assert (manifest.records, manifest.frames) == (len(records), len(frames))
