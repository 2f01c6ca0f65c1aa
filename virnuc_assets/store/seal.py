"""A seal on an HDF5 file: its first 512 bytes hold the length and SHA-256 of the rest.

HDF5 readers skip these bytes (its user block). The HDF5 library is made to read what it wrote: one
changed byte can crash the process or change a number unnoticed. So a file of ours is opened only
once its seal has been found whole.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from virnuc_assets.errors import StoreError, UnusableFileError

SEAL_BYTES = 512
_MAGIC = b"virnuc hdf5"


def seal(path: Path) -> None:
    """Seal a closed HDF5 file that was created with a user block of `SEAL_BYTES`."""
    with path.open("r+b") as file:
        text = _seal_of(file)
        file.seek(0)
        file.write(text)


def check_seal(path: Path) -> None:
    """Check that a sealed file is, byte for byte, what was written.

    Raises:
        StoreError: it is missing.
        UnusableFileError: it cannot be read, was never sealed, was cut short or was changed.
    """
    try:
        with path.open("rb") as file:
            found = file.read(SEAL_BYTES)
            if not found.startswith(_MAGIC):
                fault = "is no embedding file of this version" if found else "is empty"
                raise UnusableFileError(path, fault)
            wanted = _seal_of(file)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such embedding file; embed this shard first") from error
    except OSError as error:
        raise UnusableFileError(path, f"cannot be read ({error.strerror or error})") from error
    if found != wanted:
        cut = found.split()[2:3] != wanted.split()[2:3]
        fault = "was cut short or written in part" if cut else "does not match its checksum"
        raise UnusableFileError(path, fault)


def _seal_of(file: BinaryIO) -> bytes:
    """The seal that belongs to what follows the first `SEAL_BYTES` of `file`."""
    file.seek(SEAL_BYTES)
    digest = hashlib.sha256()
    length = 0
    while piece := file.read(1 << 20):
        digest.update(piece)
        length += len(piece)
    text = b" ".join([_MAGIC, str(length).encode(), digest.hexdigest().encode()]) + b"\n"
    return text.ljust(SEAL_BYTES, b"\0")
