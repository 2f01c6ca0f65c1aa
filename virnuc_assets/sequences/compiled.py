"""Loops over buffers, compiled to machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile `function` at its first call, without the interpreter's lock.

    So threads run compiled loops side by side. The machine code is kept for later processes,
    beside the module or, where that folder cannot be written, in the user's cache folder.
    """
    return cast(Function, numba.njit(nogil=True, cache=True)(function))
