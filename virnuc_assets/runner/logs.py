"""Where a run's processes log to: standard error, and each worker besides to a file of its own."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TextIO

_log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(name)s: %(message)s"
FOLDER = "logs"
"""Folder of the workers' files, beside the run's record."""


@dataclass(frozen=True)
class Logs:
    """What workers log: warnings and whatever else `level` lets pass to standard error.

    With a `folder`, all that they log from INFO on, and all that libraries print to standard
    error, goes to a file there; to standard error goes only what they log.
    """

    level: int
    folder: Path | None = None

    def file(self, device: str) -> Path | None:
        """The file of the worker on `device`."""
        if self.folder is None:
            return None
        return self.folder / f"worker-{re.sub('[^A-Za-z0-9-]', '_', device)}.log"

    def clear(self) -> None:
        """Remove the files of an earlier run."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self, device: str) -> None:
        """Begin to log, in the process of the worker on `device`; a restarted one goes on.

        With a folder it may be called again, of another job's logs: they go there from then on.
        """
        told = logging.StreamHandler(sys.stderr)
        told.setLevel(self.level)
        handlers: list[logging.Handler] = [told]
        path = self.file(device)
        fault = None
        if path is not None:
            told.setStream(_standard_error())
            try:
                _to_file(path)
                handlers.append(logging.StreamHandler(sys.stderr))
            except OSError as error:
                os.dup2(_standard_error().fileno(), 2)
                fault = error.strerror
        logging.basicConfig(
            level=self.level if len(handlers) == 1 else min(self.level, logging.INFO),
            format=LOG_FORMAT,
            handlers=handlers,
            force=path is not None,
        )
        if fault is not None:
            _log.warning("%s: cannot be written (%s)", path, fault)


@cache
def _standard_error() -> TextIO:
    """What was this process's standard error before a file took its place."""
    return os.fdopen(os.dup(2), "w")


def _to_file(path: Path) -> None:
    """Put a file in the place of standard error, for what is no Python's too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 2)
    os.close(descriptor)
