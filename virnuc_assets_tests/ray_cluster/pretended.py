"""Workers that only pretend to work; what one does is said by its block's number."""

from __future__ import annotations

import os
import signal
import time

from virnuc_assets.runner.messages import Ready

DIE, STOP, STOP_THE_ACTOR, KILL_THE_ACTOR, ANSWER = range(5)


def work(link, device, job, digests, logs):
    """Say which GPU it was given, then what becomes of it."""
    link.send(Ready(os.getpid()))
    link.send((device, logs.folder and logs.folder.name))
    while (block := link.recv()) is not None:
        match block.block:
            case n if n == DIE:
                os._exit(9)
            case n if n == STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            case n if n == STOP_THE_ACTOR:
                os.kill(os.getppid(), signal.SIGSTOP)
            case n if n == KILL_THE_ACTOR:
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            case _:
                link.send("done")


class CannotBeRead:
    """What a worker's machine cannot load."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise RuntimeError("no such thing here")
