"""`python -m virnuc_assets_tests.faults.run`: many faults, one line each, and a table by kind.

Every fault is harmed work that must end, byte for byte, as if nothing had happened. Exits 1 when
one did not.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

from virnuc_assets_tests.faults.chain import Chain
from virnuc_assets_tests.faults.costs import Outcome
from virnuc_assets_tests.faults.jobs import contents, make_job, run_undisturbed, small_disk
from virnuc_assets_tests.faults.plan import DISK_FULL, KINDS, Deck, RunPlan, plan_runs

_FAULTS_OF_A_CHAIN = 15
_DISK_MEGABYTES = 8
_MOST_FAILED = 3
_DEVICES = (("cpu",), ("cpu", "cpu:1"), ("cpu",), ("cpu", "cpu:1", "cpu:2"))
_SIDE_BY_SIDE = 4
_ENCODERS = (("esm2", 720), ("esm2", 720), ("dnabert-s", 1080))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    report = Report(options.log)
    report.say(
        f"seed {options.seed}, at least {options.faults} faults; Python "
        f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    with tempfile.TemporaryDirectory(prefix="virnuc-faults-") as folder:
        whole = _undisturbed(Path(folder))
        numbers = count()

        def chains() -> None:
            while report.landed < options.faults and report.failed < _MOST_FAILED:
                number = next(numbers)
                random = Random(f"{options.seed}/{number}")
                plan = plan_runs(random, _FAULTS_OF_A_CHAIN, Deck(random))
                _chain(Path(folder), number, plan, whole, report)

        with ThreadPoolExecutor(_SIDE_BY_SIDE) as side_by_side:
            for ended in [side_by_side.submit(chains) for _ in range(_SIDE_BY_SIDE)]:
                ended.result()
    report.table()
    return 1 if report.failed else 0


def _undisturbed(folder: Path) -> dict:
    """The jobs' results when nothing happens to them, by encoder."""
    found = {}
    for encoder, sequences in dict.fromkeys(_ENCODERS):
        job = make_job(folder, encoder, sequences, seed=0)
        job = replace(job, output=str(folder / encoder / "uninterrupted"))
        run_undisturbed(folder / encoder, job)
        found[encoder] = job, contents(job)
    return found


def _chain(folder: Path, number: int, plan: list[RunPlan], whole: dict, report: Report) -> None:
    encoder, _ = _ENCODERS[number % len(_ENCODERS)]
    devices = _DEVICES[number % len(_DEVICES)]
    job, expected = whole[encoder]
    home = folder / f"chain-{number}"
    with small_disk(home, _DISK_MEGABYTES) as disk:
        if disk is None:
            plan = [without_full_disk(run) for run in plan]
        job = replace(
            job,
            output=str((disk or home) / "output"),
            encoding=replace(job.encoding, devices=devices),
        )
        chain = Chain(home, job, expected)
        begun = time.monotonic()
        try:
            chain.go(plan)
            end = "identical to the uninterrupted run"
        except Exception:  # noqa: BLE001  told in the report; the other chains go on
            end = f"FAILED\n{traceback.format_exc()}\n{(home / 'log').read_text()[-4000:]}"
            report.failed += 1
        report.chain(
            f"chain {number}, {encoder} on {', '.join(devices)}, {time.monotonic() - begun:.0f} s",
            chain.outcomes,
            end,
        )


def without_full_disk(run: RunPlan) -> RunPlan:
    """`run` where no file system of one's own can be made."""
    return replace(run, ended=None) if run.ended and run.ended.kind == DISK_FULL else run


class Report:
    """Lines on standard output, and in a file where one is given."""

    def __init__(self, log: Path | None) -> None:
        self._log = log
        self.failed = 0
        self._outcomes: list[Outcome] = []
        if log is not None:
            log.write_text("")

    @property
    def landed(self) -> int:
        """Faults that met a run at work."""
        return sum(outcome.landed for outcome in self._outcomes)

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(text + "\n")

    def chain(self, title: str, outcomes: list[Outcome], end: str) -> None:
        lines = [title]
        for outcome in outcomes:
            if not outcome.landed:
                continue
            self._outcomes.append(outcome)
            fault = outcome.fault
            facts = [f"begun {outcome.begun}, redone {outcome.redone}"]
            if outcome.untold:
                facts.append("one more published, not told")
            if outcome.seconds is not None:
                facts.append(f"ended in {outcome.seconds:.2f} s")
            if outcome.note:
                facts.append(outcome.note)
            when = f"{fault.blocks} blocks + {fault.delay:.2f} s"
            lines.append(f"  #{self.landed:03} {fault.kind:<36} {when:<18} {'; '.join(facts)}")
        self.say("\n".join([*lines, f"  {end}"]))

    def table(self) -> None:
        """Per kind: how many landed, and the most that one of them cost."""
        by_kind: defaultdict[str, list[Outcome]] = defaultdict(list)
        for outcome in self._outcomes:
            by_kind[outcome.fault.kind].append(outcome)
        self.say(
            "\nLost with a worker, in blocks: begun, neither finished nor kept; of these redone, "
            "computed to the end.\nThe most of any worker, and the mean over faults of the most. "
            "Seconds from a signal to the end of the run.\n\n"
            f"{'kind':<36} landed  begun  mean  redone  mean  seconds"
        )
        for kind, outcomes in [*sorted(by_kind.items()), ("all", self._outcomes)]:
            begun = [outcome.begun for outcome in outcomes]
            redone = [outcome.redone for outcome in outcomes]
            seconds = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
            self.say(
                f"{kind:<36} {len(outcomes):>6} {max(begun):>6} {sum(begun) / len(begun):>5.2f} "
                f"{max(redone):>7} {sum(redone) / len(redone):>5.2f} "
                f"{f'{max(seconds):.2f}' if seconds else '':>8}"
            )
        if never := [kind for kind in KINDS if kind not in by_kind]:
            self.say(f"\nnever landed: {', '.join(never)}")
        self.say(
            "\nFAILED" if self.failed else "\nevery chain ended identical to its uninterrupted run"
        )


if __name__ == "__main__":
    sys.exit(main())
