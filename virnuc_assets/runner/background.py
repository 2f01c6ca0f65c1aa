"""Work beside the main thread, which signals interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")


def in_thread(
    function: Callable[P, Result], *arguments: P.args, **named: P.kwargs
) -> Future[Result]:
    """Call `function` in a daemon thread of its own.

    Whatever writes HDF5 in the coordinator goes through here: an exception that a signal raises
    in the middle of HDF5's own calls would crash the process, and signals interrupt the main
    thread alone. A run that is ended does not wait for such a thread.
    """
    future: Future[Result] = Future()

    def go() -> None:
        try:
            future.set_result(function(*arguments, **named))
        except BaseException as error:  # noqa: BLE001  raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=go, daemon=True).start()
    return future
