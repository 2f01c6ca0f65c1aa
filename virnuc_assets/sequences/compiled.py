"""Loops over buffers, compiled to machine code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar, cast

import numba

_log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile `function` at its first call, without the interpreter's lock.

    So threads run compiled loops side by side. The machine code is kept for later processes,
    beside the module or, where that folder cannot be written, in the user's cache folder; where
    neither can, each process compiles anew.
    """
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError as error:
        _log.warning(
            "%s is compiled anew in every process (%s); set NUMBA_CACHE_DIR to a folder that can "
            "be written",
            function.__name__,
            error,
        )
        return cast(Function, numba.njit(nogil=True)(function))
