"""The local worker pool: spawned processes, one a device, and what they say."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.worker import Message

_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Died:
    """A worker's process ended without saying why."""

    exit_code: int | None


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection


class LocalPool:
    """Workers keyed by device. A context manager: on leaving it no worker is alive."""

    def __init__(self, target: Callable[..., None], arguments: Sequence[Any]) -> None:
        """A pool whose workers run `target(connection, device, *arguments)`."""
        # Spawn, never fork: a forked child cannot use CUDA.
        self._context = multiprocessing.get_context("spawn")
        self._target = target
        self._arguments = tuple(arguments)
        self._workers: dict[str, _Worker] = {}

    def start(self, device: str) -> None:
        """Start the worker of `device`."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=self._target,
            args=(theirs, device, *self._arguments),
            name=f"virnuc-worker-{device}",
            daemon=True,
        )
        process.start()
        theirs.close()
        self._workers[device] = _Worker(process, ours)

    def send(self, device: str, block: Block) -> None:
        """Hand a block to a free worker; one that died meanwhile is found by `wait`."""
        worker = self._workers.get(device)
        if worker is not None:
            with suppress(BrokenPipeError, ConnectionResetError):
                worker.connection.send(block)

    def wait(self) -> list[tuple[str, Message | Died]]:
        """Block until workers have something to say; a dead worker leaves the pool."""
        wait([worker.connection for worker in self._workers.values()])
        said: list[tuple[str, Message | Died]] = []
        for device, worker in list(self._workers.items()):
            if not worker.connection.poll():
                continue
            try:
                said.append((device, worker.connection.recv()))
            except (EOFError, ConnectionResetError):
                del self._workers[device]
                worker.process.join()
                said.append((device, Died(worker.process.exitcode)))
        return said

    def retire(self, device: str) -> None:
        """End the worker of `device`, if there is one."""
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
        _end(list(self._workers.values()))
        self._workers.clear()


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(_STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.connection.close()
