"""Sequence files read the plain way: whole, line by line, with Python's own bytes and strings."""

from __future__ import annotations

import gzip
import zlib
from typing import NamedTuple

import pyarrow as pa

_BLANKS = b" \t\r\n\v\f"
_WITH_EXTRA = [bytes([flags]) for flags in range(256) if flags & 4]
_SKIPPABLE = [bytes([byte]) for byte in range(0x50, 0x60)]
_LAST_BGZIP_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003") + bytes(9)
_LETTERS = {
    "nucleotide": "ACGTUNRYSWKMBDHV",
    "protein": "ABCDEFGHIJKLMNOPQRSTUVWXYZ-.",
}


class Record(NamedTuple):
    id: str
    letters: str
    rna: bool


class Refused(Exception):
    """Input that is not to be read; how the sentence starts that says so, and the line it names."""

    def __init__(self, start: str, line: int | None = None) -> None:
        super().__init__(start, line)
        self.start, self.line = start, line


def plain_text(content: bytes) -> bytes:
    """What a file of `content` holds, unpacked."""
    if not content:
        raise Refused("the file is empty")
    try:
        if content.startswith(b"\x1f\x8b"):
            blocked = content[3:4] in _WITH_EXTRA and content[12:14] == b"BC"
            if blocked and not content.endswith(_LAST_BGZIP_BLOCK):
                raise Refused("the gzip file is truncated")
            return gzip.decompress(content)
        skippable = content[:1] in _SKIPPABLE and content[1:4] == b"\x2a\x4d\x18"
        if content.startswith(b"\x28\xb5\x2f\xfd") or skippable:
            return pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    except (EOFError, OSError, zlib.error) as error:
        raise Refused("") from error  # or whatever its readable start is refused for
    return content


def plain_records(text: bytes, kind: str) -> list[Record]:
    """The records of FASTA or FASTQ `text`."""
    rest = text.lstrip(_BLANKS)
    first_line = text[: len(text) - len(rest)].count(b"\n") + 1
    if not rest:
        raise Refused("the file holds no records")
    if rest[:1] not in (b">", b"@"):
        raise Refused(f"line {first_line} starts with ")
    lines = rest.split(b"\n")
    if not lines[-1]:
        lines.pop()
    read = _fasta if rest.startswith(b">") else _fastq
    records = read(lines, first_line, kind)
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise Refused(f"the id {record.id!r} belongs to more than one record")
        seen.add(record.id)
    return records


def _fasta(lines: list[bytes], first_line: int, kind: str) -> list[Record]:
    records = []
    name = letters = ""
    header = first_line
    for number, line in enumerate(lines, start=first_line):
        if line.startswith(b">"):
            if number > first_line:
                records.append(_record(name, letters, header, kind))
            name, letters, header = _id(line, number), "", number
        else:
            letters += _letters(line, name, number, kind)
    return [*records, _record(name, letters, header, kind)]


def _fastq(lines: list[bytes], first_line: int, kind: str) -> list[Record]:
    records: list[Record] = []
    for place in range(0, len(lines), 4):
        number = first_line + place
        if not b"".join(lines[place:]).strip(_BLANKS):
            break
        if not lines[place].startswith(b"@"):
            raise Refused("", number)  # whichever record it is said of
        name = _id(lines[place], number)
        if place + 4 > len(lines):
            raise Refused(f"record {name!a} has fewer than four lines", number)
        _, sequence, plus, quality = lines[place : place + 4]
        letters = _letters(sequence, name, number + 1, kind)
        if not plus.startswith(b"+"):
            raise Refused(f"record {name!a} has no '+'", number + 2)
        records.append(_record(name, letters, number, kind))
        if sum(byte > ord(" ") for byte in quality) != len(letters):
            raise Refused(f"record {name!a} has more or fewer qualities", number + 3)
    return records


def _id(header: bytes, number: int) -> str:
    words = header[1:].split()  # at ASCII white space
    word = b"" if not words or header[1:2] in _BLANKS else words[0]
    name = word.decode("latin-1")
    if b"\r" in header[1 + len(word) : -1]:
        record = f"record {name!a}" if name else "a record"
        raise Refused(f"{record} has a carriage return within its header line", number)
    if not name:
        raise Refused("a record has no id", number)
    if not (name.isascii() and name.isprintable()):
        raise Refused(f"record {name!a} has an id", number)
    return name


def _letters(line: bytes, name: str, number: int, kind: str) -> str:
    letters = line.translate(None, delete=_BLANKS).decode("latin-1")
    for letter in letters:
        if not letter.isascii() or letter.upper() not in _LETTERS[kind]:
            raise Refused(f"record {name!a} holds ", number)
    return letters.upper()


def _record(name: str, letters: str, header: int, kind: str) -> Record:
    if not letters:
        raise Refused(f"record {name!a} has no sequence", header)
    if kind == "protein":
        return Record(name, letters, False)
    return Record(name, letters.replace("U", "T"), "U" in letters)
