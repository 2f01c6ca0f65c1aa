"""A sequence file as bytes: unpacked as it is read, identified, and watched for change."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa
from isal import igzip, igzip_lib, isal_zlib

from virnuc_assets.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_EXTRA = 4
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after 0x5?: a frame of no text, as pzstd begins with
_REST = 1 << 20
_DAMAGED = cast(
    tuple[type[Exception], ...], (gzip.BadGzipFile, igzip_lib.IsalError, isal_zlib.error)
)


@dataclass(frozen=True)
class InputFile:
    """What a file was when it was read: its size in bytes, time of change and SHA-256."""

    path: Path
    size: int
    modified_ns: int
    sha256: str


class OpenInput:
    """A sequence file that is being read: its text, and in the end what the file was."""

    def __init__(self, path: Path, file: io.FileIO) -> None:
        """Read from `file`, which is at its start."""
        self.path = path
        self._raw = _Digested(file)
        self._status = os.fstat(file.fileno())
        self._kind = "file"
        self._text: io.RawIOBase = self._raw
        magic = file.read(len(_ZSTD_MAGIC))
        file.seek(0)
        if not magic:
            raise InputError(f"{path}: the file is empty; give a FASTA or FASTQ file with records")
        if magic.startswith(_GZIP_MAGIC):
            self._kind = "gzip file"
            self._check_end_of_bgzip(file)
            self._text = cast(io.RawIOBase, igzip.IGzipFile(fileobj=self._raw, mode="rb"))
        elif magic == _ZSTD_MAGIC or (magic[0] >> 4 == 5 and magic[1:] == _ZSTD_SKIPPABLE):
            self._kind = "zstd file"
            self._text = pa.CompressedInputStream(pa.PythonFile(self._raw, "r"), "zstd")

    def _check_end_of_bgzip(self, file: io.FileIO) -> None:
        """Refuse bgzip without its last, empty block: what is cut between blocks is valid gzip."""
        flags_at, extra_at = 3, 12
        start = os.pread(file.fileno(), extra_at + 2, 0)
        end_at = max(self._status.st_size - len(_BGZIP_END), 0)
        blocked = start.endswith(b"BC") and len(start) == extra_at + 2
        if not blocked or not start[flags_at] & _GZIP_EXTRA:
            return
        if os.pread(file.fileno(), len(_BGZIP_END), end_at) != _BGZIP_END:
            raise InputError(f"{self.path}: the gzip file is truncated; copy or download it again")

    def readinto(self, buffer: memoryview) -> int:
        """Fill the start of `buffer` with text; how many bytes, 0 at the end.

        Raises:
            InputError: the file cannot be read, or is truncated or damaged where compressed.
        """
        with _faults_named(self.path, self._kind):
            return self._text.readinto(buffer) or 0

    def identity(self) -> InputFile:
        """What the file was, once its text has been read to the end.

        Raises:
            InputError: the file grew, shrank, was rewritten or was removed meanwhile.
        """
        with _faults_named(self.path, self._kind):
            while self._raw.read(_REST):
                pass
        size, modified = self._status.st_size, self._status.st_mtime_ns
        file = InputFile(self.path, size, modified, self._raw.digest.hexdigest())
        check_unchanged(file)
        return file


class _Digested(io.RawIOBase):
    """A file that hashes what is read from it."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        count = self._file.readinto(buffer) or 0
        self.digest.update(memoryview(buffer)[:count])
        return count


def identify(path: Path) -> InputFile:
    """Take the identity of a file without reading its text.

    Raises:
        InputError: the file is missing, unreadable or empty.
    """
    with open_input(path) as source:
        return source.identity()


def check_unchanged(file: InputFile) -> None:
    """Make sure, once a file has been read, that it is still the one identified.

    Raises:
        InputError: the file grew, shrank, was rewritten or was removed meanwhile.
    """
    try:
        status = file.path.stat()
        unchanged = (status.st_size, status.st_mtime_ns) == (file.size, file.modified_ns)
    except FileNotFoundError:
        unchanged = False
    if not unchanged:
        raise InputError(
            f"{file.path}: the file changed while it was read; start again once it is fully copied"
        )


@contextmanager
def open_input(path: Path) -> Iterator[OpenInput]:
    """Open a file for its text, unpacking gzip (bgzip too) and zstd, told by the first bytes.

    Raises:
        InputError: the file is missing, unreadable or empty.
    """
    with _faults_named(path, "file"):
        file = path.open("rb", buffering=0)
    with file:
        with _faults_named(path, "file"):
            source = OpenInput(path, file)
        yield source


@contextmanager
def _faults_named(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except EOFError as error:
        raise InputError(f"{path}: the {kind} is truncated; copy or download it again") from error
    except _DAMAGED as error:
        raise InputError(
            f"{path}: the {kind} is damaged ({error}); copy or download it again"
        ) from error
    except OSError as error:
        if error.errno is None:  # Arrow's, of what it unpacks
            state = "truncated" if "Truncated" in str(error) else f"damaged ({error})"
            raise InputError(f"{path}: the {kind} is {state}; copy or download it again") from error
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a file you may read"
        ) from error
