"""Six-frame translation of chunks, keeping the frames without a stop.

A codon is a property of its place in the record, not of the chunk around it or of a strand. So
every place's codon is looked up once. The codons of a chunk that start at places of one phase are
those of one forward frame and, read backwards, of one reverse frame: three passes over stops tell
all six frames, and no reverse complement is built but that of an open frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa

from virnuc_assets.sequences.compiled import compiled
from virnuc_assets.sequences.ragged import string_array

FRAME_NAMES = ("F1", "F2", "F3", "R1", "R2", "R3")

# Standard genetic code (NCBI table 1), codons in its order: TTT, TTC, TTA, TTG, TCT … GGG.
_NCBI_ORDER = "TCAG"
_NCBI_CODE = b"FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"

# Bits 1 and 2 of an ASCII base number it without a table; a complement's number is that ^ 2.
_BASES = "ACTG"
_OTHER = 64  # the codon of anything but three bases; shifted out of a byte by << 2 and << 4
_A, _C, _G, _T = b"ACGT"


def _number(codon: str) -> int:
    one, two, three = map(_BASES.index, codon)
    return one << 4 | two << 2 | three


_CODONS = [one + two + three for one in _BASES for two in _BASES for three in _BASES]
_NCBI = ["".join(codon) for codon in product(_NCBI_ORDER, repeat=3)]
_FORWARD = np.zeros(128, np.uint8)  # with room for codons of anything else
_FORWARD[: len(_CODONS)] = [_NCBI_CODE[_NCBI.index(codon)] for codon in _CODONS]
_PAIRS = str.maketrans("ACGT", "TGCA")
_REVERSE = np.zeros_like(_FORWARD)
_REVERSE[: len(_CODONS)] = [_FORWARD[_number(codon[::-1].translate(_PAIRS))] for codon in _CODONS]
# What a base and its complement differ by.
_A_OR_T, _C_OR_G, _NOTHING = np.uint8(_A ^ _T), np.uint8(_C ^ _G), np.uint8(0)

_TAA, _TAG, _TGA = map(_number, ("TAA", "TAG", "TGA"))
_TTA, _CTA, _TCA = map(_number, ("TTA", "CTA", "TCA"))  # the same, read on the other strand
_FORWARD_STOP, _REVERSE_STOP = 1, 2
_ALL_FRAMES = (1 << len(FRAME_NAMES)) - 1
_OPEN = np.array([(_ALL_FRAMES ^ bits).bit_count() for bits in range(_ALL_FRAMES + 1)])
_FIRST_FRAME = np.array([(bits & -bits).bit_length() - 1 for bits in range(_ALL_FRAMES + 1)])
_REACH = 16  # codons that are asked together whether one is a stop
_SPAN = 1 << 17  # letters that are looked up together: what is found of them stays in cache


@dataclass(frozen=True)
class OpenFrames:
    """Stop-free frames, ordered by chunk, then F1, F2, F3, R1, R2, R3.

    `chunk` (int64, (n,)) is the position of the frame's chunk among the chunks given and `frame`
    (int64, (n,)) a position in `FRAME_NAMES`; `nucleotides` and `proteins` hold n strings.
    """

    chunk: np.ndarray
    frame: np.ndarray
    nucleotides: pa.LargeStringArray
    proteins: pa.LargeStringArray


def open_frames(letters: np.ndarray, start: np.ndarray, stop: np.ndarray) -> OpenFrames:
    """Translate the chunks `letters[start:stop]` in six frames and keep the open ones.

    A codon with a letter other than A, C, G, T contributes no residue. A frame is open when its
    protein is not empty and has no stop; its nucleotides are the strand's
    `[offset : offset + 3·len(protein) + 1]`. The reverse strand complements A, C, G and T and
    leaves other letters as they are.

    Args:
        letters: upper-case ASCII, uint8, shape (total,).
        start: where each chunk starts in `letters`, int64, shape (n,).
        stop: where it ends, int64, shape (n,).
    """
    codons, stopped = np.empty(letters.size, np.uint8), np.empty(start.size, np.uint8)
    most_frames, most_residues = _find_stops(letters, start, stop, codons, stopped, _SPAN)
    frames = np.empty((2, most_frames), np.int64)
    residues, bases = np.empty(most_residues + 1, np.uint8), np.empty(4 * most_residues, np.uint8)
    ends = np.zeros((2, most_frames + 1), np.int64)
    n = _emit(letters, codons, start, stop, stopped, frames, residues, bases, ends)
    protein_ends, base_ends = ends[:, : n + 1]
    return OpenFrames(
        chunk=frames[0, :n],
        frame=frames[1, :n],
        nucleotides=string_array(bases[: base_ends[-1]], base_ends),
        proteins=string_array(residues[: protein_ends[-1]], protein_ends),
    )


@compiled
def _find_stops(
    letters: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    codons: np.ndarray,
    stopped: np.ndarray,
    span: int,
) -> tuple[int, int]:
    """Fill `codons`, and set bit f of `stopped` where frame f of a chunk has a stop.

    Returns how many frames and residues there are at most. Chunks that lie within `span` letters
    are looked up together.
    """
    room = max(span, (stop - start).max())
    numbers = np.empty(room + 2, np.uint8)
    stops, ahead = np.empty(room, np.uint8), np.empty(room, np.uint8)
    frames = residues = first = 0
    while first < start.size:
        base, last = start[first], first
        while last < start.size and stop[last] - base <= room:
            last += 1
        end = stop[last - 1]
        _look_up(letters[base:end], numbers, codons[base:end], stops, ahead)
        for chunk in range(first, last):
            length = stop[chunk] - start[chunk]
            bits = _stopped_frames(stops, ahead, start[chunk] - base, length)
            stopped[chunk] = bits
            frames += _OPEN[bits]
            residues += _OPEN[bits] * (length // 3)
        first = last
    return frames, residues


@compiled
def _look_up(
    letters: np.ndarray,
    numbers: np.ndarray,
    codons: np.ndarray,
    stops: np.ndarray,
    ahead: np.ndarray,
) -> None:
    """The codon that starts at each place, and the strands on which it is a stop.

    `ahead`: the strands on which one of `_REACH` codons is, from the place on at one phase; what
    would reach beyond the end is left out. `numbers` is overwritten. Comparisons rather than
    tables: these loops run many letters at a time.
    """
    size = letters.size
    for i, letter in enumerate(letters):
        base = (letter == _A) | (letter == _C) | (letter == _G) | (letter == _T)
        numbers[i] = (letter >> 1) & 3 if base else _OTHER
    numbers[size : size + 2] = _OTHER
    for i in range(size):
        one, two, three = numbers[i], numbers[i + 1], numbers[i + 2]
        codon = np.uint8((one << 4) | (two << 2) | three | ((one | two) & _OTHER))
        forward = (codon == _TAA) | (codon == _TAG) | (codon == _TGA)
        reverse = (codon == _TTA) | (codon == _CTA) | (codon == _TCA)
        codons[i] = codon
        stops[i] = forward * _FORWARD_STOP | reverse * _REVERSE_STOP
    four = numbers
    for i in range(size - 9):
        four[i] = stops[i] | stops[i + 3] | stops[i + 6] | stops[i + 9]
    for i in range(size - 45):
        ahead[i] = four[i] | four[i + 12] | four[i + 24] | four[i + 36]


@compiled
def _stopped_frames(stops: np.ndarray, ahead: np.ndarray, start: int, length: int) -> int:
    """Bit f is set where frame f of the chunk of `length` letters at `start` has a stop."""
    bits = 0
    for phase in range(3):
        codons = (length - phase) // 3
        place = start + phase
        found = 0
        if codons < _REACH:
            for codon in range(codons):
                found |= stops[place + 3 * codon]
        else:
            # To the end, whatever is found: a branch that nobody can foresee takes longer.
            last = place + 3 * (codons - _REACH)
            found |= ahead[last]
            while place < last:
                found |= ahead[place]
                place += 3 * _REACH
        backwards = (length + 3 - phase) % 3
        bits |= (found & _FORWARD_STOP) << phase
        bits |= ((found & _REVERSE_STOP) >> 1) << (3 + backwards)
    return bits


@compiled
def _emit(
    letters: np.ndarray,
    codons: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    stopped: np.ndarray,
    frames: np.ndarray,
    residues: np.ndarray,
    bases: np.ndarray,
    ends: np.ndarray,
) -> int:
    """Write the frames that are not `stopped`; how many of them have a residue.

    `frames` takes their chunks and frames, `residues` and `bases` their letters end to end, and
    `ends` where each one's letters end in the two.
    """
    n = 0
    for chunk in range(start.size):
        left = _ALL_FRAMES ^ stopped[chunk]
        while left:
            frame = _FIRST_FRAME[left]
            left &= left - 1
            offset = frame % 3
            room = stop[chunk] - start[chunk] - offset
            residue, base = ends[0, n], ends[1, n]
            if frame < 3:
                first = start[chunk] + offset
                residue = _translate(codons, first, 3, room // 3, _FORWARD, residues, residue)
            else:
                last = stop[chunk] - offset
                residue = _translate(codons, last - 3, -3, room // 3, _REVERSE, residues, residue)
            emitted = residue - ends[0, n]
            if not emitted:
                continue
            length = min(3 * emitted + 1, room)
            if frame < 3:
                _copy(letters, first, length, bases, base)
            else:
                _complement(letters, last, length, bases, base)
            frames[0, n], frames[1, n] = chunk, frame
            n += 1
            ends[0, n], ends[1, n] = residue, base + length
    return n


# Indices without a sign need no look whether they count from the end, so that the next two loops
# run many letters at a time.


@compiled
def _copy(letters: np.ndarray, first: int, length: int, bases: np.ndarray, written: int) -> None:
    begin, to = np.uintp(first), np.uintp(written)
    for i in range(np.uintp(length)):
        bases[to + i] = letters[begin + i]


@compiled
def _complement(
    letters: np.ndarray, last: int, length: int, bases: np.ndarray, written: int
) -> None:
    """The reverse complement of what ends before `last`; leaves all but A, C, G and T as it is."""
    end, to = np.uintp(last - 1), np.uintp(written)
    for i in range(np.uintp(length)):
        letter = letters[end - i]
        a_or_t = _A_OR_T if (letter == _A) | (letter == _T) else _NOTHING
        c_or_g = _C_OR_G if (letter == _C) | (letter == _G) else _NOTHING
        bases[to + i] = letter ^ a_or_t ^ c_or_g


@compiled
def _translate(
    codons: np.ndarray,
    place: int,
    step: int,
    count: int,
    code: np.ndarray,
    residues: np.ndarray,
    written: int,
) -> int:
    """Write the residues of `count` codons to `residues[written:]`; where they end there.

    What is written beyond is overwritten by the next.
    """
    for i in range(count):
        codon = codons[np.uintp(place + step * i)]
        residues[np.uintp(written)] = code[codon]
        written += codon < _OTHER
    return written
