"""Labelled genomes in memory: stretches of plain bases, each of one record, whole or part of it.

Stretches end where a record has a letter other than A, C, G and T, and where a masked interval (a
prophage, say) begins or ends, so a window within a stretch is all masked or not at all. On disk a
base takes two bits, which gzip does not improve on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from virnuc_assets.errors import InputError
from virnuc_assets.store.atomic import atomic_path

_BASES = np.frombuffer(b"ACGT", np.uint8)
_CODE = np.full(256, 4, np.uint8)
_CODE[_BASES] = range(4)
_COLUMNS = ("is_virus", "masked", "group", "genome", "split")


@dataclass(frozen=True)
class Corpus:
    """n stretches.

    Attributes:
        letters: all stretches end to end, upper-case ASCII, uint8.
        offsets: where each starts in `letters`, int64, (n + 1,).
        is_virus: bool, (n,).
        masked: in an interval that is not to be learnt from, bool, (n,).
        group: such as `phage` or `bacteria`, str, (n,).
        genome: what must not be split between training and evaluation (genus, family or virus
            cluster), str, (n,).
        split: `train`, `validation` or `test`, str, (n,).
    """

    letters: np.ndarray
    offsets: np.ndarray
    is_virus: np.ndarray
    masked: np.ndarray
    group: np.ndarray
    genome: np.ndarray
    split: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Bases of each stretch, int64, (n,)."""
        return np.diff(self.offsets)

    def chosen(self, which: np.ndarray) -> Corpus:
        """The stretches `which` (bool, (n,)); their letters are copied."""
        lengths = self.lengths
        return Corpus(
            self.letters[np.repeat(which, lengths)],
            np.concatenate([[0], np.cumsum(lengths[which])]),
            *(getattr(self, name)[which] for name in _COLUMNS),
        )


def stretches(letters: np.ndarray, cuts: np.ndarray, shortest: int) -> np.ndarray:
    """Where the stretches of a record begin and end, (n, 2), int64.

    Args:
        letters: the record, upper-case ASCII, uint8.
        cuts: places that no stretch may run across, int64.
        shortest: bases below which a stretch is left out.
    """
    strange = np.flatnonzero(_CODE[letters] > 3)
    within = np.unique(cuts[(cuts > 0) & (cuts < letters.size)])
    starts = np.sort(np.concatenate([[0], strange + 1, within]))
    ends = np.sort(np.concatenate([strange, within, [letters.size]]))
    return np.stack([starts, ends], axis=1)[ends - starts >= shortest]


def with_fewer_genomes(corpus: Corpus, share: float, seed: int) -> Corpus:
    """The corpus with a share of each group's training genomes, at least one of each."""
    rng = np.random.default_rng(seed)
    keep = corpus.split != "train"
    for group in np.unique(corpus.group[~keep]):
        of_group = (corpus.group == group) & (corpus.split == "train")
        genomes = np.unique(corpus.genome[of_group])
        some = rng.permutation(genomes)[: max(1, round(share * len(genomes)))]
        keep |= of_group & np.isin(corpus.genome, some)
    return corpus.chosen(keep)


def write_corpus(path: Path, corpus: Corpus) -> None:
    """Write `corpus` to `path`, two bits a base.

    Raises:
        StoreError: the file cannot be written.
    """
    codes = np.zeros(-(-corpus.letters.size // 4) * 4, np.uint8)
    codes[: corpus.letters.size] = _CODE[corpus.letters]
    four = codes.reshape(-1, 4)
    packed = four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        columns = {name: getattr(corpus, name) for name in _COLUMNS}
        np.savez(handle, packed=packed, offsets=corpus.offsets, **columns)


def read_corpus(path: Path) -> Corpus:
    """Read what `write_corpus` wrote.

    Raises:
        InputError: the file is missing or is no corpus.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            packed, offsets = file["packed"], file["offsets"]
            columns = {name: file[name] for name in _COLUMNS}
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise InputError(f"{path}: is no corpus ({error}); make it anew") from error
    codes = np.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=1).reshape(-1)
    return Corpus(_BASES[codes[: offsets[-1]]], offsets, **columns)
