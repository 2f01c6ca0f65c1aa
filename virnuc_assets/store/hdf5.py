"""Writing HDF5 files so that a full disk is an error and not a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import h5py


@contextmanager
def new_hdf5(
    path: Path, userblock_bytes: int = 0, oldest_reader: str = "earliest"
) -> Iterator[h5py.File]:
    """Create an HDF5 file at `path`, whose first `userblock_bytes` HDF5 leaves alone.

    `oldest_reader`: the oldest HDF5 that must be able to read it, as h5py's `libver` names them.

    Raises:
        OSError: it could not be written, with the system's number and words.
    """
    with FileIO(path, "w+") as raw:
        target = _Target(raw)
        try:
            with h5py.File(
                target,
                "w",
                userblock_size=userblock_bytes or None,
                libver=(oldest_reader, "latest"),
            ) as file:
                yield file
        except Exception:
            # What HDF5 makes of writes that went nowhere explains nothing.
            if target.failure is None:
                raise
        if target.failure is not None:
            raise target.failure


class _Target:
    """The file that HDF5 writes to.

    HDF5 crashes when it fails to flush what it holds, so it is never told: after the first failure
    writes go nowhere, and `failure` is raised once it has closed the file.
    """

    def __init__(self, raw: FileIO) -> None:
        self.raw = raw
        self.failure: OSError | None = None

    def write(self, data: memoryview) -> int:
        rest = memoryview(data)
        try:
            while self.failure is None and len(rest):
                rest = rest[self.raw.write(rest) :]
        except OSError as error:
            self.failure = error
        return len(data)

    def truncate(self, size: int) -> int:
        try:
            if self.failure is None:
                self.raw.truncate(size)
        except OSError as error:
            self.failure = error
        return size

    def read(self, size: int) -> bytes:
        return self.raw.read(size)

    def readinto(self, buffer: memoryview) -> int:
        return self.raw.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def flush(self) -> None:
        """Nothing is held back."""
