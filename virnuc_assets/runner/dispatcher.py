"""The coordinator's loop: blocks to devices, what they say to the books, until none is left."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from dataclasses import replace

from virnuc_assets.encoders.catalog import MAX_TOKENS
from virnuc_assets.errors import DiskFullError, EncoderUnusableError, RunnerError
from virnuc_assets.runner.between_jobs import BetweenJobs
from virnuc_assets.runner.books import Books
from virnuc_assets.runner.events import Failed, Warned
from virnuc_assets.runner.messages import (
    Broke,
    Died,
    DiskFull,
    Finished,
    Hung,
    Lost,
    OutOfMemory,
    Placed,
    Ready,
    Report,
    Taken,
)
from virnuc_assets.runner.output import published, work_folder
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.pool import Pool
from virnuc_assets.runner.resume import remove_leftovers
from virnuc_assets.runner.schedule import Again, Cut, GivenUp, Schedule, SetAside, Verdict
from virnuc_assets.runner.shards import position_of

_log = logging.getLogger(__name__)

_STARTS = 2
# More than this is not the sequences' fault but the machine's or the weights'.
_MOST_FAILURES_IN_A_ROW = 24
# Shorter runs are mostly start and end.
_SECONDS_TO_JUDGE_STARVATION = 30.0


class Dispatcher:
    """Hands blocks to devices until none is left; replaces workers that fail."""

    def __init__(self, books: Books, pool: Pool, between: BetweenJobs) -> None:
        """`books` say what is left to be done; `pool` has not been entered yet.

        `between`: what was learnt of the encoder and its devices before; more is added here.
        """
        self.books, self.pool, self.emit = books, pool, books.emit
        self.job, self.record = books.job, books.record
        pending = (shard.pending for n, shard in books.shards.items() if n not in books.done)
        self.schedule = Schedule(
            (block for blocks in pending for block in blocks), len(self.job.encoding.devices)
        )
        self.spare = deque(self.job.encoding.devices)
        self.failed_starts: Counter[str] = Counter()
        self.between = between
        self.failures: dict[int, tuple[str, bool]] = {}
        self.started_at: float | None = None
        self.machines: dict[str, str] = {}
        """Of a cluster, where a device is."""

    def run(self) -> None:
        """Embed all that is left.

        Raises:
            VirnucError: no device can go on, or what went wrong would go wrong with every block.
        """
        try:
            with self.books:
                with self.pool:
                    self._embed()
                self.books.collect_all()
        except DiskFullError as error:
            remove_leftovers(self.job)
            raise self.books.disk_full(error.machine) from error
        self._warn_of_starvation()
        for number, (text, explained) in sorted(self.failures.items()):
            self.emit(Failed(text, number, explained))

    def _embed(self) -> None:
        for _ in range(min(len(self.schedule), len(self.spare))):
            self._start(self.spare.popleft())
        while not self.schedule.is_over:
            for device, report in self.pool.wait():
                self._handle(device, report)
            self._hand_out()
            self._withdraw()
            self.books.collect()

    def _start(self, device: str) -> None:
        job = self.job
        if device in self.between.budgets:
            encoding = replace(job.encoding, token_budget=self.between.budgets[device])
            job = replace(job, encoding=encoding)
        self.pool.start(device, job)
        # Who has no machine may never get one: nothing is kept for it.
        if device not in self.pool.unplaced():
            self.schedule.expect(device)

    def _hand_out(self) -> None:
        for device, block in self.schedule.hand_out():
            self.pool.send(device, block)

    def _withdraw(self) -> None:
        """Wait for no more machines than there are blocks that wait for one."""
        if len(self.schedule) >= len(self.job.encoding.devices):
            return
        unplaced = self.pool.unplaced()
        surplus = len(unplaced) + len(self.schedule.expected) - len(self.schedule)
        for device in unplaced[max(0, len(unplaced) - surplus) :]:
            self.pool.retire(device)
            self.spare.append(device)

    def _handle(self, device: str, report: Report) -> None:
        match report:
            case Placed(machine=machine):
                _log.info("device %s is on %s", device, machine)
                self.machines[device] = machine
                self.schedule.expect(device)
            case Ready(dim=dim):
                self.between.was_loaded = True
                if self.started_at is None:
                    self.started_at = time.monotonic()
                    self.books.check_space(dim)
                self.failed_starts[device] = 0
                self.schedule.join(device)
            case Finished():
                self.schedule.finish(device, report.block)
                # The device goes on while this one is booked.
                self._hand_out()
                self.books.book(report, device)
                self._tell_progress()
            case Broke(block=None, message=text, explained=True):
                text = self._with_machine(device, text)
                if not self._is_its_own(device):
                    unusable = report.encoder and not self.between.was_loaded
                    raise (EncoderUnusableError if unusable else RunnerError)(text)
                self._part_with(device)
                self._leave_out(device, text)
            case Broke():
                self._replace(device, report)
            case Died(exit_code=code):
                text = f"the worker on {device} ended by itself (exit code {code})"
                self._replace(device, Broke(None, text, explained=False))
            case Hung(why=why):
                text = f"the worker on {device} {why} and was killed"
                self._replace(device, Broke(None, text, explained=False))
            case Lost(why=why):
                self._ask_again(device, why)
            case DiskFull(message=text):
                self._leave_out_of_space(device, text)
            case OutOfMemory():
                self._shrink(device, report)
            case Taken(message=text):
                self._part_with(device)
                self._leave_out(device, text)

    def _tell_progress(self) -> None:
        elapsed = time.monotonic() - (self.started_at or 0.0)
        self.emit(self.books.progress(elapsed, self.schedule.letters_left))

    # What becomes of a device.

    def _part_with(self, device: str) -> tuple[Block, ...]:
        """End the device's worker; the blocks it had, which wait again."""
        # A device whose code raised may be left in any state; a fresh process is the one sure cure.
        self.pool.retire(device)
        if device not in self.schedule.devices - self.schedule.expected:
            self.failed_starts[device] += 1
        return self.schedule.leave(device)

    def _is_its_own(self, device: str) -> bool:
        """Whether what `device` met at its start is its own affair: others have started and go on.

        A GPU that is lost while the run goes on kills its worker, and the next one finds none.
        """
        others = self.spare or self.pool.unplaced() or self.schedule.devices - {device}
        return device in self.schedule.expected and self.started_at is not None and bool(others)

    def _leave_out_of_space(self, device: str, text: str) -> None:
        """Do without a device whose machine's disk is full, if that disk is its machine's alone.

        That is where blocks are published from it to an object store.
        """
        machine = self.machines.get(device)
        if published(self.job) is None or machine is None:
            raise DiskFullError(work_folder(self.job), machine=machine)
        self._part_with(device)
        self._leave_out(device, self._with_machine(device, text))

    def _with_machine(self, device: str, text: str) -> str:
        machine = self.machines.get(device)
        return text if machine is None else f"{machine}: {text}"

    def _replace(self, device: str, broke: Broke) -> None:
        # A traceback is for the log; events have its last line.
        _log.warning("device %s: %s", device, broke.message)
        had = self._part_with(device)
        if broke.block is not None or had:
            self._judge(device, broke.block or had[0], broke)
        self._hand_out()
        why = _last_line(broke.message)
        if self.failed_starts[device] >= _STARTS:
            self._leave_out(device, f"{why} twice before it could take a block")
        elif self.schedule.is_to_blame(device):
            self._leave_out(device, f"{why}; other devices did the blocks it failed at")
        elif len(self.schedule):
            self._restart(device)

    def _restart(self, device: str) -> None:
        self.record.device(device).restarts += 1
        self._start(device)

    def _ask_again(self, device: str, why: str) -> None:
        # Machines come and go; neither is the block to blame that one had, nor is the device.
        self.pool.retire(device)
        self.schedule.leave(device)
        self._hand_out()
        self.emit(Warned(f"device {device} is lost, and its blocks are handed out again: {why}"))
        if len(self.schedule):
            self._restart(device)

    def _shrink(self, device: str, report: OutOfMemory) -> None:
        self._part_with(device)
        self.failed_starts[device] = 0
        least = MAX_TOKENS[self.job.encoding.encoder]
        if report.token_budget <= least:
            self._leave_out(device, report.message)
            return
        budget = self.between.budgets[device] = max(least, report.token_budget // 2)
        self.emit(
            Warned(
                f"device {device} ran out of memory at a token budget of {report.token_budget} and "
                f"goes on with {budget}; set VIRNUC_TOKEN_BUDGET to start with less"
            )
        )
        self._restart(device)

    def _leave_out(self, device: str, why: str) -> None:
        if self.spare:
            self._start(self.spare.popleft())
        elif not (self.schedule.devices or self.pool.unplaced() or self.schedule.is_over):
            raise RunnerError(f"{why}; there is no other device to go on with")
        self.emit(Warned(f"device {device} is left out: {why}"))

    # What becomes of a block.

    def _judge(self, device: str, block: Block, broke: Broke) -> None:
        self.record.blocks_failed += 1
        if broke.row is not None:
            position = position_of(self.job, broke.row)
            verdict: Verdict = self.schedule.set_aside(block, position)
        else:
            verdict = self.schedule.fail(device, block, divisible=not broke.explained)
        what = f"shard {block.shard}, block {block.block}"
        why = _last_line(broke.message)
        match verdict:
            case Again():
                self.emit(Warned(f"{what} failed on {device} and is tried again: {why}"))
                if self.spare and not self.schedule.devices:
                    self._start(self.spare.popleft())  # it may be the device that is at fault
            case Cut() if block.whole:
                self.emit(
                    Warned(
                        f"{what} failed on {device} too and is cut in pieces, to find the sequence "
                        f"that breaks it: {why}"
                    )
                )
            case Cut():
                _log.info("%s: rows %d to %d hold it: %s", what, block.start, block.stop, why)
            case SetAside(position=position):
                if self.books.set_aside(block, position, why):
                    self.schedule.add(block.piece(block.stop, block.stop))
                self._tell_progress()
            case GivenUp():
                self.failures.setdefault(block.shard, (broke.message, broke.explained))
        if self.schedule.failures_in_a_row >= _MOST_FAILURES_IN_A_ROW:
            raise RunnerError(
                f"{self.schedule.failures_in_a_row} blocks in a row failed, the last with: {why}; "
                "the machine or the weights are at fault, see the log and run `virnuc doctor`"
            )

    def _warn_of_starvation(self) -> None:
        if time.monotonic() - (self.started_at or time.monotonic()) < _SECONDS_TO_JUDGE_STARVATION:
            return
        for device, share, level in self.record.starved():
            self.emit(
                Warned(
                    f"GPU {device} was busy {share:.0%} of the time ({level}): the host did not "
                    "keep up with it; give the run more CPU cores, or faster storage"
                )
            )


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
