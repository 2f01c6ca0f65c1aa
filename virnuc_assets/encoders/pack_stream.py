"""Batch after batch into packs without gaps: a batch's last items share a pack with the next's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from virnuc_assets.encoders.packing import (
    SPECIAL_TOKENS,
    Frame,
    Items,
    Pack,
    fill_pack,
    first_fit_decreasing,
)

_SMALLEST = SPECIAL_TOKENS + 1

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Share(Generic[Batch]):
    """What a pack holds of one batch: `items` (numbers into the batch's) at `places` (k,), int64.

    A place counts the pack's items, in order.
    """

    batch: Batch
    items: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class SharedPack(Generic[Batch]):
    """A pack and whose items are in it."""

    pack: Pack
    shares: tuple[Share[Batch], ...]


@dataclass(frozen=True)
class _Part(Generic[Batch]):
    """The `chosen` of a batch's items, which go into one pack."""

    batch: Batch
    items: Items
    chosen: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return self.items.lengths[self.chosen] + SPECIAL_TOKENS


class PackStream(Generic[Batch]):
    """Packs of `budget` slots for batches that come one after another.

    The emptiest pack of a batch is held open until the next batch has filled it up, and is then the
    first to go.
    """

    def __init__(self, frame: Frame, budget: int) -> None:
        self._frame, self._budget = frame, budget
        self._open: list[_Part[Batch]] = []

    def add(self, batch: Batch, items: Items) -> Iterator[SharedPack[Batch]]:
        """The packs that are full now that `items` of `batch` have come."""
        if not len(items):
            return
        sizes = items.lengths + SPECIAL_TOKENS
        shared, *own = first_fit_decreasing(sizes, self._budget, self._room)
        full: list[list[_Part[Batch]]] = []
        self._open += [_Part(batch, items, shared)] if len(shared) else []
        if own:
            full.append(self._open)
            emptiest = own.pop(int(np.argmin([sizes[chosen].sum() for chosen in own])))
            full += [[_Part(batch, items, chosen)] for chosen in own]
            self._open = [_Part(batch, items, emptiest)]
        if self._room < _SMALLEST:
            full.append(self._open)
            self._open = []
        for parts in full:
            if parts:
                yield self._filled(parts)

    def flush(self) -> Iterator[SharedPack[Batch]]:
        """The open pack, if there is one, as it is."""
        if self._open:
            parts, self._open = self._open, []
            yield self._filled(parts)

    @property
    def _room(self) -> int:
        return self._budget - sum(int(part.sizes.sum()) for part in self._open)

    def _filled(self, parts: list[_Part[Batch]]) -> SharedPack[Batch]:
        if len(parts) == 1:
            (part,) = parts
            pack = fill_pack(part.items, part.chosen, self._frame, self._budget)
            alone = Share(part.batch, part.chosen, np.arange(len(part.chosen)))
            return SharedPack(pack, (alone,))
        joined = _join(parts)
        order = np.argsort(-joined.lengths, kind="stable")
        pack = fill_pack(joined, order, self._frame, self._budget)
        ends = np.cumsum([len(part.chosen) for part in parts])
        places = np.split(np.argsort(order), ends[:-1])
        shares = (
            Share(part.batch, part.chosen, its) for part, its in zip(parts, places, strict=True)
        )
        return SharedPack(pack, tuple(shares))


def _join(parts: list[_Part[Batch]]) -> Items:
    """The parts' items as one batch's; of the tokens, theirs alone."""
    tokens = np.concatenate([_tokens(part) for part in parts])
    lengths = np.concatenate([part.items.lengths[part.chosen] for part in parts])
    return Items(tokens, np.cumsum(lengths) - lengths, lengths, np.arange(len(lengths)), 0, 0)


def _tokens(part: _Part[Batch]) -> np.ndarray:
    lengths = part.items.lengths[part.chosen]
    ahead = np.cumsum(lengths) - lengths
    places = np.arange(lengths.sum()) + np.repeat(part.items.starts[part.chosen] - ahead, lengths)
    return part.items.tokens[places]
