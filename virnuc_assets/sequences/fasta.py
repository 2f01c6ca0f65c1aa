"""Reading FASTA, and refusing what is not: every fault names the file, the record and the remedy.

Whole buffers are parsed at once with numpy, a batch of records at a time. pyfastx is not used
here because it passes over faults in silence: it ends a truncated gzip early, gives nothing for
a damaged one, and yields empty ids, empty records and FASTQ as if they were FASTA.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.input_file import open_text
from virnuc_assets.sequences.ragged import offsets_of, run_positions, string_array

Kind = Literal["nucleotide", "protein"]

_BATCH_BYTES = 1 << 23
_BLANKS = b" \t\r\n\v\f"
_NEWLINE, _SPACE, _HEADER, _LAST_PRINTABLE = b"\n >~"
_LOWER = 0x20
_PROTEIN_ONLY = "EFILPQ"
_INVALID = 1


def _letter_table(letters: bytes, read_as: bytes) -> bytes:
    """Table for `bytes.translate`: letters in either case, 0 for a blank, else `_INVALID`."""
    table = bytearray([_INVALID]) * 256
    for blank in _BLANKS:
        table[blank] = 0
    for letter, value in zip(letters + letters.lower(), read_as * 2, strict=True):
        table[letter] = value
    return bytes(table)


_LETTERS = {
    "nucleotide": _letter_table(b"ACGTUNRYSWKMBDHV", read_as=b"ACGTTNRYSWKMBDHV"),
    "protein": _letter_table(*[b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-."] * 2),
}


@dataclass(frozen=True)
class RecordBatch:
    """Consecutive records of a file.

    Attributes:
        first: ordinal in the file of the batch's first record, from 0.
        ids: headers up to the first white space, n strings.
        letters: upper-case ASCII of all records end to end, uint8; in nucleotides U became T.
        offsets: where each record starts in `letters`, int64, shape (n + 1,).
        rna: which records held a U (never set for proteins), bool, shape (n,).
    """

    first: int
    ids: pa.LargeStringArray
    letters: np.ndarray
    offsets: np.ndarray
    rna: np.ndarray


def read_fasta(path: Path, kind: Kind, batch_bytes: int = _BATCH_BYTES) -> Iterator[RecordBatch]:
    """Read a FASTA file, plain or gzip (told by its first bytes), in batches of whole records.

    Lines may be wrapped or not and end in LF or CRLF; letters may be lower case; blank lines and
    blanks within sequences are passed over. A batch holds about `batch_bytes` bytes of text, or
    one record where that is longer. Ids are checked for duplicates once the file has been read.

    Raises:
        InputError: the file is missing, unreadable, empty, damaged or not FASTA, or a record has
            no id, an id that is not printable ASCII or not its own, no sequence, or a letter
            that is not an IUPAC code of `kind` (gaps are refused in nucleotides).
    """
    ids: list[pa.LargeStringArray] = []
    first, line = 0, 1
    with open_text(path) as handle:
        for block in _record_blocks(handle, batch_bytes):
            body = block if first else block.lstrip(_BLANKS)
            line += block[: len(block) - len(body)].count(b"\n")
            if not body:
                continue
            _check_start(path, body, line)
            batch = _parse(path, kind, body, first, line)
            yield batch
            ids.append(batch.ids)
            first += len(batch.ids)
            line += body.count(b"\n")
    if not first:
        raise InputError(f"{path}: the file holds no records; give a FASTA file with records")
    _check_unique(path, pa.chunked_array(ids))


def rna_warnings(rna_records: int, records: int) -> tuple[str, ...]:
    """What a person should be told about records that held a U; nothing when none did."""
    if not rna_records:
        return ()
    return (f"{rna_records} of {records} records hold U (RNA), which was read as T",)


def _record_blocks(handle: BinaryIO, size: int) -> Iterator[bytes]:
    """Cut a stream into blocks of whole records; every block but the first starts with `>`."""
    block = io.BytesIO()
    ended_line = False
    while data := handle.read(size):
        cut = data.rfind(b"\n>") + 1
        if cut or (ended_line and data.startswith(b">")):
            block.write(data[:cut])
            yield block.getvalue()
            block = io.BytesIO()
        block.write(data[cut:])
        ended_line = data.endswith(b"\n")
    yield block.getvalue()


def _check_start(path: Path, text: bytes, line: int) -> None:
    if text.startswith(b"@"):
        raise InputError(
            f"{path}: line {line} starts with '@', so this looks like FASTQ; convert it to FASTA "
            "first (seqkit fq2fa)"
        )
    if not text.startswith(b">"):
        start = ascii(text[:20].decode("latin-1"))
        raise InputError(
            f"{path}: line {line} starts with {start} and not with '>', so this is not FASTA; "
            "remove what precedes the first header or give a FASTA file"
        )


def _parse(path: Path, kind: Kind, block: bytes, first: int, line: int) -> RecordBatch:
    """Parse whole records; `block` starts with `>` and its first line has number `line`."""
    text = np.frombuffer(block, np.uint8)
    blanks = np.append(np.flatnonzero(text <= _SPACE), text.size)
    newlines = np.append(np.flatnonzero(text == _NEWLINE), text.size)
    heads = np.flatnonzero(text == _HEADER)
    heads = heads[(heads == 0) | (text[heads - 1] == _NEWLINE)]

    def fail(record: int, position: int, fault: str, remedy: str) -> NoReturn:
        at = line + block.count(b"\n", 0, position)
        name = ids[record].as_py().decode("latin-1")
        named = ascii(name) if name else first + record + 1
        raise InputError(f"{path}: record {named} {fault} (line {at}); {remedy}")

    id_lengths = blanks[np.searchsorted(blanks, heads + 1)] - heads - 1
    id_letters = text[run_positions(heads + 1, id_lengths)]
    ids = string_array(id_letters, id_lengths).cast(pa.large_binary())
    if (odd := np.flatnonzero(id_lengths == 0)).size:
        fail(odd[0], heads[odd[0]], "has no id", "name it directly after the '>'")
    if (odd := np.flatnonzero(id_letters > _LAST_PRINTABLE)).size:
        record = np.searchsorted(offsets_of(id_lengths), odd[0], side="right") - 1
        fault = "has an id that is not plain ASCII"
        fail(record, heads[record], fault, "rename it with letters, digits and punctuation")

    # Headers and bodies alternate; what counts is the letters of the bodies.
    bodies = newlines[np.searchsorted(newlines, heads)]
    ends = np.append(heads[1:], text.size)
    in_body = np.repeat(
        np.tile([False, True], heads.size), np.stack([bodies - heads, ends - bodies], 1).ravel()
    )
    letters = np.frombuffer(block.translate(_LETTERS[kind]), np.uint8)
    present = in_body & (letters != 0)
    letters = letters[present]
    if letters.size and letters.min() == _INVALID:
        position = np.flatnonzero(present)[letters.argmin()]
        record = np.searchsorted(heads, position, side="right") - 1
        fail(record, position, *_letter_fault(chr(block[position]), kind))
    lengths = ends - bodies - (np.searchsorted(blanks, ends) - np.searchsorted(blanks, bodies))
    if (odd := np.flatnonzero(lengths == 0)).size:
        fail(odd[0], heads[odd[0]], "has no sequence", "remove it or give its sequence")

    rna = np.zeros(heads.size, bool)
    if kind == "nucleotide":
        uracils = np.flatnonzero(in_body & ((text | _LOWER) == ord("u")))
        rna[np.searchsorted(heads, uracils, side="right") - 1] = True
    return RecordBatch(first, ids.cast(pa.large_string()), letters, offsets_of(lengths), rna)


def _letter_fault(letter: str, kind: Kind) -> tuple[str, str]:
    """What to say of a letter that `kind` does not have: the fault and the remedy."""
    if not letter.isascii():
        return f"holds the non-ASCII byte {ord(letter):#04x}", "save the file as plain ASCII text"
    if kind == "protein":
        return f"holds {letter!r}, which is not a residue", "remove it from the sequence"
    fault = f"holds {letter!r}, which is not a nucleotide"
    if letter.upper() in _PROTEIN_ONLY:
        return f"{fault}, and looks like a protein", "give the DNA instead"
    if letter in "-.":
        return f"{fault} but an alignment gap", "remove the gaps (seqkit seq -g)"
    return fault, "correct it or replace it with N"


def _check_unique(path: Path, ids: pa.ChunkedArray) -> None:
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    repeated = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    raise InputError(
        f"{path}: the id {repeated[0].as_py()!r} belongs to more than one record; give every "
        "record an id of its own (seqkit rename)"
    )
