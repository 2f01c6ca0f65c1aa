"""Who makes which shards of a folder: runs of different shards go on side by side.

They hold the kernel's locks on bytes of `.lock`, an empty file in the folder that stays there: one
byte a shard, and one for what concerns the whole folder, which is held for as long as that takes. A
lock goes with the process, however that ends. Locks on a file reach other hosts where the file
system passes them on, as NFS does; those on a folder itself (see `lock`) do not.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from virnuc_assets.errors import DiskFullError, StoreError
from virnuc_assets.store.atomic import leftovers_of
from virnuc_assets.store.embeddings import EmbeddingFile, shard_path
from virnuc_assets.store.view import VIEW_FILE, remove_view, renew_view

LOCK_FILE = ".lock"
_WHOLE, _SHARDS = 0, 1
"""The byte of the whole folder, and the first that may be a shard's."""
_MOST_SHARDS = 2**20
_TO_THE_END = 0
_FLOCK = "hhqqi"
"""The kernel's `struct flock`: kind, whence, start, length, process."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnShards:
    """Shards that nobody else makes until they are given back."""

    folder: Path
    n_shards: int
    _locks: _Locks

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
            if not self._locks.others_hold(_SHARDS, _TO_THE_END):
                for left in leftovers_of(self.folder / VIEW_FILE):
                    left.unlink(missing_ok=True)
                renew_view(self.folder, self.n_shards, known)
            self._locks.drop(_SHARDS, _TO_THE_END)


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
    while True:
        with closing(_open(folder)) as locks:
            with whole_folder(folder):
                if not locks.are_those_of(folder):
                    continue  # the folder was removed meanwhile
                busy = next((s for s in shards if not locks.take(_byte(s, n_shards), 1)), None)
                if busy is not None:
                    locks.drop(_SHARDS, _TO_THE_END)
            if busy is None:
                yield OwnShards(folder, n_shards, locks)
                return
            path = shard_path(folder, busy, n_shards)
            tell(f"{path}: another run is making this shard; waiting for it")
            locks.wait_for(_byte(busy, n_shards), 1)


@contextmanager
def whole_folder(folder: Path) -> Iterator[None]:
    """Be the only one who does something that concerns all shards of `folder`; wait for another.

    Shards are taken and given back within it. It is not to be entered within itself.

    Raises:
        StoreError, DiskFullError: as `own_shards`.
    """
    while True:
        with closing(_open(folder)) as locks:
            locks.take_in_turn(_WHOLE, 1)
            if not locks.are_those_of(folder):
                continue  # the folder was removed meanwhile
            yield
            return


@contextmanager
def folder_if_free(folder: Path) -> Iterator[bool]:
    """Whether nobody is at work in `folder` or on a shard of it; inside, nobody begins to be.

    Raises:
        StoreError, DiskFullError: as `own_shards`.
    """
    with closing(_open(folder)) as locks:
        yield locks.take(_WHOLE, _TO_THE_END)


def is_being_made(folder: Path, shard: int, n_shards: int) -> bool:
    """Whether someone makes this shard of `folder`, the caller included."""
    with closing(_open(folder)) as locks:
        return locks.others_hold(_byte(shard, n_shards), 1)


def _byte(shard: int, n_shards: int) -> int:
    return n_shards * _MOST_SHARDS + shard


@dataclass(frozen=True)
class _Locks:
    """Locks on bytes of a folder's lock file, held by this opening of it."""

    path: Path
    descriptor: int

    def take(self, start: int, length: int) -> bool:
        """Take what nobody else holds; whether that is so."""
        try:
            self._ask(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, start, length)
        except BlockingIOError:
            return False
        return True

    def take_in_turn(self, start: int, length: int) -> None:
        """Take it when nobody else holds it any longer."""
        self._ask(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, start, length)

    def wait_for(self, start: int, length: int) -> None:
        """Wait until nobody holds it."""
        self._ask(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK, start, length)
        self.drop(start, length)

    def drop(self, start: int, length: int) -> None:
        """Let others have it."""
        self._ask(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, start, length)

    def others_hold(self, start: int, length: int) -> bool:
        """Whether someone else holds a part of it."""
        return self._ask(fcntl.F_OFD_GETLK, fcntl.F_WRLCK, start, length) != fcntl.F_UNLCK

    def are_those_of(self, folder: Path) -> bool:
        """Whether this is still the folder's lock file."""
        try:
            return os.path.samestat((folder / LOCK_FILE).stat(), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let others have all of it."""
        os.close(self.descriptor)

    def _ask(self, command: int, kind: int, start: int, length: int) -> int:
        asked = struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)
        try:
            answer = fcntl.fcntl(self.descriptor, command, asked)
        except BlockingIOError:
            raise
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be locked ({error.strerror}); mount its file system with "
                "locks, or choose another output folder"
            ) from error
        found: int = struct.unpack_from(_FLOCK, answer)[0]
        return found


def _open(folder: Path) -> _Locks:
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _Locks(path, os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(folder) from error
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}); choose another output folder or "
            "change its permissions"
        ) from error
