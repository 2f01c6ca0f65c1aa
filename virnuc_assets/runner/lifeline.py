"""What makes a worker's process end with the coordinator's, from as early on as can be.

Imports the standard library and `link`, which imports nothing else: all that a worker loads before
this is done, it loads without anybody who would end it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any

from virnuc_assets.runner.link import Link

_PR_SET_PDEATHSIG = 1


class Lifeline:
    """The first argument of a spawned process, which ends with its parent once it has read it.

    A process reads its arguments before it does anything, and imports on the way what they need.
    """

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return _end_with, (os.getpid(),)


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        # By the kernel, which ends a stopped process too, and one stuck in a driver's call. The
        # parent is the thread that started this process: the main one, which lives to the end.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it went before the kernel could be asked
        os._exit(1)


def serve(
    lifeline: None, target: Callable[..., None], link: Link, device: str, *arguments: Any
) -> None:
    """Run `target(link, device, *arguments)`, and beside it what every worker's process needs.

    `lifeline`: what a process reads a `Lifeline` as.
    """
    # A Ctrl-C reaches the whole foreground group; the coordinator alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()
    link.beat()
    target(link, device, *arguments)


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
