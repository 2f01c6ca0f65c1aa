"""Who makes which shards of a folder: runs of different shards go on side by side.

They hold the kernel's locks on empty files in `.locks` beside the shards: one a shard, and one for
what concerns the whole folder, which is held for as long as that takes. A lock goes with the
process, however that ends; the files stay, for who holds a lock on a file that was removed holds
nothing. Locks on files reach other hosts where the file system passes them on, as NFS does; those
on a folder itself (see `lock`) do not.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from virnuc_assets.errors import DiskFullError, StoreError
from virnuc_assets.store.atomic import leftovers_of
from virnuc_assets.store.embeddings import EmbeddingFile, shard_path
from virnuc_assets.store.view import VIEW_FILE, remove_view, renew_view

LOCKS = ".locks"
_WHOLE = "whole"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnShards:
    """Shards that nobody else makes until they are given back."""

    folder: Path
    n_shards: int
    _own: frozenset[Path]
    _held: ExitStack

    def hide_view(self) -> None:
        """Remove the view of all shards: while some are replaced it would show old and new ones."""
        with whole_folder(self.folder):
            remove_view(self.folder)

    def give_back(self, known: Mapping[int, EmbeddingFile]) -> None:
        """Let others have the shards; make the view of all, unless others are still at work.

        Whoever of them is the last makes it. `known`: shards that were just verified.

        Raises:
            DiskFullError: there is no room for the view.
            StoreError: it cannot be written.
        """
        with whole_folder(self.folder):
            if not any(_is_held(path) for path in _shard_locks(self.folder) - self._own):
                for left in leftovers_of(self.folder / VIEW_FILE):
                    left.unlink(missing_ok=True)
                renew_view(self.folder, self.n_shards, known)
            self._held.close()


@contextmanager
def own_shards(
    folder: Path,
    n_shards: int,
    shards: Sequence[int],
    tell: Callable[[str], None] = _log.warning,
) -> Iterator[OwnShards]:
    """Be the only one who makes `shards` (of `n_shards`) of `folder`, made if need be.

    All are taken or none: who waits for one that another makes, which `tell` is told, keeps nobody
    waiting for the rest.

    Raises:
        StoreError: the folder cannot be made or written, or its file system has no locks.
        DiskFullError: its disk has no room for an empty file.
    """
    paths = {shard: _lock_of(folder, shard, n_shards) for shard in shards}
    while True:
        with ExitStack() as held:
            with whole_folder(folder):
                busy = next((s for s in shards if not held.enter_context(_taken(paths[s]))), None)
            if busy is None:
                yield OwnShards(folder, n_shards, frozenset(paths.values()), held)
                return
        path = shard_path(folder, busy, n_shards)
        tell(f"{path}: another run is making this shard; waiting for it")
        _wait_for(paths[busy])


@contextmanager
def whole_folder(folder: Path) -> Iterator[None]:
    """Be the only one who does something that concerns all shards of `folder`; wait for another.

    Shards are taken and given back within it. It is not to be entered within itself.

    Raises:
        StoreError, DiskFullError: as `own_shards`.
    """
    path = folder / LOCKS / _WHOLE
    while True:
        with closing(_Lock(path)) as lock:
            lock.take(fcntl.LOCK_EX)
            if lock.is_still_there():
                yield
                return
        # The folder was removed meanwhile.


@contextmanager
def folder_if_free(folder: Path) -> Iterator[bool]:
    """Whether nobody is at work in `folder` or on a shard of it; inside, nobody begins to be.

    Nothing is written: a folder that has no locks yet is free, and is not held.

    Raises:
        StoreError: as `own_shards`.
    """
    try:
        lock = _Lock(folder / LOCKS / _WHOLE, make=False)
    except FileNotFoundError:
        yield True
        return
    with closing(lock):
        # A shared one, for which a file that may only be read will do; runs want it for themselves.
        mine = lock.take(fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield mine and not any(map(_is_held, _shard_locks(folder)))


def is_being_made(folder: Path, shard: int, n_shards: int) -> bool:
    """Whether someone makes this shard of `folder`, the caller included."""
    return _is_held(_lock_of(folder, shard, n_shards))


def _lock_of(folder: Path, shard: int, n_shards: int) -> Path:
    return folder / LOCKS / shard_path(folder, shard, n_shards).stem


def _shard_locks(folder: Path) -> set[Path]:
    return {path for path in (folder / LOCKS).iterdir() if path.name != _WHOLE}


@contextmanager
def _taken(path: Path) -> Iterator[bool]:
    """Hold a lock, unless someone else does; whether that is so."""
    with closing(_Lock(path)) as lock:
        yield lock.take(fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_held(path: Path) -> bool:
    try:
        lock = _Lock(path, make=False)
    except FileNotFoundError:
        return False
    with closing(lock):
        return not lock.take(fcntl.LOCK_SH | fcntl.LOCK_NB)


def _wait_for(path: Path) -> None:
    with closing(_Lock(path)) as lock:
        lock.take(fcntl.LOCK_SH)


class _Lock:
    """A lock on an empty file; held by this opening of it until it is closed.

    Without `make` it must be there, and be taken as a shared one.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.path = path
        folder = path.parent.parent
        try:
            if make:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT if make else os.O_RDONLY, 0o666)
        except OSError as error:
            if not make and isinstance(error, FileNotFoundError):
                raise
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(folder) from error
            raise StoreError(
                f"{folder}: cannot be {'written' if make else 'read'} ({error.strerror}); choose "
                "another output folder or change its permissions"
            ) from error

    def take(self, how: int) -> bool:
        """Take it, `how` as `flock` has it; whether nobody else holds it."""
        try:
            fcntl.flock(self._descriptor, how)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be locked ({error.strerror}); mount its file system with "
                "locks, or choose another output folder"
            ) from error
        return True

    def is_still_there(self) -> bool:
        """Whether its file was not removed since it was opened."""
        with suppress(FileNotFoundError):
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        return False

    def close(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)
