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
_FORWARD = np.array([_NCBI_CODE[_NCBI.index(codon)] for codon in _CODONS], np.uint8)
_PAIRS = str.maketrans("ACGT", "TGCA")
_REVERSE = np.array([_FORWARD[_number(codon[::-1].translate(_PAIRS))] for codon in _CODONS])
_COMPLEMENT = np.frombuffer(
    bytes(range(256)).translate(bytes.maketrans(b"ACGT", b"TGCA")), np.uint8
)

_TAA, _TAG, _TGA = map(_number, ("TAA", "TAG", "TGA"))
_TTA, _CTA, _TCA = map(_number, ("TTA", "CTA", "TCA"))  # the same, read on the other strand
_FORWARD_STOP, _REVERSE_STOP = 1, 2


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
    codons, stops = _codons(letters)
    stopped = np.empty(start.size, np.uint8)
    most_frames, most_residues = _find_stops(stops, start, stop, stopped)
    frames = np.empty((2, most_frames), np.int64)
    residues, bases = np.empty(most_residues, np.uint8), np.empty(4 * most_residues, np.uint8)
    ends = np.zeros((2, most_frames + 1), np.int64)
    n = _emit(letters, codons, start, stop, stopped, frames, residues, bases, ends)
    protein_ends, base_ends = ends[:, : n + 1]
    return OpenFrames(
        chunk=frames[0, :n],
        frame=frames[1, :n],
        nucleotides=string_array(bases[: base_ends[-1]], base_ends),
        proteins=string_array(residues[: protein_ends[-1]], protein_ends),
    )


def _codons(letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codon that starts at each place, and on which strands it is a stop; uint8, (total,)."""
    codons, stops = np.empty(letters.size, np.uint8), np.empty(letters.size, np.uint8)
    _look_up(letters, np.full(letters.size + 2, _OTHER, np.uint8), codons, stops)
    return codons, stops


@compiled
def _look_up(
    letters: np.ndarray, numbers: np.ndarray, codons: np.ndarray, stops: np.ndarray
) -> None:
    # Comparisons rather than tables: both loops run many letters at a time.
    for i, letter in enumerate(letters):
        base = (letter == _A) | (letter == _C) | (letter == _G) | (letter == _T)
        numbers[i] = (letter >> 1) & 3 if base else _OTHER
    for i in range(letters.size):
        one, two, three = numbers[i], numbers[i + 1], numbers[i + 2]
        codon = np.uint8((one << 4) | (two << 2) | three | ((one | two) & _OTHER))
        forward = (codon == _TAA) | (codon == _TAG) | (codon == _TGA)
        reverse = (codon == _TTA) | (codon == _CTA) | (codon == _TCA)
        codons[i] = codon
        stops[i] = forward * _FORWARD_STOP | reverse * _REVERSE_STOP


@compiled
def _find_stops(
    stops: np.ndarray, start: np.ndarray, stop: np.ndarray, stopped: np.ndarray
) -> tuple[int, int]:
    """Set bit f of `stopped` where frame f has a stop; the most frames and residues there are."""
    frames = residues = 0
    for chunk in range(start.size):
        first, end = start[chunk], stop[chunk] - 2
        bits = 0
        for phase in range(3):
            found = 0
            for place in range(first + phase, end, 3):
                found |= stops[place]
                if found == _FORWARD_STOP | _REVERSE_STOP:
                    break
            backwards = (stop[chunk] - first - phase) % 3
            bits |= (found & _FORWARD_STOP) << phase
            bits |= ((found & _REVERSE_STOP) >> 1) << (3 + backwards)
        stopped[chunk] = bits
        for frame in range(6):
            if not bits >> frame & 1:
                frames += 1
                residues += (end + 2 - first) // 3
    return frames, residues


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
        for frame in range(6):
            if stopped[chunk] >> frame & 1:
                continue
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
                bases[base : base + length] = letters[first : first + length]
            else:
                for i in range(length):
                    bases[base + i] = _COMPLEMENT[letters[last - 1 - i]]
            frames[0, n], frames[1, n] = chunk, frame
            n += 1
            ends[0, n], ends[1, n] = residue, base + length
    return n


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
    """Write the residues of `count` codons to `residues[written:]`; where they end there."""
    for _ in range(count):
        if codons[place] < _OTHER:
            residues[written] = code[codons[place]]
            written += 1
        place += step
    return written
