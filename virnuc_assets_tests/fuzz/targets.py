"""What fuzzers call: functions of bytes that raise where the front end is wrong.

The first bytes of each input are settings and the rest is material, so that any bytes are an
input. Every target compares with a plain reference and puts the sizes that bound memory at a few
bytes or rows, so that short inputs pass through every part of the front end.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from virnuc_assets.errors import InputError
from virnuc_assets.sequences import chunks, index, index_block, repeated_ids, runs, scan, spool
from virnuc_assets.sequences.input_file import open_input
from virnuc_assets.sequences.manifest import NUCLEOTIDES_FILE, PROTEINS_FILE
from virnuc_assets.sequences.ragged import offsets_of
from virnuc_assets.sequences.records import Kind, Records
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets_tests.fuzz.plain import Record, Refused, plain_records, plain_text
from virnuc_assets_tests.sequences.conftest import Frame, indexed_frames, plain_chunks, plain_frames

HashIds = Callable[[pa.LargeStringArray], np.ndarray]

_ONE_BLOCK = 1 << 16
_NUCLEOTIDES = b"ACGTUNRYSWKMBDHV"
_LETTERS = b"*-.ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def parser(data: bytes) -> None:
    """A file of any bytes is read as the plain reader reads it, or refused in one sentence.

    Settings: block size; packing; the place of its damage; kind, threads and weak hashes.
    """
    if len(data) < 4:
        return
    size, packing, place, flags = data[:4]
    content = _packed(data[4:], packing, place)
    kind: Kind = "protein" if flags & 1 else "nucleotide"
    with TemporaryDirectory() as folder, _small(repeated_ids, _AT_A_TIME=3, _BLOCK_BYTES=size):
        path = Path(folder) / "input"
        path.write_bytes(content)
        read = partial(_read, path, kind, weak_hashes=bool(flags & 2))
        try:
            text = plain_text(content)
        except Refused as refused:
            _refusal(read, size, path, refused)
            return
        try:
            expected = plain_records(text, kind)
        except Refused as refused:
            in_one = _refusal(read, _ONE_BLOCK, path, refused)
            in_many = _refusal(read, size, path, refused)
            if not refused.start.startswith("line"):  # it shows what it had of the line
                assert in_many == in_one, f"{in_many!r}, but in one block {in_one!r}"
            return
        assert read(size, threads=1 + (flags >> 2 & 1)) == expected


def _packed(text: bytes, packing: int, place: int) -> bytes:
    """`text` as it is, or packed, whole or damaged."""
    way, harm = packing & 3, packing >> 2 & 3
    cut = place % (len(text) + 1)
    if way == 0:
        return text
    if way == 1:
        content = gzip.compress(text, mtime=0)
    elif way == 2:
        content = gzip.compress(text[:cut], mtime=0) + gzip.compress(text[cut:], mtime=0)
    else:
        content = pa.compress(text, "zstd", asbytes=True)
    at = place % len(content)
    if harm == 1:
        return content[:at]
    if harm == 2:
        return content[:at] + bytes([content[at] ^ (1 << (packing >> 4 & 7))]) + content[at + 1 :]
    if harm == 3:
        return content + bytes([packing])
    return content


def _read(
    path: Path, kind: Kind, block_bytes: int, *, weak_hashes: bool, threads: int = 1
) -> list[Record]:
    """The records of a file, by way of `scan`."""
    records: list[Record] = []
    with ExitStack() as stack:
        if weak_hashes:  # that many ids share
            for module in (scan, repeated_ids):
                stack.enter_context(patch.object(module, "hash_ids", _weak))
        source = stack.enter_context(open_input(path))
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        for found in scan.scan(
            source, kind, lambda r: r, scratch, threads=threads, block_bytes=block_bytes
        ):
            assert found.offsets[0] == 0
            assert found.offsets[-1] == found.letters.size
            text = found.letters.tobytes().decode("ascii")
            spans = zip(found.offsets, found.offsets[1:], strict=False)
            letters = [text[first:end] for first, end in spans]
            found.ids.validate(full=True)
            ids = found.ids.to_pylist()
            records += map(Record, ids, letters, found.rna.tolist())
        source.identity()
    return records


def _weak(ids: pa.LargeStringArray, hash_ids: HashIds = repeated_ids.hash_ids) -> np.ndarray:
    return hash_ids(ids) & np.uint64(3)


def _refusal(
    read: Callable[[int], list[Record]], block_bytes: int, path: Path, refused: Refused
) -> str:
    """The sentence a file is refused with, which is to say what `refused` does."""
    try:
        records = read(block_bytes)
    except InputError as error:
        text = str(error)
    else:
        raise AssertionError(f"read as {records}, but {refused}")
    assert text.startswith(f"{path}: {refused.start}"), f"{text!r}, but {refused}"
    assert refused.line is None or f"(line {refused.line})" in text, f"{text!r}, but {refused}"
    assert "; " in text and "\n" not in text and text.isprintable(), text
    return text


def translator(data: bytes) -> None:
    """Chunks and open frames are those of the plain reference.

    Settings: chunk length; block size; memory's bounds and whether the whole index is built.
    """
    if len(data) < 3:
        return
    chunk_length, size, flags = data[0] + chunks.MIN_CHUNK_LENGTH, data[1], data[2]
    lines = [_of_alphabet(line, _NUCLEOTIDES) for line in data[3:].split(b"\n") if line]
    records = [(f"r{number}", line) for number, line in enumerate(lines)]
    if not records:
        return
    expected = plain_frames(records, chunk_length)
    with (
        TemporaryDirectory() as temporary,
        _small(chunks, _WINDOW=8 + size),
        _small(index_block, _RUN_BYTES=256 + (flags << 4)),
        _batches_of(1 + (flags & 3)),
    ):
        folder = Path(temporary)
        _check_block(records, chunk_length, spool.Spool(folder, room=flags << 3), expected)
        if flags & 15 == 0:
            _check_index(records, chunk_length, size, folder, expected)


def _check_block(
    records: list[tuple[str, str]], chunk_length: int, kept: spool.Spool, expected: list[Frame]
) -> None:
    letters = [line.upper().replace("U", "T") for _, line in records]
    block = index_block.index_records(
        chunk_length,
        kept,
        Records(
            ids=pa.array([name for name, _ in records], pa.large_string()),
            letters=np.frombuffer("".join(letters).encode(), np.uint8),
            offsets=offsets_of(np.array(list(map(len, letters)))),
            rna=np.zeros(len(records), bool),
        ),
    )
    frames: list[Frame] = []
    for run in block.runs:
        table = run.frames.read(0, run.frames.rows).to_pydict()
        nucleotides = run.nucleotides.read(0, run.nucleotides.kept.rows).to_pylist()
        proteins = run.proteins.read(0, run.proteins.kept.rows).to_pylist()
        columns = [table[name] for name in ("record", "chunk", "frame", "name")]
        columns.append([nucleotides[row] for row in table["nucleotides"]])
        columns.append([proteins[row] for row in table["protein"]])
        frames += map(Frame, *columns)
    assert frames == expected
    found = block.records.to_pydict()
    places = [frame.record for frame in expected]
    assert found["length"] == list(map(len, letters))
    assert found["n_chunks"] == [len(plain_chunks(line, chunk_length)) for line in letters]
    assert found["n_frames"] == [places.count(number) for number in range(len(records))]


def _check_index(
    records: list[tuple[str, str]],
    chunk_length: int,
    size: int,
    folder: Path,
    expected: list[Frame],
) -> None:
    path = folder / "input.fa"
    path.write_text("".join(f">{name}\n{line}\n" for name, line in records))
    with (
        patch.object(index, "Spool", partial(spool.Spool, room=8 * size)),
        patch.object(index, "merge_runs", partial(runs.merge_runs, part_letters=8 + size)),
    ):
        manifest = index.build_index(
            path, folder / "index", chunk_length, tool_version="0", threads=1, block_bytes=size
        )
    assert indexed_frames(folder / "index") == expected
    for file, sequences, count, letters in (
        (
            NUCLEOTIDES_FILE,
            {frame.nucleotides for frame in expected},
            manifest.unique_nucleotides,
            manifest.nucleotide_residues,
        ),
        (
            PROTEINS_FILE,
            {frame.protein for frame in expected},
            manifest.unique_proteins,
            manifest.protein_residues,
        ),
    ):
        assert _rows(folder / "index" / file) == _in_order(sequences)
        assert (count, letters) == (len(sequences), sum(map(len, sequences)))


def unique(data: bytes) -> None:
    """Runs merge into the sorted set of all their sequences, and their rows lead back.

    Settings: letters of a part; rows of a batch and threads; room in memory.
    """
    if len(data) < 3:
        return
    given = [
        [_of_alphabet(sequence, _LETTERS) for sequence in part.split(b"\n")]
        for part in data[3:].split(b"|")
    ]
    with TemporaryDirectory() as temporary, _batches_of(1 + (data[1] & 7)):
        folder = Path(temporary)
        kept = spool.Spool(folder, room=data[2])
        written = []
        for sequences in given:
            run, rows = runs.write_run(kept, pa.array(["-", *sequences], pa.large_string())[1:])
            distinct = run.read(0, run.kept.rows).to_pylist()
            assert distinct == _in_order(set(sequences))
            assert [distinct[row] for row in rows] == sequences
            written.append(run)
        table = folder / "table.arrow"
        threads = 1 + (data[1] >> 7)
        merged = runs.merge_runs(written, table, folder, threads, part_letters=1 + data[0])
        found = _rows(table)
        assert found == _in_order({sequence for sequences in given for sequence in sequences})
        assert (merged.sequences, merged.letters) == (len(found), sum(map(len, found)))
        for number, run in enumerate(written):
            sequences = run.read(0, run.kept.rows).to_pylist()
            assert [found[row] for row in merged.rows(number)] == sequences


def _of_alphabet(material: bytes, letters: bytes) -> str:
    """`material` with what is not one of `letters`, in either case, made into one of them."""
    known = letters + letters.lower() if letters is _NUCLEOTIDES else letters
    return bytes(
        byte if byte in known else letters[byte % len(letters)] for byte in material
    ).decode()


def _in_order(sequences: set[str]) -> list[str]:
    return sorted(sequences, key=lambda sequence: (-len(sequence), sequence))


def _rows(path: Path) -> list[str]:
    table = SequenceTable(path)
    return table.take(np.arange(len(table)))


@contextmanager
def _small(module: ModuleType, **sizes: int) -> Iterator[None]:
    with ExitStack() as stack:
        for name, size in sizes.items():
            stack.enter_context(patch.object(module, name, size))
        yield


@contextmanager
def _batches_of(rows: int) -> Iterator[None]:
    with _small(spool, BATCH_ROWS=rows):
        yield


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (parser, translator, unique)
}
