"""Work beside the main thread, which signals interrupt."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")


def in_thread(
    function: Callable[P, Result], *arguments: P.args, **named: P.kwargs
) -> Future[Result]:
    """Call `function` in a daemon thread of its own.

    Whatever writes HDF5 where a signal may raise goes through here: an exception in the middle of
    HDF5's own calls would crash the process, and signals interrupt the main thread alone. A process
    that is ended does not wait for such a thread; it must `leave`.
    """
    future: Future[Result] = Future()

    def go() -> None:
        try:
            future.set_result(function(*arguments, **named))
        except BaseException as error:  # noqa: BLE001  raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=go, daemon=True).start()
    return future


def leave(code: int) -> NoReturn:
    """End the process, without the interpreter's own end.

    That would wait for ever for a thread that is deep in HDF5 with a file, and holds its lock.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
