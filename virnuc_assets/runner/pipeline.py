"""Blocks through a worker: while one computes, the next is prepared and the last is written."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Queue
from typing import Generic, TypeVar

from virnuc_assets.runner.plan import Block

# How often a stage that waits for a block looks whether the one before could be written.
_LOOK_SECONDS = 0.5

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class BlockError(Exception):
    """What was raised for a block, as the cause."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        self.block = block


class Pipeline(Generic[Batch, Result]):
    """Three stages, each in a thread of its own, with one block between each two.

    `receive` gives the next block, or None after the last, and may raise EOFError in its place;
    `prepare` makes it a batch. `compute` takes batches, and None where the next is not ready, and
    yields a result for each. `publish` is given a block, its result and the seconds it took the
    compute stage. An error in `compute` is put down to the oldest block in it, though it may be the
    next one's, whose work has begun.
    """

    def __init__(
        self,
        receive: Callable[[], Block | None],
        prepare: Callable[[Block], Batch],
        compute: Callable[[Iterable[Batch | None]], Iterator[Result]],
        publish: Callable[[Block, Result, float], None],
    ) -> None:
        self._receive, self._prepare = receive, prepare
        self._compute, self._publish = compute, publish
        self._ready: Queue[tuple[Block, Batch | Exception] | Exception | None] = Queue(maxsize=1)
        self._begun: deque[tuple[Block, float]] = deque()
        self._publishing: tuple[Block, Future[None]] | None = None

    def run(self) -> None:
        """Take blocks until there are no more.

        Raises:
            BlockError: a stage raised for a block; blocks before it have been published.
        """
        threading.Thread(target=self._prepare_all, daemon=True).start()
        freed = 0.0
        with ThreadPoolExecutor(1) as publisher:
            try:
                for result in self._compute(self._batches()):
                    block, begun = self._begun.popleft()
                    now = time.monotonic()
                    seconds, freed = now - max(begun, freed), now
                    self._finish()
                    future = publisher.submit(self._publish, block, result, seconds)
                    self._publishing = block, future
                self._finish()
            except Exception as error:
                if isinstance(error, BlockError) or not self._begun:
                    raise
                raise BlockError(self._begun[0][0]) from error

    def _prepare_all(self) -> None:
        """Fill the queue; an error goes into it and is raised where it is taken out."""
        end: Exception | None = None
        try:
            while (block := self._receive()) is not None:
                batch: Batch | Exception
                try:
                    batch = self._prepare(block)
                except Exception as error:  # noqa: BLE001
                    batch = error
                self._ready.put((block, batch))
        except (EOFError, ConnectionError):
            pass  # the coordinator is gone: what is under way is finished
        except Exception as error:  # noqa: BLE001
            end = error
        self._ready.put(end)

    def _batches(self) -> Iterator[Batch | None]:
        while True:
            try:
                ready = self._ready.get_nowait()
            except Empty:
                yield None
                ready = self._wait()
            if ready is None:
                return
            if isinstance(ready, Exception):
                raise ready
            block, batch = ready
            if isinstance(batch, Exception):
                raise BlockError(block) from batch
            self._begun.append((block, time.monotonic()))
            yield batch

    def _wait(self) -> tuple[Block, Batch | Exception] | Exception | None:
        """What is ready next; a block that could not be written ends the wait."""
        while True:
            try:
                return self._ready.get(timeout=_LOOK_SECONDS)
            except Empty:
                if self._publishing is not None and self._publishing[1].done():
                    self._finish()

    def _finish(self) -> None:
        if self._publishing is None:
            return
        block, future = self._publishing
        try:
            future.result()
        except Exception as error:
            raise BlockError(block) from error
