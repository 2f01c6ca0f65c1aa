"""Which faults there are, and a seeded plan of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from virnuc_assets_tests.faults.damage import DAMAGES
from virnuc_assets_tests.faults.points import COORDINATOR_POINTS, EXIT_CODE, WORKER_POINTS

STOPPED = "worker SIGSTOP"
DISK_FULL = "disk full"

# The run goes on without the worker, and finishes.
SURVIVED = (
    "worker SIGKILL",
    "worker SIGKILL",  # twice as often as any other
    "worker SIGTERM",
    STOPPED,
    *WORKER_POINTS,
)
# The run ends; what it exits with.
ENDED = {
    "coordinator SIGKILL": (-9,),
    "group SIGKILL": (-9,),
    "coordinator SIGTERM": (143,),
    "group SIGTERM": (143,),
    "group SIGINT": (130,),
    "parent gone": (143,),
    "worker stopped, coordinator SIGKILL": (-9,),
    DISK_FULL: (1, 2),
    **dict.fromkeys(COORDINATOR_POINTS, (EXIT_CODE,)),
}
DAMAGED = tuple(f"block {damage}" for damage in DAMAGES)
KINDS = tuple(dict.fromkeys((*SURVIVED, *ENDED, *DAMAGED)))


@dataclass(frozen=True)
class Fault:
    """One fault. It falls `delay` seconds after `blocks` blocks were finished since the last."""

    kind: str
    blocks: int
    delay: float
    seed: int


@dataclass(frozen=True)
class RunPlan:
    """The faults of one run: files spoilt before it, workers lost in it, and what ends it."""

    damaged: tuple[Fault, ...]
    survived: tuple[Fault, ...]
    ended: Fault | None

    @property
    def faults(self) -> tuple[Fault, ...]:
        return (*self.damaged, *self.survived, *((self.ended,) if self.ended else ()))


def plan_runs(random: Random, faults: int, deck: Deck) -> list[RunPlan]:
    """Runs with `faults` faults in all, the last ones while shards are assembled.

    A run loses at most one worker: a block that two workers die of is taken for the culprit.
    """
    assembly = [_fault(random, deck.assembly()) for _ in range(faults // 3)]
    runs: list[RunPlan] = []
    left = faults - len(assembly)
    while left > 0:
        damaged, survived, ended = (), (), None
        if runs and left > 1 and random.random() < 0.8:
            damaged = (_fault(random, deck.damaged()),)
        if random.random() < 0.7:
            survived = (_fault(random, deck.survived()),)
        if left > len(damaged) + len(survived):
            ended = _fault(random, deck.ended())
        runs.append(RunPlan(damaged, survived, ended))
        left -= len(runs[-1].faults)
    if runs[-1].ended is None:  # it would assemble the shards, undisturbed
        runs[-1] = replace(runs[-1], ended=assembly.pop())
    return [*runs, *(RunPlan((), (), fault) for fault in assembly)]


class Deck:
    """Kinds in random order, each as often as any other."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._piles: dict[tuple[str, ...], list[str]] = {}

    def survived(self) -> str:
        return self._draw(SURVIVED)

    def ended(self) -> str:
        return self._draw(tuple(kind for kind in ENDED if kind not in COORDINATOR_POINTS))

    def assembly(self) -> str:
        return self._draw(COORDINATOR_POINTS)

    def damaged(self) -> str:
        return self._draw(DAMAGED)

    def _draw(self, kinds: tuple[str, ...]) -> str:
        pile = self._piles.setdefault(kinds, [])
        if not pile:
            pile.extend(self._random.sample(kinds, len(kinds)))
        return pile.pop()


def _fault(random: Random, kind: str) -> Fault:
    blocks = 0 if kind in COORDINATOR_POINTS else random.choice((0, 1, 1, 2, 3))
    return Fault(kind, blocks, random.uniform(0, 0.3), random.getrandbits(32))
