"""Batches and packs on their way through the device."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from virnuc_assets.encoders.pack_stream import Share
from virnuc_assets.encoders.packed_model import PackedModel
from virnuc_assets.encoders.packing import (
    SPECIAL_TOKENS,
    Frame,
    Items,
    Pack,
    make_packs,
    without_padding,
)
from virnuc_assets.errors import SequenceError

# Sequences of the packs that warm a device up: so many have most of the lengths up to 1024.
_WARMING_ITEMS = 200


class ResultMemory:
    """Memory for the means of batches, used again once they are written.

    To write to memory for the first time takes as long as computing what is put there. Any thread
    may take some and give it back.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._free: deque[np.ndarray] = deque()

    def take(self, rows: int) -> np.ndarray:
        """An array (rows, dim), float32; what it holds is left from before."""
        size = rows * self._dim
        try:
            memory = self._free.popleft()
        except IndexError:
            memory = np.empty(0, dtype=np.float32)
        if len(memory) < size:
            memory = np.empty(size, dtype=np.float32)
            # Now, by whoever prepares a batch, not by the one the device waits for.
            memory.fill(0)
        return memory[:size].reshape(rows, self._dim)

    def give_back(self, values: np.ndarray) -> None:
        """Let `values`, which `take` gave or which replaced them, be overwritten."""
        memory = values if values.base is None else values.base
        self._free.append(memory.reshape(-1))


class Batch:
    """A tokenised batch and what it came out as so far.

    `values` (m, dim): the means of its items that have arrived; `items_left`: how many have not.
    `slots`, `busy_seconds`, `starved_seconds`: of the packs it was in, its share by tokens.
    `error`: what is wrong with one of its items.
    """

    def __init__(self, items: Items, values: np.ndarray) -> None:
        self.items = items
        self.values = values
        self.items_left = len(items)
        self.slots = 0
        self.redone = 0
        self.busy_seconds = self.starved_seconds = 0.0
        self.error: SequenceError | None = None

    @property
    def tokens(self) -> int:
        """Slots that its items take, special tokens included."""
        return int((self.items.lengths + SPECIAL_TOKENS).sum())

    def take(self, share: Share[Batch], launched: Launched, means: np.ndarray) -> None:
        """Note what the items of a `share` came out as, and its part in what the pack cost."""
        self.values[share.items] = means[share.places]
        self.items_left -= len(share.items)
        pack = launched.pack
        tokens = int((self.items.lengths[share.items] + SPECIAL_TOKENS).sum())
        self.slots += -(-len(pack.tokens) * tokens // pack.real_tokens)
        self.busy_seconds += launched.busy_seconds * tokens / pack.real_tokens
        self.starved_seconds += launched.starved_seconds * tokens / pack.real_tokens


@dataclass(frozen=True)
class Launched:
    """A pack whose means (items, dim) are on their way to the host.

    `before`: when the device was done with the pack before; `begin` and `end`: when it began this
    one's first kernel and was done with its last; `copied`: when the means had arrived. None where
    there is no device to wait for.
    """

    pack: Pack
    means: Tensor
    finite: Tensor
    before: torch.cuda.Event | None = None
    begin: torch.cuda.Event | None = None
    end: torch.cuda.Event | None = None
    copied: torch.cuda.Event | None = None

    def wait(self) -> np.ndarray:
        """The means, once they have arrived."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.means.numpy()

    @property
    def busy_seconds(self) -> float:
        """How long the device computed, once the means have arrived."""
        if self.begin is None or self.end is None:
            return 0.0
        return float(self.begin.elapsed_time(self.end)) / 1000

    @property
    def starved_seconds(self) -> float:
        """How long the device had had nothing to do before."""
        if self.before is None or self.begin is None:
            return 0.0
        return float(self.before.elapsed_time(self.begin)) / 1000


@torch.inference_mode()
def launch(model: PackedModel, pack: Pack, after: Launched | None = None) -> Launched:
    """Begin `pack` on the model's device without waiting; `after`: the pack that ran before."""
    if model.any_shape:
        pack = without_padding(pack)
    if model.device.type != "cuda":
        means = model.means(pack)
        return Launched(pack, means, torch.isfinite(means).all())
    # Into pinned memory; the events say when what is done.
    # Events and kernels go to the stream of the device that is the current one.
    with torch.cuda.device(model.device):
        begin, end, copied = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        begin.record()
        means = model.means(pack)
        finite = torch.isfinite(means).all()
        end.record()
        on_host = means.to("cpu", non_blocking=True), finite.to("cpu", non_blocking=True)
        copied.record()
    before = None if after is None else after.end
    return Launched(pack, *on_host, before, begin, end, copied)


def warm_up(model: PackedModel, frame: Frame, budget: int, longest: int) -> None:
    """Embed sequences of every length, up to `longest` slots, in packs of `budget`.

    What is done on first use alone is done then: kernels are compiled, memory is taken. On a CPU
    there is little of it.
    """
    if model.device.type != "cuda":
        return
    slots = np.geomspace(SPECIAL_TOKENS + 1, longest, _WARMING_ITEMS).astype(np.int64)
    lengths = slots - SPECIAL_TOKENS
    ends = np.cumsum(lengths)
    tokens = np.full(ends[-1], frame.first, dtype=np.int32)
    items = Items(tokens, ends - lengths, lengths, np.arange(len(lengths)), 0, 0)
    for launched in [launch(model, pack) for pack in make_packs(items, frame, budget)]:
        launched.wait()
