"""Work spread over the processor's cores by threads; compiled loops and Arrow hold no lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 4  # memory grows with threads, and one reader keeps up with no more than a few


def usable_cores() -> int:
    """How many cores this process may run on, of those that it can make use of."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, _MOST)


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield `function(item)` for each of `items`, in their order.

    `items` is read a few ahead of what is yielded, so that at most `threads + 1` of them or of
    their results are held. The first exception is raised in its turn; what is not begun then is
    dropped. One thread is the caller's own: another would only wait for it, on one core.
    """
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
