"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from virnuc_assets.errors import DiskFullError, StoreError, one_line


def temporary_of(path: Path) -> Path:
    """Where this process writes what is to be `path`."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.tmp")


def leftovers_of(path: Path) -> list[Path]:
    """Temporary files of `path`, of any process; of those that were killed nobody else sees."""
    temporary = re.compile(rf"\.{re.escape(path.name)}\.[A-Za-z0-9-]*\.\d+\.tmp")
    return [other for other in path.parent.iterdir() if temporary.fullmatch(other.name)]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit fsync it and rename it to `path`.

    On an exception the temporary file is removed and `path` is left as it was. The temporary
    name holds the host's and the process's, so that two writers cannot share one.

    Raises:
        DiskFullError: the disk is full, or the quota on it is used up.
        StoreError: the folder cannot be made or written.
    """
    temporary = temporary_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        if _is_full(error):
            raise DiskFullError(path) from error
        reason = one_line(error.strerror or error)
        raise StoreError(
            f"{path}: cannot be written ({reason}); change the folder's permissions or choose "
            "another; what is finished is kept"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StoreError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file; make it again with the step before") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{path}: is not valid JSON ({error}); delete it and make it again"
        ) from error


def _is_full(error: OSError) -> bool:
    # Arrow gives the system's words in a report of its own, without the number.
    full = (errno.ENOSPC, errno.EDQUOT)
    return error.errno in full or any(os.strerror(number) in str(error) for number in full)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
