"""Frames as relatives of their genome might have them.

Training genomes are few, and a model that learns their very words says little of others. So in
training a share of each frame's codons is replaced. Of three in ten the residue changes, by how
often one stands for another in related proteins (BLOSUM62, Henikoff & Henikoff 1992: odds 2^(S/2));
the codon of the residue is then drawn by the codon usage of a genome, the frame's own or another.
"""

from __future__ import annotations

import numpy as np

from virnuc_assets.training.fragments import Fragments

_AMINO_ACIDS = "ARNDCQEGHILKMFPSTWYV"
# The lower triangle of BLOSUM62, in that order.
_BLOSUM62 = """
4
-1 5
-2 0 6
-2 -2 1 6
0 -3 -3 -3 9
-1 1 0 0 -3 5
-1 0 0 2 -4 2 5
0 -2 0 -1 -3 -2 -2 6
-2 0 1 -1 -3 0 0 -2 8
-1 -3 -3 -3 -1 -3 -3 -4 -3 4
-1 -2 -3 -4 -1 -2 -3 -4 -3 2 4
-1 2 0 -1 -3 1 1 -2 -1 -3 -2 5
-1 -1 -2 -3 -1 0 -2 -3 -2 1 2 -1 5
-2 -3 -3 -3 -2 -3 -3 -3 -1 0 0 -3 0 6
-1 -2 -2 -1 -3 -1 -1 -2 -2 -3 -3 -1 -2 -4 7
1 -1 1 0 -1 0 0 0 -1 -2 -2 0 -1 -2 -1 4
0 -1 0 -1 -1 -1 -1 -2 -2 -1 -1 -1 -1 -2 -1 1 5
-3 -3 -4 -4 -2 -2 -3 -2 -2 -3 -2 -3 -1 1 -4 -3 -2 11
-2 -2 -2 -3 -2 -1 -2 -3 2 -1 -1 -2 -1 3 -3 -2 -2 2 7
0 -3 -3 -3 -1 -2 -2 -3 -3 3 1 -2 1 -1 -2 -2 0 -3 -1 4
"""
# Of residues in proteins (Robinson & Robinson 1991), in that order.
_BACKGROUND = np.array(
    [
        *(7.8, 5.1, 4.5, 5.4, 1.9, 4.3, 6.3, 7.4, 2.2, 5.1),
        *(9.0, 5.7, 2.2, 3.9, 5.2, 7.1, 5.8, 1.3, 3.2, 6.4),
    ]
)
_EXCHANGED = 0.3
_BASES = "ACGT"
_PLACE_VALUES = np.array([16, 4, 1])
_CODONS = [a + b + c for a in _BASES for b in _BASES for c in _BASES]
# Standard genetic code in this order of codons; * is a stop.
_CODE = "KNKNTTTTRSRSIIMIQHQHPPPPRRRRLLLLEDEDAAAAGGGGVVVV*Y*YSSSS*CWCLFLF"


def _exchanges() -> np.ndarray:
    """P(residue b | residue a was replaced), (20, 20), rows sum to 1, the diagonal 0."""
    scores = np.zeros((20, 20))
    for row, line in enumerate(_BLOSUM62.split("\n")[1:-1]):
        values = [int(value) for value in line.split()]
        scores[row, : row + 1] = scores[: row + 1, row] = values
    odds = _BACKGROUND * 2 ** (scores / 2)
    np.fill_diagonal(odds, 0)
    return odds / odds.sum(axis=1, keepdims=True)


_RESIDUE_OF_CODON = np.array([_AMINO_ACIDS.find(residue) for residue in _CODE])
_CUMULATIVE_EXCHANGES = np.cumsum(_exchanges(), axis=1)
_CODON_LETTERS = np.frombuffer("".join(_CODONS).encode(), np.uint8).reshape(64, 3)
_RESIDUE_LETTERS = np.frombuffer(_AMINO_ACIDS.encode(), np.uint8)
_BASE_NUMBER = np.zeros(256, np.int64)
_BASE_NUMBER[list(_BASES.encode())] = range(4)
_BY_RESIDUE = np.argsort(_RESIDUE_OF_CODON, kind="stable")[3:]  # the stops come first


class Divergence:
    """Replaces codons.

    Args:
        usage: how often each genome has each codon, (genomes, 64), as `codon_usage` gives it. A
            residue that a genome does not have takes its codons alike.
    """

    def __init__(self, usage: np.ndarray) -> None:
        shares = usage[:, _BY_RESIDUE] + 1e-6
        residues = _RESIDUE_OF_CODON[_BY_RESIDUE]
        totals = shares @ (residues[:, None] == np.arange(len(_AMINO_ACIDS)))
        # Place r + x is in the codon of residue r below which a share x of its codons lie.
        self._places = np.cumsum(shares / totals[:, residues], axis=1)

    def apply(
        self, fragments: Fragments, genome: np.ndarray, share: np.ndarray, rng: np.random.Generator
    ) -> Fragments:
        """The fragments with a `share` (n,) of each one's codons replaced.

        Args:
            fragments: of A, C, G and T alone.
            genome: whose codon usage each takes on, int64, (n,).
            share: from 0 to 1, (n,).
            rng: draws which codons, and what they become.

        Returns:
            Frames of the same lengths, stretches and windows; each protein is still the translation
            of its nucleotides, without a stop.
        """
        letters = np.frombuffer("".join(fragments.nucleotides).encode(), np.uint8).copy()
        residues = np.frombuffer("".join(fragments.proteins).encode(), np.uint8).copy()
        bases = np.array([len(frame) for frame in fragments.nucleotides])
        codons = np.array([len(frame) for frame in fragments.proteins])
        of = np.repeat(np.arange(len(codons)), codons)
        chosen = np.flatnonzero(rng.random(len(of)) < share[of])
        of = of[chosen]
        base_starts, codon_starts = np.cumsum(bases) - bases, np.cumsum(codons) - codons
        at = (base_starts[of] + 3 * (chosen - codon_starts[of]))[:, None] + np.arange(3)
        was = _RESIDUE_OF_CODON[_BASE_NUMBER[letters[at]] @ _PLACE_VALUES]
        other = (rng.random((len(was), 1)) > _CUMULATIVE_EXCHANGES[was]).sum(axis=1)
        exchanged = rng.random(len(was)) < _EXCHANGED
        becomes = np.where(exchanged, np.minimum(other, len(_AMINO_ACIDS) - 1), was)
        place = becomes + rng.random(len(was))
        number = (self._places[genome[of]] < place[:, None]).sum(axis=1)
        codon = _BY_RESIDUE[np.minimum(number, len(_BY_RESIDUE) - 1)]
        letters[at] = _CODON_LETTERS[codon]
        residues[chosen] = _RESIDUE_LETTERS[_RESIDUE_OF_CODON[codon]]
        return Fragments(
            _cut(letters, bases), _cut(residues, codons), fragments.stretch, fragments.window
        )


def codon_usage(fragments: Fragments, genome: np.ndarray, genomes: int) -> np.ndarray:
    """How often the fragments of each genome have each codon, (genomes, 64), int64.

    Args:
        fragments: of A, C, G and T alone.
        genome: each one's genome, int64, (n,).
        genomes: how many there are.
    """
    usage = np.zeros((genomes, 64), np.int64)
    for nucleotides, protein, of in zip(
        fragments.nucleotides, fragments.proteins, genome, strict=True
    ):
        numbers = _BASE_NUMBER[np.frombuffer(nucleotides.encode(), np.uint8)[: 3 * len(protein)]]
        usage[of] += np.bincount(numbers.reshape(-1, 3) @ _PLACE_VALUES, minlength=64)
    return usage


def _cut(letters: np.ndarray, lengths: np.ndarray) -> list[str]:
    text, ends = letters.tobytes().decode(), np.cumsum(lengths)
    return [text[end - length : end] for end, length in zip(ends, lengths, strict=True)]
