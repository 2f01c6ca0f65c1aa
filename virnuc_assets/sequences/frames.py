"""Six-frame translation of chunks, keeping the frames without a stop.

A codon is a property of its place in the record, not of the chunk around it. So every codon of a
window is looked up once, codons are laid out phase by phase (those that start at 0, 3, 6, …, then
1, 4, 7, …, then 2, 5, 8, …), and a frame of any chunk, on either strand, is a contiguous run of
them. Running counts of stops then tell open frames without translating the closed ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from virnuc_assets.sequences.ragged import offsets_of, run_positions, string_array

FRAME_NAMES = ("F1", "F2", "F3", "R1", "R2", "R3")

# Standard genetic code (NCBI table 1), codons in the order AAA, AAC, AAG, AAT, ACA … TTT.
_CODE = b"KNKNTTTTRSRSIIMIQHQHPPPPRRRRLLLLEDEDAAAAGGGGVVVV*Y*YSSSS*CWCLFLF"
_OTHER = 64  # bit set by any letter but A, C, G, T; shifted out of a byte by << 2 and << 4
_STOP = ord("*")

_LETTER = np.full(256, _OTHER, np.uint8)
_LETTER[list(b"ACGT")] = [0, 1, 2, 3]
_COMPLEMENT = np.arange(256, dtype=np.uint8)
_COMPLEMENT[list(b"ACGT")] = list(b"TGCA")

# Codon → residue on either strand; 0 for a codon that contributes nothing.
_FORWARD = np.zeros(256, np.uint8)
_FORWARD[:64] = list(_CODE)
_REVERSE = np.zeros(256, np.uint8)
_REVERSE[:64] = [_CODE[(~i & 3) << 4 | (~i & 12) | (~i & 48) >> 4] for i in range(64)]


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
    codons = _codons_by_phase(letters)
    stride = codons.size // 3

    # Shapes (n, 6): three offsets on the forward strand, three on the reverse.
    offset = np.array([0, 1, 2, 0, 1, 2])
    room = np.maximum((stop - start)[:, None] - offset, 0)
    count = room // 3
    lowest = np.where(np.arange(6) < 3, start[:, None] + offset, stop[:, None] - offset - 3 * count)
    first = lowest % 3 * stride + lowest // 3
    last = first + count

    stops = np.empty(count.shape, np.int64)
    stops[:, :3] = _between(_FORWARD[codons] == _STOP, first[:, :3], last[:, :3])
    stops[:, 3:] = _between(_REVERSE[codons] == _STOP, first[:, 3:], last[:, 3:])
    emitted = _between(codons < _OTHER, first, last)
    chunk, frame = np.nonzero((stops == 0) & (emitted > 0))

    kept = (chunk, frame)
    forward = frame < 3
    step = np.where(forward, 1, -1)
    residues = np.concatenate([_FORWARD[codons], _REVERSE[codons]])
    begin = np.where(forward, first[kept], codons.size + last[kept] - 1)
    protein = residues[run_positions(begin, count[kept], step)]

    strands = np.concatenate([letters, _COMPLEMENT[letters]])
    begin = np.where(
        forward, start[chunk] + offset[frame], letters.size + stop[chunk] - offset[frame] - 1
    )
    length = np.minimum(3 * emitted[kept] + 1, room[kept])
    return OpenFrames(
        chunk=chunk,
        frame=frame,
        nucleotides=string_array(strands[run_positions(begin, length, step)], length),
        proteins=string_array(protein[protein != 0], emitted[kept]),
    )


def _codons_by_phase(letters: np.ndarray) -> np.ndarray:
    """Codon numbers (uint8; 64 and above: not all A, C, G, T), phase by phase, padded with 64."""
    width = -(-letters.size // 3) * 3
    code = np.full(width + 2, _OTHER, np.uint8)
    code[: letters.size] = _LETTER[letters]
    one, two, three = code[:-2], code[1:-1], code[2:]
    codons = (one << 4) | (two << 2) | three | ((one | two) & _OTHER)
    return np.ascontiguousarray(codons.reshape(-1, 3).T).ravel()


def _between(flags: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """How many of `flags` are set in each `[first, last)`."""
    running = offsets_of(flags)
    return running[last] - running[first]
