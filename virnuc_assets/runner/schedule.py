"""Which block goes to which device, and what becomes of one that fails. Knows no processes."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from virnuc_assets.runner.plan import Block

_ATTEMPTS = 2
_BLOCKS_OF_A_DEVICE = 3
# Blocks for every other device, beyond which one may have its next.
_PLENTY = 2
_BLAMED = 3
_LAST_BLOCKS_OF_A_DEVICE = 4


@dataclass(frozen=True)
class Again:
    """The block is tried once more, elsewhere where there is an elsewhere."""


@dataclass(frozen=True)
class Cut:
    """The block goes on in pieces, to find out which sequence breaks it."""

    pieces: tuple[Block, ...]


@dataclass(frozen=True)
class SetAside:
    """The sequence at `position` within the shard breaks its block; the rest goes on."""

    position: int


@dataclass(frozen=True)
class GivenUp:
    """The block has failed for a reason that no cutting would find."""


Verdict = Again | Cut | SetAside | GivenUp


class Schedule:
    """Blocks, the devices that take them, and their history with each other.

    A device has the block it computes and, while there are plenty, the next, which it prepares, and
    the one before, which it writes. A block that failed is a suspect: it comes first, but goes
    alone, because of several that a device has at once it may not be known which made it fail; and
    to another device while there is one, because the fault may be the device's own.
    """

    def __init__(self, blocks: Iterable[Block], devices: int) -> None:
        """`blocks`: what is to be done, by about so many `devices`."""
        self._queue = deque(in_order(blocks, devices))
        self._suspects: deque[Block] = deque()
        self._handed: dict[str, deque[Block]] = {}
        self.expected: set[str] = set()
        """Devices that are about to join."""
        # Of suspects alone; a piece of a block that was cut is one from its birth.
        self._failed_on: dict[Block, list[str]] = {}
        self._blame: Counter[str] = Counter()
        self.letters_left = sum(block.letters for block in self._queue)
        """Letters of all blocks not finished or given up."""
        self.failures_in_a_row = 0
        """Blocks that failed, no sequence of theirs named, since any device last finished one."""

    def __len__(self) -> int:
        """Blocks that wait for a device."""
        return len(self._queue) + len(self._suspects)

    @property
    def is_over(self) -> bool:
        """Nothing waits and nobody has anything."""
        return not len(self) and not any(self._handed.values())

    @property
    def devices(self) -> set[str]:
        """Those that take blocks or are about to."""
        return self._handed.keys() | self.expected

    def expect(self, device: str) -> None:
        """`device` is about to join; what only another may try waits for it."""
        self.expected.add(device)

    def join(self, device: str) -> None:
        """Let `device` take blocks."""
        self.expected.discard(device)
        self._handed[device] = deque()

    def leave(self, device: str) -> tuple[Block, ...]:
        """Let `device` take no more; what it had, the one it computed first, waits again."""
        self.expected.discard(device)
        had = tuple(self._handed.pop(device, ()))
        for block in reversed(had):
            (self._suspects if self._is_suspect(block) else self._queue).appendleft(block)
        return had

    def hand_out(self) -> Iterator[tuple[str, Block]]:
        """Who is given what now."""
        for most in range(_BLOCKS_OF_A_DEVICE):
            for device, has in self._handed.items():
                if len(has) != most:
                    continue
                # A block that another device could soon begin is not kept waiting.
                scarce = len(self) <= most * _PLENTY * (len(self._handed) - 1)
                if not scarce and (block := self._take(device)):
                    has.append(block)
                    yield device, block

    def finish(self, device: str, block: Block) -> None:
        """`device` has done `block`."""
        self._handed[device].remove(block)
        self.letters_left -= block.letters
        self.failures_in_a_row = 0
        self._blame[device] = 0
        # A block that others can do was not what broke the devices before.
        self._blame.update(set(self._failed_on.pop(block, ())) - {device})

    def fail(self, device: str, block: Block, divisible: bool) -> Verdict:
        """Judge `block`, which failed on `device` and waits again.

        `divisible`: one of its sequences may be at fault.
        """
        self.failures_in_a_row += 1
        (self._suspects if block in self._suspects else self._queue).remove(block)
        failed_on = self._failed_on.setdefault(block, [])
        failed_on.append(device)
        a_piece = not block.whole and block.sequences > 1
        if len(failed_on) < _ATTEMPTS and not (divisible and a_piece):
            self._suspects.append(block)
            return Again()
        del self._failed_on[block]
        if not divisible or not block.sequences:
            self.letters_left -= block.letters
            return GivenUp()
        if block.sequences == 1:
            self.letters_left -= block.letters
            return SetAside(block.start)
        middle = (block.start + block.stop) // 2
        pieces = block.piece(block.start, middle), block.piece(middle, block.stop)
        # Behind the other suspects, so that halves that hold nothing bad come between those that do
        # and show that devices and weights are well.
        self._suspects.extend(pieces)
        self._failed_on.update({piece: [] for piece in pieces})
        self.letters_left -= block.letters - sum(piece.letters for piece in pieces)
        return Cut(pieces)

    def set_aside(self, block: Block, position: int) -> SetAside:
        """Leave the sequence at `position` out of `block`, which waits again.

        No failure in a row: how many sequences are set aside has a limit of its own.
        """
        (self._suspects if block in self._suspects else self._queue).remove(block)
        self._failed_on.pop(block, None)
        ranges = (block.start, position), (position + 1, block.stop)
        pieces = [block.piece(start, stop) for start, stop in ranges if start < stop]
        self._queue.extendleft(reversed(pieces))
        self.letters_left -= block.letters - sum(piece.letters for piece in pieces)
        return SetAside(position)

    def add(self, block: Block) -> None:
        """Let `block` wait, before all that never failed."""
        self._queue.appendleft(block)
        self.letters_left += block.letters

    def is_to_blame(self, device: str) -> bool:
        """Whether others did what `device` failed at, several times over, and it nothing between.

        Never true where there is no other device.
        """
        return self._blame[device] >= _BLAMED and bool(self.devices - {device})

    def _is_suspect(self, block: Block) -> bool:
        return block in self._failed_on

    def _take(self, device: str) -> Block | None:
        has = self._handed[device]
        if any(self._is_suspect(block) for block in has):
            return None
        for block in self._suspects:
            failed_on = self._failed_on[block]
            if device in failed_on and self.devices - set(failed_on):
                continue  # another is to try it
            if has:
                return None  # what it has runs out first
            self._suspects.remove(block)
            return block
        return self._queue.popleft() if self._queue else None


def in_order(blocks: Iterable[Block], devices: int) -> list[Block]:
    """`blocks` as they are best handed out.

    Shard after shard, so that shards are finished all along; but the last shards, as many as keep
    all devices busy for a while, together and longest first, so that the last blocks of all are
    short ones and the devices finish together. The shards before go up and down in length by
    turns, up before these: a long block behind a short one could not be prepared in time.
    """
    by_shard: dict[int, list[Block]] = {}
    for block in sorted(blocks, key=_longest_first):
        by_shard.setdefault(block.shard, []).append(block)
    shards = [by_shard[shard] for shard in sorted(by_shard)]
    last: list[Block] = []
    while shards and len(last) < _LAST_BLOCKS_OF_A_DEVICE * devices:
        last += shards.pop()
    last.sort(key=_longest_first)
    for shard in shards[::-2]:
        shard.reverse()
    return [*chain.from_iterable(shards), *last]


def _longest_first(block: Block) -> tuple[int, int, int]:
    return -block.letters, block.shard, block.block
