"""A stream of text cut into blocks of whole records, FASTA or FASTQ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.compiled import compiled
from virnuc_assets.sequences.input_file import OpenInput

Format = Literal["fasta", "fastq"]

_BLANKS = b" \t\r\n\v\f"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FASTQ_LINES = 4
_SHOWN = 20
_NEWLINE = ord("\n")


@dataclass(frozen=True)
class Block:
    """Consecutive records of a file, the first of which starts at line `line` (from 1).

    `text` belongs to whoever takes the block, and may be overwritten.
    """

    format: Format
    text: memoryview
    line: int


def read_blocks(source: OpenInput, size: int) -> Iterator[Block]:
    """Cut the text of `source` into blocks of about `size` bytes, or one record if it is longer.

    Where it is cut depends on the text and on `size` alone. Blanks at its start are skipped;
    nothing is yielded when there is nothing else.

    Raises:
        InputError: the text starts with neither `>` nor `@`.
    """
    data, filled, line = bytearray(max(size, _SHOWN)), 0, 1
    while not filled:
        read = _fill(source, data, 0)
        if not read:
            return
        blank = read - len(data[:read].lstrip(_BLANKS))
        line += _count_lines(data, blank)
        data, filled = _carry(data[blank:read], size)
    form = _format(source.path, bytes(data[: min(filled, _SHOWN)]), line)
    searched = 0
    while filled := _fill(source, data, filled):
        at_end = filled < len(data)
        cut = filled if at_end else _LAST_START[form](data, searched)
        if not cut:
            searched = filled - 1
            data.extend(bytes(filled))
            continue
        block = Block(form, memoryview(data)[:cut], line)
        line += _count_lines(data, cut)
        rest = data[cut:filled]
        yield block
        data, filled = _carry(rest, size)
        searched = 0


def _count_lines(data: bytearray, end: int) -> int:
    return _count(np.frombuffer(data, np.uint8, end), _NEWLINE)


@compiled
def _count(text: np.ndarray, byte: int) -> int:
    # Many bytes at a time, which `bytearray.count` does not do for short lines.
    count = 0
    for other in text:
        count += other == byte
    return count


def _fill(source: OpenInput, data: bytearray, filled: int) -> int:
    """Read on until `data` is full or the text ends; how much of it is filled then."""
    view = memoryview(data)
    while filled < len(data) and (count := source.readinto(view[filled:])):
        filled += count
    return filled


def _carry(rest: bytearray, size: int) -> tuple[bytearray, int]:
    """A buffer that starts with `rest`, and how much of it that fills."""
    data = bytearray(max(size, len(rest) + 1))
    data[: len(rest)] = rest
    return data, len(rest)


def _last_fasta(data: bytearray, searched: int) -> int:
    return data.rfind(b"\n>", searched) + 1


def _last_fastq(data: bytearray, searched: int) -> int:
    del searched  # lines are counted from the block's start
    end = len(data)
    for _ in range(_count_lines(data, end) % _FASTQ_LINES + 1):
        end = data.rfind(b"\n", 0, end)
    # Blank lines stay with what follows: nothing, or a fault wherever the file is cut.
    while end >= 0:
        begin = end
        for _ in range(_FASTQ_LINES):
            begin = data.rfind(b"\n", 0, begin)
        if data[begin + 1 : end].strip(_BLANKS):
            break
        end = begin
    return end + 1


_LAST_START: dict[Format, Callable[[bytearray, int], int]] = {
    "fasta": _last_fasta,
    "fastq": _last_fastq,
}
"""Where the last record starts in a full buffer; 0 when it holds no more than a part of one."""


def _format(path: Path, start: bytes, line: int) -> Format:
    if start.startswith(b">"):
        return "fasta"
    if start.startswith(b"@"):
        return "fastq"
    if start.startswith(_BYTE_ORDER_MARK):
        raise InputError(
            f"{path}: line {line} starts with a byte-order mark; save the file as plain ASCII text"
        )
    shown = ascii(start.decode("latin-1"))
    raise InputError(
        f"{path}: line {line} starts with {shown} and not with '>' or '@', so this is neither "
        "FASTA nor FASTQ; remove what precedes the first header or give a sequence file"
    )
