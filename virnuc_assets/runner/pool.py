"""Worker pools: processes that own one device each, and what they say.

A worker runs `target(link, device, job, *arguments)`.
"""

from __future__ import annotations

import ctypes
import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol

from virnuc_assets.runner.devices import is_cpu
from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.runner.lifeline import Lifeline, serve
from virnuc_assets.runner.link import Link, Signs, Watch
from virnuc_assets.runner.messages import Died, Finished, Hung, NextJob, Ready, Report
from virnuc_assets.runner.plan import Block

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_STALL_SILENCES = 10
# A killed process that the kernel holds on to, in a driver's call or on a lost file system.
_DYING_SECONDS = 5.0


class Pool(Protocol):
    """What the coordinator asks of workers, wherever they run.

    A context manager: on leaving it no worker is alive.
    """

    def start(self, device: str, job: Job) -> None:
        """Start the worker of `device`."""

    def send(self, device: str, block: Block) -> None:
        """Hand a block to a worker."""

    def wait(self) -> list[tuple[str, Report]]:
        """What workers say, after a second at most; who died, hung or is lost has left the pool."""

    def unplaced(self) -> list[str]:
        """Devices that were started and wait for a machine that has one."""

    def retire(self, device: str) -> None:
        """End the worker of `device`, if there is one, whatever state it is in."""

    def __enter__(self) -> Pool: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    signs: Signs
    watch: Watch
    encoding: Encoding
    turn: int = 0
    """Which of its jobs it is at, or has been told to go on with."""


class IdleWorkers:
    """Workers between two local pools, by device; some may still load their encoder."""

    def __init__(self) -> None:
        """None so far."""
        self._workers: dict[str, _Worker] = {}
        self._since = time.monotonic()

    def take(self, device: str, encoding: Encoding) -> _Worker | None:
        """The worker of `device`, if it is alive and embeds by `encoding`; another is ended."""
        worker = self._workers.pop(device, None)
        if worker is None or (worker.process.is_alive() and worker.encoding == encoding):
            return worker
        _end([worker])
        return None

    def put(self, workers: Mapping[str, _Worker]) -> None:
        """Keep workers that have no block."""
        self._workers.update(workers)
        self._since = time.monotonic()

    def end_after(self, seconds: float) -> None:
        """End them all if none was put here for so long, that others may have their devices."""
        if time.monotonic() - self._since >= seconds:
            self.end()

    def end(self) -> None:
        """End them all."""
        _end(list(self._workers.values()))
        self._workers.clear()


class LocalPool:
    """Spawned processes of this machine, keyed by device."""

    def __init__(
        self,
        target: Callable[..., None],
        arguments: Sequence[Any],
        look_seconds: float = _LOOK_SECONDS,
        idle: IdleWorkers | None = None,
    ) -> None:
        """A pool whose workers run `target(link, device, job, *arguments)`.

        `look_seconds`: how long `wait` waits where nobody says anything. `idle`: where workers of
        the same target come from, and go to when all went well; they take `NextJob`.
        """
        # Spawn, never fork: a forked child cannot use CUDA.
        self._context = multiprocessing.get_context("spawn")
        self._target = target
        self._arguments = tuple(arguments)
        self._look_seconds = look_seconds
        self._idle = idle
        self._workers: dict[str, _Worker] = {}

    def start(self, device: str, job: Job) -> None:
        """Start the worker of `device`, or have an idle one go on with `job`."""
        worker = None if self._idle is None else self._idle.take(device, job.encoding)
        if worker is None:
            worker = self._spawn(device, job)
        else:
            worker.turn += 1
            worker.watch = _watch(device, job)
            # One that died meanwhile is found by `wait`.
            with suppress(BrokenPipeError, ConnectionResetError):
                worker.connection.send(NextJob(worker.turn, job, self._arguments))
        self._workers[device] = worker

    def _spawn(self, device: str, job: Job) -> _Worker:
        ours, theirs = self._context.Pipe()
        signs = self._context.RawArray(ctypes.c_double, 2)
        process = self._context.Process(
            target=serve,
            args=(Lifeline(), self._target, Link(theirs, signs), device, job, *self._arguments),
            name=f"virnuc-worker-{device}",
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, signs, _watch(device, job), job.encoding)

    def send(self, device: str, block: Block) -> None:
        """Hand a block to a worker; one that died meanwhile is found by `wait`."""
        worker = self._workers.get(device)
        if worker is not None:
            worker.watch.in_hand += 1
            if worker.watch.in_hand == 1:
                worker.watch.moved()
            with suppress(BrokenPipeError, ConnectionResetError):
                worker.connection.send(block)

    def wait(self) -> list[tuple[str, Report]]:
        """What workers say, after a second at most; who died or hung has left the pool."""
        wait([worker.connection for worker in self._workers.values()], self._look_seconds)
        said: list[tuple[str, Report]] = []
        hung: list[_Worker] = []
        for device, worker in list(self._workers.items()):
            if worker.connection.poll():
                report = self._receive(device, worker)
                said += [] if report is None else [(device, report)]
            elif why := worker.watch.look(time.monotonic(), *worker.signs):
                hung.append(self._workers.pop(device))
                said.append((device, Hung(why)))
        _end(hung)
        return said

    def _receive(self, device: str, worker: _Worker) -> Report | None:
        """What a worker says; None if that is of an earlier job, which went on without it."""
        turn: int | None
        message: Report
        try:
            turn, message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            del self._workers[device]
            worker.connection.close()
            worker.process.join(_DYING_SECONDS)
            return Died(worker.process.exitcode)
        if turn not in (None, worker.turn):
            return None
        match message:
            case Ready():
                worker.watch.ready = True
            case Finished():
                worker.watch.in_hand -= 1
                worker.watch.moved()
        return message

    def unplaced(self) -> list[str]:
        """None: every device is here."""
        return []

    def retire(self, device: str) -> None:
        """End the worker of `device`, if there is one, whatever state it is in."""
        worker = self._workers.pop(device, None)
        if worker is not None:
            _end([worker])

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._idle is not None and error is None:
            self._idle.put(self._workers)
        else:
            _end(list(self._workers.values()))
        self._workers.clear()


def _watch(device: str, job: Job) -> Watch:
    # A pack of a large model on a CPU may take longer than any patience.
    stall = math.inf if is_cpu(device) else job.silence_seconds * _STALL_SILENCES
    return Watch(job.silence_seconds, stall)


def _end(workers: Sequence[_Worker]) -> None:
    # What a worker publishes appears whole or not at all, so it may die anywhere; and a stopped one
    # takes no other signal.
    for worker in workers:
        worker.process.kill()
    until = time.monotonic() + _DYING_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            _log.warning("process %s is killed but does not end", worker.process.pid)
        worker.connection.close()
