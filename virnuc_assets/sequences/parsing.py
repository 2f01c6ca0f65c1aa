"""Blocks of FASTA or FASTQ text into ids and letters, by compiled loops over their lines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from virnuc_assets.sequences.blocks import Block
from virnuc_assets.sequences.compiled import compiled

BLANK, REFUSED = 0, 1
"""What a table of letters holds for a byte that is passed over, and for one that is refused."""

_TAB, _NEWLINE, _RETURN, _SPACE, _HEADER, _AT, _PLUS, _LAST_PRINTABLE = b"\t\n\r >@+~"
_A, _C, _G, _N, _T, _LOWER_U = b"ACGNTu"
_LOWER = 0x20
_FASTQ_LINES = 4


class Fault(IntEnum):
    """Why a block could not be parsed."""

    NONE = 0
    NO_ID = 1
    ODD_ID = 2
    NO_SEQUENCE = 3
    ODD_LETTER = 4
    NO_AT = 5
    NO_PLUS = 6
    CUT_SHORT = 7
    ODD_QUALITY = 8
    BARE_RETURN = 9


@dataclass(frozen=True)
class Parsed:
    """The records of a block up to its end, or up to and with the first that has a fault.

    `ids` and `letters` (uint8) hold those of all records end to end; record i's end at
    `id_ends[i]` and `ends[i]` (int64, (n,)). `rna` (bool, (n,)): it holds a U. `line` counts
    from 0 within the block, and `byte` is the one at fault.
    """

    ids: np.ndarray
    id_ends: np.ndarray
    letters: np.ndarray
    ends: np.ndarray
    rna: np.ndarray
    fault: Fault
    line: int
    byte: int


def parse_block(block: Block, table: np.ndarray) -> Parsed:
    """Parse a block; `table` (uint8, (256,)) says what each byte of a sequence is read as."""
    text = np.frombuffer(block.text, np.uint8)
    line_ends = np.flatnonzero(text == _NEWLINE)
    if text[-1] != _NEWLINE:
        line_ends = np.append(line_ends, text.size)
    loop, start = (_fasta, _HEADER) if block.format == "fasta" else (_fastq, _AT)
    most = np.count_nonzero(text == start)
    ids, letters = np.empty_like(text), np.empty_like(text)
    id_ends, ends, rna = np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros(most, bool)
    n, fault, line, byte = loop(text, line_ends, table, ids, letters, id_ends, ends, rna)
    used, written = (int(id_ends[n - 1]), int(ends[n - 1])) if n else (0, 0)
    return Parsed(
        ids[:used], id_ends[:n], letters[:written], ends[:n], rna[:n], Fault(fault), line, byte
    )


@compiled
def _fasta(
    text: np.ndarray,
    line_ends: np.ndarray,
    table: np.ndarray,
    ids: np.ndarray,
    letters: np.ndarray,
    id_ends: np.ndarray,
    ends: np.ndarray,
    rna: np.ndarray,
) -> tuple[int, int, int, int]:
    """Fill the last five; how many records were met, the fault, its line and its byte."""
    n = named = written = start = header = begin = 0
    for line in range(line_ends.size):
        row = text[begin : line_ends[line]]
        begin = line_ends[line] + 1
        if row.size and row[0] == _HEADER:
            if n and written == start:
                return n, Fault.NO_SEQUENCE.value, header, 0
            start, header = written, line
            named, fault = _take_id(row[1:], ids, named)
            id_ends[n], ends[n] = named, written
            n += 1
            if fault:
                return n, fault, line, 0
        else:
            written, uracil, odd = _take_letters(row, table, letters, written)
            ends[n - 1] = written
            rna[n - 1] |= uracil
            if odd >= 0:
                return n, Fault.ODD_LETTER.value, line, odd
    if written == start:
        return n, Fault.NO_SEQUENCE.value, header, 0
    return n, Fault.NONE.value, 0, 0


@compiled
def _fastq(
    text: np.ndarray,
    line_ends: np.ndarray,
    table: np.ndarray,
    ids: np.ndarray,
    letters: np.ndarray,
    id_ends: np.ndarray,
    ends: np.ndarray,
    rna: np.ndarray,
) -> tuple[int, int, int, int]:
    """Fill the last five; how many records were met, the fault, its line and its byte."""
    n = named = written = begin = 0
    for line in range(0, line_ends.size, _FASTQ_LINES):
        if text[begin] != _AT:
            if _all_blank(text[begin:]):
                break
            return n, Fault.NO_AT.value, line, 0
        start = written
        named, fault = _take_id(text[begin + 1 : line_ends[line]], ids, named)
        id_ends[n], ends[n] = named, written
        n += 1
        if fault:
            return n, fault, line, 0
        if line + _FASTQ_LINES > line_ends.size:
            return n, Fault.CUT_SHORT.value, line, 0
        sequence = text[line_ends[line] + 1 : line_ends[line + 1]]
        plus = text[line_ends[line + 1] + 1 : line_ends[line + 2]]
        quality = text[line_ends[line + 2] + 1 : line_ends[line + 3]]
        begin = line_ends[line + 3] + 1
        written, uracil, odd = _take_letters(sequence, table, letters, written)
        ends[n - 1] = written
        rna[n - 1] = uracil
        if odd >= 0:
            return n, Fault.ODD_LETTER.value, line + 1, odd
        if plus.size == 0 or plus[0] != _PLUS:
            return n, Fault.NO_PLUS.value, line + 2, 0
        if written == start:
            return n, Fault.NO_SEQUENCE.value, line, 0
        if _count_printed(quality) != written - start:
            return n, Fault.ODD_QUALITY.value, line + 3, 0
    return n, Fault.NONE.value, 0, 0


@compiled
def _take_id(row: np.ndarray, ids: np.ndarray, named: int) -> tuple[int, int]:
    """Copy a header's id to `ids[named:]`; where it ends there, and what is wrong with the header.

    A carriage return within it is the end of a line elsewhere: what follows would be lost.
    """
    start = named
    printable = True
    for byte in row:
        if _is_blank(byte):
            break
        printable &= _SPACE < byte <= _LAST_PRINTABLE
        ids[named] = byte
        named += 1
    for byte in row[named - start : -1]:
        if byte == _RETURN:
            return named, Fault.BARE_RETURN.value
    if named == start:
        return named, Fault.NO_ID.value
    return named, Fault.NONE.value if printable else Fault.ODD_ID.value


@compiled
def _is_blank(byte: int) -> bool:
    return byte == _SPACE or _TAB <= byte <= _RETURN


@compiled
def _take_letters(
    row: np.ndarray, table: np.ndarray, letters: np.ndarray, written: int
) -> tuple[int, bool, int]:
    """Copy a line's letters to `letters[written:]`.

    Returns where they end there, whether a U was met, and the first byte that is refused or -1.
    """
    plain = True
    for byte in row:
        plain &= (byte == _A) | (byte == _C) | (byte == _G) | (byte == _T) | (byte == _N)
    if plain:
        # Nearly every line; these two loops run many letters at a time.
        letters[written : written + row.size] = row
        return written + row.size, False, -1
    uracil = False
    for byte in row:
        letter = table[byte]
        if letter == REFUSED:
            return written, uracil, byte
        letters[written] = letter
        written += letter != BLANK
        uracil |= byte | _LOWER == _LOWER_U
    return written, uracil, -1


@compiled
def _all_blank(row: np.ndarray) -> bool:
    for byte in row:  # noqa: SIM110 (generators are not compiled)
        if not _is_blank(byte):
            return False
    return True


@compiled
def _count_printed(row: np.ndarray) -> int:
    count = 0
    for byte in row:
        count += byte > _SPACE
    return count
