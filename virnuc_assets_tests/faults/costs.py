"""What faults cost, as the journal of the workers has it."""

from __future__ import annotations

from dataclasses import dataclass

from virnuc_assets_tests.faults.plan import Fault
from virnuc_assets_tests.faults.points import Entry

_IN_HAND = 3


@dataclass
class Outcome:
    """What became of a fault."""

    fault: Fault
    landed: bool = False
    begun: int = 0
    """Blocks that a worker lost to it had begun and not published; the most of any worker."""
    redone: int = 0
    """Of these, the ones that were computed to the end; the most of any worker."""
    untold: int = 0
    """Blocks that one had published, but not told of, and that the same run made again."""
    seconds: float | None = None
    """From the signal to the end of the run."""
    note: str = ""

    def book(self, worker: list[Entry], untold: set[str]) -> None:
        """Book what is lost with a worker."""
        lost = of(worker, "begun") - of(worker, "published")
        self.begun = max(self.begun, len(lost))
        self.redone = max(self.redone, len(of(worker, "computed") & lost))
        self.untold = max(self.untold, len(untold))

    def check(self) -> None:
        """Check that it cost no more than it may.

        A worker that is lost has three blocks in hand at most: one that is computed or under way to
        the disk, one that computes, and the next, which fills packs up. One of them was computed to
        the end, or two where computing is faster than writing, as with these small blocks it can
        be. One more may be on the disk, its worker lost before it could say so.
        """
        assert self.begun <= _IN_HAND, self
        assert self.redone <= 2, self
        assert self.untold <= 1, self


def by_process(entries: list[Entry]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.pid, []).append(entry)
    return found


def of(entries: list[Entry], what: str) -> set[str]:
    """Blocks that `what` was done to."""
    return {entry.where for entry in entries if entry.what == what}
