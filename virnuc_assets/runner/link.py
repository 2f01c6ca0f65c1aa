"""The line between the coordinator and a worker: messages, and signs of life beside them."""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

_BEAT_SECONDS = 0.5
# A worker that starts loads libraries and weights, some of it with the interpreter's lock held.
_STARTING_PATIENCE = 4.0
# Time between two looks counts up to here: a coordinator that was itself away for a while, stopped
# or short of a processor, must not put that down to its workers.
_LONGEST_LOOK = 2.0

Signs: TypeAlias = "ctypes.Array[ctypes.c_double]"
"""Two numbers in memory that both processes see: beats, and packs landed, so far."""


class Link:
    """A worker's end. The signs need nobody to read them: a busy coordinator delays no worker."""

    def __init__(self, connection: Connection, signs: Signs) -> None:
        self._connection = connection
        self._signs = signs
        self.turn: int | None = None
        """Which of its jobs the worker is at; None until it has loaded what is common to all."""

    def send(self, message: Any) -> None:
        """Tell the coordinator something of the job the worker is at, or of them all."""
        self._connection.send((self.turn, message))

    def recv(self) -> Any:
        """Wait for what the coordinator says."""
        return self._connection.recv()

    def poll(self, timeout: float = 0.0) -> bool:
        """Whether there is something to receive."""
        return self._connection.poll(timeout)

    def landed(self) -> None:
        """Say that the device got a pack done."""
        self._signs[1] += 1

    def beat(self) -> None:
        """Say for ever that this process runs, from a thread of its own."""

        def go_on() -> None:
            while True:
                self._signs[0] += 1
                time.sleep(_BEAT_SECONDS)

        threading.Thread(target=go_on, daemon=True).start()


@dataclass
class Watch:
    """When a worker counts as hung.

    `silence`: seconds without a beat; several times that until it is ready. `stall`: seconds
    without a pack while it has work.
    """

    silence: float
    stall: float
    ready: bool = False
    in_hand: int = 0
    """Blocks the worker has."""
    _seen: tuple[float, float] = (0.0, 0.0)
    _looked: float | None = None
    _silent: float = 0.0
    _stalled: float = 0.0

    def look(self, now: float, beats: float, packs: float) -> str | None:
        """Note the signs as they are at `now`, seconds of any clock; what is wrong, if anything."""
        since = min(now - (now if self._looked is None else self._looked), _LONGEST_LOOK)
        self._looked = now
        self._silent = 0.0 if beats != self._seen[0] else self._silent + since
        working = self.ready and self.in_hand > 0
        going_on = packs != self._seen[1] or not working
        self._stalled = 0.0 if going_on else self._stalled + since
        self._seen = (beats, packs)
        patience = self.silence if self.ready else self.silence * _STARTING_PATIENCE
        if self._silent > patience:
            return f"gave no sign of life for {self._silent:.0f} s"
        if self._stalled > self.stall:
            return f"finished no pack for {self._stalled:.0f} s"
        return None

    def moved(self) -> None:
        """A block was handed over or is done: a new wait begins."""
        self._stalled = 0.0
