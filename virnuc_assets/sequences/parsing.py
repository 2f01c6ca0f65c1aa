"""Blocks of FASTA or FASTQ text into ids and letters, in one compiled pass.

Nearly every line is as long as the one before it and holds a few letters alone: it is copied by
instructions that take many bytes at a time. Only near what is not such a letter are bytes looked
up, one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from virnuc_assets.sequences.blocks import Block
from virnuc_assets.sequences.compiled import compiled

BLANK, REFUSED = 0, 1
"""What a table of letters holds for a byte that is passed over, and for one that is refused."""

LONGEST_ID = 1000
"""Letters of an id, at most: every frame's name repeats it."""

_TAB, _NEWLINE, _RETURN, _SPACE, _HEADER, _AT, _PLUS, _LAST_PRINTABLE = b"\t\n\r >@+~"
_A, _C, _G, _N, _T, _Z = map(np.uint8, b"ACGNTZ")
_LOWER_U = ord("u")
_LOWER = 0x20
_UPPER = np.uint8(0xFF ^ _LOWER)
_FASTQ_LINES = 4
_STEP = 32
_SHORTEST_RECORD = len(b">a\nA\n")


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
    LONG_ID = 10


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
    """Parse a block; `table` (uint8, (256,)) says what each byte of a sequence is read as.

    It reads A, C, G, T and N, or all letters, as themselves.
    """
    text = np.frombuffer(block.text, np.uint8)
    few = bool((table[_A : _Z + 1] != np.arange(_A, _Z + 1)).any())
    loop = _fasta if block.format == "fasta" else _fastq
    most = text.size // _SHORTEST_RECORD + 2  # the last may lack its end, and be at fault
    ids, letters = np.empty_like(text), np.empty_like(text)
    id_ends, ends, rna = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, bool)
    n, fault, line, byte = loop(text, table, few, ids, letters, id_ends, ends, rna)
    used, written = (int(id_ends[n - 1]), int(ends[n - 1])) if n else (0, 0)
    return Parsed(
        ids[:used].copy(),
        id_ends[:n].copy(),
        letters[:written],
        ends[:n].copy(),
        rna[:n].copy(),
        Fault(fault),
        line,
        byte,
    )


@compiled
def _fasta(
    text: np.ndarray,
    table: np.ndarray,
    few: bool,
    ids: np.ndarray,
    letters: np.ndarray,
    id_ends: np.ndarray,
    ends: np.ndarray,
    rna: np.ndarray,
) -> tuple[int, int, int, int]:
    """Fill the last five; how many records were met, the fault, its line and its byte."""
    n = named = written = start = header = line = place = length = 0
    while place < text.size:
        if text[place] == _HEADER:
            if n and written == start:
                return n, Fault.NO_SEQUENCE.value, header, 0
            start, header = written, line
            place, named, fault = _take_id(text, place + 1, ids, named)
            id_ends[n], ends[n], rna[n] = named, written, False
            n += 1
            if fault:
                return n, fault, line, 0
        else:
            begin = place
            place, written, uracil, odd = _take_letters(
                text, place, table, few, letters, written, length
            )
            length = place - begin - 1
            ends[n - 1] = written
            rna[n - 1] |= uracil
            if odd >= 0:
                return n, Fault.ODD_LETTER.value, line, odd
        line += 1
    if written == start:
        return n, Fault.NO_SEQUENCE.value, header, 0
    return n, Fault.NONE.value, 0, 0


@compiled
def _fastq(
    text: np.ndarray,
    table: np.ndarray,
    few: bool,
    ids: np.ndarray,
    letters: np.ndarray,
    id_ends: np.ndarray,
    ends: np.ndarray,
    rna: np.ndarray,
) -> tuple[int, int, int, int]:
    """Fill the last five; how many records were met, the fault, its line and its byte."""
    n = named = written = line = place = 0
    while place < text.size:
        if text[place] != _AT:
            if _all_blank(text[place:]):
                break
            return n, Fault.NO_AT.value, line, 0
        start = written
        sequence, named, fault = _take_id(text, place + 1, ids, named)
        id_ends[n], ends[n], rna[n] = named, written, False
        n += 1
        if fault:
            return n, fault, line, 0
        plus = _next_line(text, sequence)
        quality = _next_line(text, plus)
        if quality >= text.size:
            return n, Fault.CUT_SHORT.value, line, 0
        _, written, rna[n - 1], odd = _take_letters(
            text, sequence, table, few, letters, written, plus - sequence - 1
        )
        ends[n - 1] = written
        if odd >= 0:
            return n, Fault.ODD_LETTER.value, line + 1, odd
        if text[plus] != _PLUS:
            return n, Fault.NO_PLUS.value, line + 2, 0
        if written == start:
            return n, Fault.NO_SEQUENCE.value, line, 0
        place = _next_line(text, quality)
        if _count_printed(text[quality:place]) != written - start:
            return n, Fault.ODD_QUALITY.value, line + 3, 0
        line += _FASTQ_LINES
    return n, Fault.NONE.value, 0, 0


@compiled
def _take_id(text: np.ndarray, place: int, ids: np.ndarray, named: int) -> tuple[int, int, int]:
    """Copy the id at `place` to `ids[named:]`.

    Returns where the next line starts, where the id ends in `ids`, and what is wrong with the
    header. A carriage return within it is the end of a line elsewhere: what follows would be lost.
    """
    start = named
    printable = True
    while place < text.size and not _is_blank(text[place]):
        printable &= _SPACE < text[place] <= _LAST_PRINTABLE
        ids[named] = text[place]
        named += 1
        place += 1
    returned = bare = False
    while place < text.size and text[place] != _NEWLINE:
        bare |= returned
        returned |= text[place] == _RETURN
        place += 1
    if bare:
        return place + 1, named, Fault.BARE_RETURN.value
    if named == start:
        return place + 1, named, Fault.NO_ID.value
    if named - start > LONGEST_ID:
        return place + 1, named, Fault.LONG_ID.value
    return place + 1, named, Fault.NONE.value if printable else Fault.ODD_ID.value


@compiled
def _is_blank(byte: int) -> bool:
    return byte == _SPACE or _TAB <= byte <= _RETURN


@compiled
def _take_letters(
    text: np.ndarray,
    place: int,
    table: np.ndarray,
    few: bool,
    letters: np.ndarray,
    written: int,
    expected: int,
) -> tuple[int, int, bool, int]:
    """Copy the letters of the line at `place` to `letters[written:]`.

    Returns where the next line starts, where the letters end in `letters`, whether a U was looked
    up, and the first byte that is refused or -1. It is quickest when the line's length is the
    `expected`.
    """
    end = place + expected
    if (
        end < text.size
        and text[end] == _NEWLINE
        and _copy_plain(text, place, expected, few, letters, written)
    ):
        return end + 1, written + expected, False, -1
    uracil = False
    while place < text.size:
        count = min(_STEP, text.size - place)
        if _copy_plain(text, place, count, few, letters, written):
            written += count
            place += count
            continue
        for _ in range(count):
            byte = text[place]
            place += 1
            if byte == _NEWLINE:
                return place, written, uracil, -1
            letter = table[byte]
            if letter == REFUSED:
                return place, written, uracil, byte
            letters[written] = letter
            written += letter != BLANK
            uracil |= byte | _LOWER == _LOWER_U
    return place, written, uracil, -1


@compiled
def _copy_plain(
    text: np.ndarray, place: int, count: int, few: bool, letters: np.ndarray, written: int
) -> bool:
    """Copy bytes as capitals; whether they are letters alone, of which A, C, G, T and N if `few`.

    This loop runs many letters at a time.
    """
    # Indices without a sign need no look whether they count from the end.
    first, to = np.uintp(place), np.uintp(written)
    others = False  # a number would take 64 bits, and fewer letters fit into an instruction
    for i in range(np.uintp(count)):
        letter = text[first + i] & _UPPER
        other = (letter != _A) & (letter != _C) & (letter != _G) & (letter != _T) & (letter != _N)
        others |= other & (few | (letter < _A) | (letter > _Z))
        letters[to + i] = letter
    return not others


@compiled
def _next_line(text: np.ndarray, place: int) -> int:
    """Where the line after the one at `place` starts."""
    while place + _STEP <= text.size:
        found = False
        for i in range(_STEP):
            found |= text[place + i] == _NEWLINE
        if found:
            break
        place += _STEP
    while place < text.size and text[place] != _NEWLINE:
        place += 1
    return place + 1


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
