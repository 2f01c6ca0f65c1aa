"""What the harness and the processes it harms share: armed fault points and a journal, as files.

A point is armed by a file of its name; the first process that reaches it removes the file and dies.
The journal is appended to by single writes, so that a killed process loses no line of it.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "VIRNUC_FAULTS"
"""Environment variable that names the folder; every process of a run carries it."""

EXIT_CODE = 70
STACKS_SIGNAL = signal.SIGUSR1
"""Has every process of a run write down what it is doing."""

WORKER_POINTS = (
    "mid-compute",
    "block half written",
    "block before rename",
    "block after rename",
)
COORDINATOR_POINTS = (
    "shard half written",
    "shard before rename",
    "shard after rename",
    "blocks half removed",
    "view half written",
    "view before rename",
    "view after rename",
)


@dataclass(frozen=True)
class Entry:
    """One line of the journal: process `pid` did `what`, to a block or at a point."""

    pid: int
    what: str
    where: str


@dataclass(frozen=True)
class Points:
    """The armed points and the journal in one folder."""

    folder: Path

    def arm(self, point: str) -> None:
        (self.folder / f"armed {point}").touch()

    def disarm(self) -> None:
        for armed in self.folder.glob("armed *"):
            armed.unlink(missing_ok=True)

    def reach(self, point: str) -> None:
        """Die here if the point is armed; without a word to anyone, as a crash does."""
        with suppress(FileNotFoundError):
            (self.folder / f"armed {point}").unlink()
            self.note("died", point)
            os._exit(EXIT_CODE)

    def note(self, what: str, where: str) -> None:
        line = f"{os.getpid()}\t{what}\t{where}\n".encode()
        descriptor = os.open(self.folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def journal(self) -> list[Entry]:
        path = self.folder / "journal"
        if not path.exists():
            return []
        lines = (line.split("\t") for line in path.read_text().splitlines())
        return [Entry(int(pid), what, where) for pid, what, where in lines]
