"""An independent front end in plain Python: strings, dicts and loops, one record at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from math import ceil
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from virnuc_assets.sequences.index import FRAMES_FILE, NUCLEOTIDES_FILE, PROTEINS_FILE
from virnuc_assets.store.sequence_table import SequenceTable

CODONS = {
    **dict.fromkeys(["TTT", "TTC"], "F"),
    **dict.fromkeys(["TTA", "TTG", "CTT", "CTC", "CTA", "CTG"], "L"),
    **dict.fromkeys(["ATT", "ATC", "ATA"], "I"),
    **dict.fromkeys(["ATG"], "M"),
    **dict.fromkeys(["GTT", "GTC", "GTA", "GTG"], "V"),
    **dict.fromkeys(["TCT", "TCC", "TCA", "TCG", "AGT", "AGC"], "S"),
    **dict.fromkeys(["CCT", "CCC", "CCA", "CCG"], "P"),
    **dict.fromkeys(["ACT", "ACC", "ACA", "ACG"], "T"),
    **dict.fromkeys(["GCT", "GCC", "GCA", "GCG"], "A"),
    **dict.fromkeys(["TAT", "TAC"], "Y"),
    **dict.fromkeys(["TAA", "TAG", "TGA"], "*"),
    **dict.fromkeys(["CAT", "CAC"], "H"),
    **dict.fromkeys(["CAA", "CAG"], "Q"),
    **dict.fromkeys(["AAT", "AAC"], "N"),
    **dict.fromkeys(["AAA", "AAG"], "K"),
    **dict.fromkeys(["GAT", "GAC"], "D"),
    **dict.fromkeys(["GAA", "GAG"], "E"),
    **dict.fromkeys(["TGT", "TGC"], "C"),
    **dict.fromkeys(["TGG"], "W"),
    **dict.fromkeys(["CGT", "CGC", "CGA", "CGG", "AGA", "AGG"], "R"),
    **dict.fromkeys(["GGT", "GGC", "GGA", "GGG"], "G"),
}
PAIRS = {"A": "T", "C": "G", "G": "C", "T": "A"}


class Frame(NamedTuple):
    record: int
    chunk: int
    frame: str
    name: str
    nucleotides: str
    protein: str


def plain_chunks(sequence: str, c: int) -> list[str]:
    n = len(sequence)
    k = ceil(n / c)
    r = k * c - n
    lo = r // k
    up = r - lo * (k - 1)
    overlaps = ([lo + 1] * up + [lo] * (k - 1 - up) + [0])[:k]
    chunks, s = [], 0
    for i in range(k):
        chunks.append(sequence[i * c - s : i * c - s + c])
        s += overlaps[i]
    return chunks


def plain_frames(records: Iterable[tuple[str, str]], c: int) -> list[Frame]:
    frames = []
    for ordinal, (record_id, sequence) in enumerate(records):
        sequence = sequence.upper().replace("U", "T")
        for number, chunk in enumerate(plain_chunks(sequence, c), start=1):
            reverse = "".join(PAIRS.get(letter, letter) for letter in reversed(chunk))
            for strand, letters in (("F", chunk), ("R", reverse)):
                for offset in range(3):
                    codons = (letters[i : i + 3] for i in range(offset, len(letters) - 2, 3))
                    protein = "".join(CODONS.get(codon, "") for codon in codons)
                    if protein and "*" not in protein:
                        frame = f"{strand}{offset + 1}"
                        name = f"{record_id}_chunk_{number}{frame}"
                        end = offset + 3 * len(protein) + 1
                        frames.append(
                            Frame(ordinal, number, frame, name, letters[offset:end], protein)
                        )
    return frames


def indexed_frames(directory: Path) -> list[Frame]:
    columns = pq.read_table(directory / FRAMES_FILE).to_pydict()
    assert columns["ordinal"] == list(range(len(columns["ordinal"])))
    nucleotides = SequenceTable(directory / NUCLEOTIDES_FILE).take(columns["nucleotide_row"])
    proteins = SequenceTable(directory / PROTEINS_FILE).take(columns["protein_row"])
    rows = (columns[key] for key in ("record", "chunk", "frame", "name"))
    return [Frame(*row) for row in zip(*rows, nucleotides, proteins, strict=True)]


@pytest.fixture(scope="session")
def chunks_of() -> Callable[[str, int], list[str]]:
    """The plain reference: the chunks of one sequence."""
    return plain_chunks


@pytest.fixture(scope="session")
def frames_of() -> Callable[[Iterable[tuple[str, str]], int], list[Frame]]:
    """The plain reference: the open frames of (id, sequence) records."""
    return plain_frames


@pytest.fixture(scope="session")
def read_frames() -> Callable[[Path], list[Frame]]:
    """The frames of an index, with the sequences that their rows point to."""
    return indexed_frames


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write bytes or text to a file of the test's own folder."""

    def write_file(content: bytes | str, name: str = "input.fa") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real samples."""
    folder = Path(os.environ.get("VIRNUC_TEST_DATA", "")) / "samples"
    if not os.environ.get("VIRNUC_TEST_DATA") or not folder.is_dir():
        pytest.skip("VIRNUC_TEST_DATA names no folder with samples/")
    return folder
