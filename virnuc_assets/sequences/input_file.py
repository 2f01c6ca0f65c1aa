"""A sequence file as bytes: opened whether gzip or not, identified, and watched for change."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from virnuc_assets.errors import InputError
from virnuc_assets.store.digests import sha256_file

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class InputFile:
    """What a file was when it was read: its size in bytes, time of change and SHA-256."""

    path: Path
    size: int
    modified_ns: int
    sha256: str


def identify(path: Path) -> InputFile:
    """Take the identity of a file, before it is read.

    Raises:
        InputError: the file is missing, unreadable or empty.
    """
    with open_text(path):
        status = path.stat()
        return InputFile(path, status.st_size, status.st_mtime_ns, sha256_file(path))


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
def open_text(path: Path) -> Iterator[BinaryIO]:
    """Open a file for its text, unpacking gzip, which is told by its first bytes.

    Raises:
        InputError: the file is missing, unreadable or empty, or its gzip is truncated or damaged.
    """
    try:
        with path.open("rb") as raw:
            magic = raw.read(len(_GZIP_MAGIC))
            if not magic:
                raise InputError(f"{path}: the file is empty; give a FASTA file with records")
            raw.seek(0)
            if magic == _GZIP_MAGIC:
                with gzip.open(raw) as text:
                    yield cast(BinaryIO, text)
            else:
                yield raw
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except EOFError as error:
        raise InputError(
            f"{path}: the gzip file is truncated; copy or download it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: the gzip file is damaged ({error}); copy or download it again"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a FASTA file you may read"
        ) from error
