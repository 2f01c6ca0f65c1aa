"""A job that is harmed again and again, and must end as if nothing had happened."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from virnuc_assets.errors import UnusableFileError
from virnuc_assets.runner.events import BlockDone, Failed, Started, Warned
from virnuc_assets.runner.job import Job
from virnuc_assets.store.embeddings import read_attributes
from virnuc_assets.store.shard_locks import folder_if_free
from virnuc_assets_tests.faults.costs import Outcome, by_process, of
from virnuc_assets_tests.faults.damage import DAMAGES
from virnuc_assets_tests.faults.jobs import contents
from virnuc_assets_tests.faults.plan import DISK_FULL, ENDED, STOPPED, Fault, RunPlan
from virnuc_assets_tests.faults.points import COORDINATOR_POINTS, EXIT_CODE, Entry, Points
from virnuc_assets_tests.faults.processes import Run

STOP_SECONDS = 10.0
_SILENCE_SECONDS = 8.0
_BALLAST = "ballast"


@dataclass
class Chain:
    """A job, its folder, and what happened to it so far."""

    folder: Path
    job: Job
    expected: dict[str, bytes]
    outcomes: list[Outcome] = field(default_factory=list)
    told: Counter = field(default_factory=Counter)
    """How often each block was said to be done."""
    spoilt: Counter = field(default_factory=Counter)
    untold: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.points = Points(self.folder)

    def go(self, runs: list[RunPlan]) -> list[Outcome]:
        """Harm the job as planned, then let it finish; every assertion of a chain."""
        for plan in runs:
            if self._is_finished():
                break
            self._one_run(plan)
        if not self._is_finished():
            self._one_run(RunPlan((), (), None))
        self._check_result()
        self._check_work()
        return self.outcomes

    def _is_finished(self) -> bool:
        return set(contents(self.job)) == set(self.expected)

    def _one_run(self, plan: RunPlan) -> None:
        named = [self._spoil(fault) for fault in plan.damaged]
        known = len(self.points.journal())
        # Its patience is short only where it is tried: on a busy machine others may be slow.
        stops = any(fault.kind == STOPPED for fault in plan.survived)
        job = replace(self.job, silence_seconds=_SILENCE_SECONDS) if stops else self.job
        ahead = list(plan.survived) + ([plan.ended] if plan.ended else [])
        outcomes = {id(fault): Outcome(fault) for fault in ahead}
        killed: dict[int, Outcome] = {}
        if plan.ended and plan.ended.kind in COORDINATOR_POINTS:
            # A run that finds all shards done is over before it could be armed.
            self.points.arm(ahead.pop().kind)
        run = Run(self.folder, job)
        warned, failed, seconds = [], [], None
        waited = 0
        try:
            for event in run.events():
                match event:
                    case Warned():
                        warned.append(event.message)
                    case Failed():
                        failed.append(event)
                    case BlockDone():
                        self.told[f"{event.shard}/{event.block}"] += 1
                        waited += 1
                if not ahead or not isinstance(event, Started | BlockDone):
                    continue
                if waited < ahead[0].blocks:
                    continue
                fault = ahead.pop(0)
                waited = 0
                time.sleep(fault.delay)
                begun = time.monotonic()
                self._apply(fault, run, outcomes[id(fault)], killed)
                seconds = begun
        finally:
            code = run.wait()
        ended_after = time.monotonic() - seconds if seconds is not None else None
        self.points.disarm()
        self._take_ballast_away()
        entries = self.points.journal()[known:]
        self._settle(plan, outcomes, killed, entries, code, ended_after)
        self._check_run(plan, outcomes, code, warned, failed, named)

    # How each fault is done.

    def _apply(self, fault: Fault, run: Run, outcome: Outcome, killed: dict[int, Outcome]) -> None:
        random = Random(fault.seed)
        match fault.kind:
            case "worker SIGKILL" | "worker SIGTERM" | "worker SIGSTOP":
                # A stopped one that has not asked the kernel to go with its parent outlives it.
                workers = run.bound_workers() if fault.kind == STOPPED else run.workers()
                if not workers or run.process.poll() is not None:
                    return
                victim = random.choice(sorted(workers))
                killed[victim] = outcome
                os.kill(victim, getattr(signal, fault.kind.split()[1]))
                outcome.landed = True
            case "coordinator SIGKILL" | "coordinator SIGTERM":
                outcome.landed = run.process.poll() is None
                run.process.send_signal(getattr(signal, fault.kind.split()[1]))
            case "group SIGKILL" | "group SIGTERM" | "group SIGINT":
                outcome.landed = run.process.poll() is None
                run.signal_group(getattr(signal, fault.kind.split()[1]))
            case "parent gone":
                outcome.landed = run.process.poll() is None
                run.close_stdin()
            case "worker stopped, coordinator SIGKILL":
                if workers := run.bound_workers():
                    os.kill(random.choice(sorted(workers)), signal.SIGSTOP)
                outcome.landed = run.process.poll() is None
                run.process.kill()
            case _ if fault.kind == DISK_FULL:
                self._fill_disk(random)
                outcome.landed = run.process.poll() is None
            case _:
                self.points.arm(fault.kind)

    def _spoil(self, fault: Fault) -> Path | None:
        outcome = Outcome(fault)
        self.outcomes.append(outcome)
        random = Random(fault.seed)
        # No pieces, which are never kept; and none that an earlier fault spoilt.
        found = sorted(Path(self.job.output).rglob("block-?????.h5"))
        blocks = [path for path in found if _is_whole(path)]
        if len(blocks) < 2:
            return None
        block = random.choice(blocks)
        before = block.read_bytes()
        others = [path for path in blocks if path != block]
        DAMAGES[fault.kind.removeprefix("block ")](block, others, random)
        outcome.landed = block.read_bytes() != before
        self.spoilt[_name(block)] += outcome.landed
        return block if outcome.landed else None

    def _fill_disk(self, random: Random) -> None:
        """Leave room for a part of a block at most."""
        with (self.folder / "disk" / _BALLAST).open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
            ballast.truncate(max(0, ballast.tell() - random.choice((0, 0, 4096, 12288))))

    def _take_ballast_away(self) -> None:
        (self.folder / "disk" / _BALLAST).unlink(missing_ok=True)

    # What must hold after it.

    def _settle(
        self,
        plan: RunPlan,
        outcomes: dict[int, Outcome],
        killed: dict[int, Outcome],
        entries: list[Entry],
        code: int,
        ended_after: float | None,
    ) -> None:
        """Find out which faults landed and what each cost."""
        died = {entry.where: entry.pid for entry in entries if entry.what == "died"}
        for outcome in outcomes.values():
            if outcome.fault.kind in died:
                outcome.landed = True
                killed[died[outcome.fault.kind]] = outcome
        ended = outcomes.get(id(plan.ended)) if plan.ended else None
        if ended is not None:
            # What ends by a signal after its last word has nothing left to lose.
            ended.landed &= code != 0
            waits = ended.fault.kind in COORDINATOR_POINTS  # until the point is reached
            ended.seconds = ended_after if ended.landed and not waits else None
            ended.note = f"exit {code}" if ended.landed else ""
        for pid, worker in by_process(entries).items():
            if pid in killed:
                # Who is lost between publishing a block and telling of it loses it to this run.
                others = [entry for entry in entries if entry.pid != pid]
                untold = of(worker, "published") & of(others, "published")
                self.untold.update(untold)
                killed[pid].book(worker, untold)
            elif ended is not None and ended.landed:
                ended.book(worker, set())
            else:
                left = of(worker, "begun") - of(worker, "published")
                assert not left, f"{left} begun and not kept by a worker nobody harmed"
        self.outcomes.extend(outcomes.values())

    def _check_run(
        self,
        plan: RunPlan,
        outcomes: dict[int, Outcome],
        code: int,
        warned: list[str],
        failed: list[Failed],
        named: list[Path | None],
    ) -> None:
        log = (self.folder / "log").read_text()[-3000:]
        ended = plan.ended if plan.ended and outcomes[id(plan.ended)].landed else None
        expected = ENDED[ended.kind] if ended else (0,)
        assert code in expected, f"exit {code}, not {expected}, after {plan}: {failed} {log}"
        assert all(event.explained for event in failed), failed
        assert bool(failed) == (code in (1, 2)), failed
        if ended and ended.kind == DISK_FULL:
            assert all("space" in event.message for event in failed), failed
        if ended and code > 128:
            assert (outcomes[id(ended)].seconds or 0.0) < STOP_SECONDS, outcomes
        for block in filter(None, named):
            assert any(str(block) in message for message in warned), f"{block} was not named"
        _assert_unlocked(Path(self.job.output))
        if code >= 0 and code != EXIT_CODE:
            assert _temporaries(self.folder) == [], f"left after exit {code}"

    def _check_result(self) -> None:
        """Every byte of every file is that of the uninterrupted run, and there is no other file."""
        found = contents(self.job)
        assert set(found) == set(self.expected)
        differing = [name for name, content in found.items() if content != self.expected[name]]
        assert differing == [], f"{differing} differ from the uninterrupted run: {self.folder}"
        assert _temporaries(self.folder) == []
        assert list((self.folder / "tmp").iterdir()) == []

    def _check_work(self) -> None:
        """Nothing that was finished is made again, and what was under way cost what it may.

        No block is published twice but one that was spoilt, or whose worker was lost after it had
        published it and before it could say so, to a run that went on.
        """
        entries = self.points.journal()
        for outcome in self.outcomes:
            outcome.check()
        published = Counter(entry.where for entry in entries if entry.what == "published")
        once = Counter(published.keys())
        # Of a block in pieces it is told once for each of them.
        pieces = Counter(where.split()[0] for where in published if " " in where)
        assert not self.told - self.spoilt - once - pieces, "told of twice"
        again = published - self.spoilt - self.untold - once
        assert not again, f"finished blocks made again: {again}"


def _name(block: Path) -> str:
    shard = int(block.parent.name.split("-")[1])
    return f"{shard}/{int(block.stem.split('-')[1])}"


def _is_whole(block: Path) -> bool:
    try:
        read_attributes(block)
    except UnusableFileError:
        return False
    return True


def _temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def _assert_unlocked(directory: Path) -> None:
    with folder_if_free(directory) as free:
        assert free
