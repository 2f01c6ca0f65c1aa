"""One writer at a time in a folder."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from virnuc_assets.errors import StoreError

_log = logging.getLogger(__name__)


@contextmanager
def sole_writer(directory: Path, tell: Callable[[str], None] = _log.warning) -> Iterator[None]:
    """Hold the kernel's lock on `directory` itself, made if need be; wait for who holds it.

    There is no lock file: the lock goes with the process, however that ends. `tell` is told when
    there is something to wait for.

    Raises:
        StoreError: the folder cannot be made or opened.
    """
    while True:
        descriptor = _open(directory)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell(f"{directory}: another process is writing to this folder; waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_still(directory, descriptor):
                continue  # who held it removed the folder: lock the new one
            yield
            return
        finally:
            os.close(descriptor)


def _open(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise StoreError(
            f"{directory}: cannot be written ({error.strerror}); choose another output folder or "
            "change its permissions"
        ) from error


def _is_still(directory: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(directory.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
