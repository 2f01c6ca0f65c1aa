"""A pool of devices that are not there, on a clock of its own, for more than a machine can start.

What the coordinator does between two calls of the pool takes its thread's processor time, whatever
else the machine does; what devices do takes as long as it is said to, by a clock that jumps to
whatever is next. So a device waits for its next block exactly as long as the coordinator lets it,
be they five hundred. Writing the blocks' files, which the devices would do, stops the clock.
"""

from __future__ import annotations

import heapq
import pickle
import time
from dataclasses import dataclass, field

import numpy as np

from virnuc_assets.runner.identity import Digests, block_file, block_identity
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.messages import Finished, Ready, Report
from virnuc_assets.runner.plan import Block
from virnuc_assets.store.embeddings import Counts, Origin, write_embeddings

DIM = 1
_ORIGIN = Origin("simulated", "", "", "", "", 0, "truncate")


@dataclass
class Device:
    """When it is done with all that it has, and when it was when it last had nothing."""

    seconds_per_letter: float
    free_at: float | None = None
    last_at: float = 0.0


@dataclass
class SimulatedPool:
    """As the coordinator sees it, a pool like any other."""

    letters_per_second: float
    """Of a device; every fourth is 20 % slower."""
    digests: Digests
    now: float = 0.0
    """Seconds on the pool's clock."""
    coordinator_seconds: float = 0.0
    """Of these, between the pool's calls: the coordinator's own, waits left out."""
    computed_seconds: float = 0.0
    waited_seconds: float = 0.0
    message_bytes: int = 0
    first_at: float | None = None
    devices: dict[str, Device] = field(default_factory=dict)
    _due: list[tuple[float, int, str, Block | None]] = field(default_factory=list)
    _number: int = 0
    _left: float = field(default_factory=time.thread_time)
    _job: Job | None = None

    def __enter__(self) -> SimulatedPool:
        self._left = time.thread_time()
        return self

    def __exit__(self, *error: object) -> None:
        self._enter()

    def unplaced(self) -> list[str]:
        """None."""
        return []

    def retire(self, device: str) -> None:
        """Nobody fails here."""
        raise AssertionError(f"{device} is to be ended")

    def start(self, device: str, job: Job) -> None:
        """A device is there at once."""
        self._enter()
        slowness = 1.2 if len(self.devices) % 4 == 0 else 1.0
        self.devices[device] = Device(slowness / self.letters_per_second)
        self._job = job
        self._expect(self.now, device, None)
        self._leave()

    def send(self, device: str, block: Block) -> None:
        """Compute a block after those the device has."""
        self._enter()
        has = self.devices[device]
        self.first_at = self.now if self.first_at is None else self.first_at
        begins = self.now
        if has.free_at is not None:
            self.waited_seconds += max(0.0, self.now - has.free_at)
            begins = max(begins, has.free_at)
        seconds = block.letters * has.seconds_per_letter
        self.computed_seconds += seconds
        has.free_at = begins + seconds
        self._expect(has.free_at, device, block)
        self._leave()

    def wait(self) -> list[tuple[str, Report]]:
        """All that devices have done by now; the clock jumps to the next where that is nothing."""
        self._enter()
        self.now = max(self.now, self._due[0][0])
        said: list[tuple[str, Report]] = []
        while self._due and self._due[0][0] <= self.now:
            at, _, device, block = heapq.heappop(self._due)
            self.devices[device].last_at = at
            said.append((device, Ready(DIM) if block is None else self._published(block)))
        self._leave()
        return said

    def _published(self, block: Block) -> Finished:
        assert self._job is not None
        file = write_embeddings(
            block_file(self._job, block),
            block_identity(self._job, self.digests, block),
            _ORIGIN,
            Counts(tokens=block.letters),
            DIM,
            [np.zeros((block.sequences, DIM), np.float32)],
        )
        finished = Finished(block, file, 1.0)
        self.message_bytes += len(pickle.dumps(block)) + len(pickle.dumps(finished))
        return finished

    def _expect(self, at: float, device: str, block: Block | None) -> None:
        self._number += 1
        heapq.heappush(self._due, (at, self._number, device, block))

    def _enter(self) -> None:
        since = time.thread_time() - self._left
        self.now += since
        self.coordinator_seconds += since

    def _leave(self) -> None:
        self._left = time.thread_time()
