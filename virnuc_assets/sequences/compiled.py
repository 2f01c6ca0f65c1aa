"""Loops over buffers, compiled to machine code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
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
        if "cannot cache" not in str(error):
            raise
        _warn_of_no_cache()
        return cast(Function, numba.njit(nogil=True)(function))


@cache
def _warn_of_no_cache() -> None:
    _log.warning(
        "the front end is compiled anew in every process, which takes seconds; set NUMBA_CACHE_DIR "
        "to a folder that can be written"
    )
