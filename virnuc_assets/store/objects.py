"""A folder of objects in an object store, by URL: `s3://bucket/prefix` or `gs://bucket/prefix`.

An object store has no rename. What it has is enough: an object appears when its upload is complete
and not before, and its name may say what is in it. So keys are written once, with their content's
digest in their names, and what makes them count is a small object written after them.

Arrow's file systems do the talking. They retry what is throttled or cut off, with backoff, and send
a checksum with every upload, by which the server refuses what arrives changed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs

from virnuc_assets.errors import SettingsError, StoreError, one_line
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.object_errors import explained, may_pass

SCHEMES = ("s3", "gs")
_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_CONNECT_SECONDS, _REQUEST_SECONDS = 10.0, 60.0
# Of a request, by the library, within a second or two; then by us, with pauses that double.
_ATTEMPTS = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 20.0
_PIECE = 1 << 26
# An object that was published and is not there yet, in a store that takes its time.
_LATE_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Stored:
    """An object, as listed."""

    key: str
    """Below the folder's URL."""
    size: int
    modified: datetime
    """By the store's clock."""


@dataclass(frozen=True)
class Objects:
    """The objects below a URL; keys are relative to it.

    Every method raises StoreError when the store refuses, and when it is throttling or cannot be
    reached for longer than `patience`.
    """

    url: str
    _files: fs.FileSystem = field(repr=False, compare=False)
    patience: float = 120.0
    """Seconds."""

    def publish(self, path: Path, key: str) -> None:
        """Make the file at `path` the object `key`, whole or not at all."""
        # One call: nothing can come in between and have a part of the file closed as an object.
        with pa.memory_map(str(path)) as file:
            self.write(key, file.read_buffer())

    def write(self, key: str, data: bytes | pa.Buffer) -> None:
        """Make `data` the object `key`.

        Should this process be interrupted here, the object may be there and empty: who reads it
        must know what it has to hold.
        """

        def send() -> None:
            with self._files.open_output_stream(self._path(key), compression=None) as stream:
                stream.write(data)

        self._ask(send, key)

    def read(self, key: str) -> bytes | None:
        """What the object `key` holds; None: there is none."""

        def receive() -> bytes | None:
            try:
                with self._files.open_input_file(self._path(key)) as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

        return self._ask(receive, key)

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Copy the object `key` to `path`, atomically, and check its SHA-256 on the way.

        An object that is not there is waited for, some seconds.

        Raises:
            StoreError: it is missing or holds something else, or `path` cannot be written.
            DiskFullError: the disk is full.
        """
        file = self._ask(lambda: self._open_late(key), key)
        digest = hashlib.sha256()
        with atomic_path(path) as temporary:
            with file, temporary.open("wb") as copy:
                while piece := self._ask(lambda: file.read_buffer(_PIECE), key):
                    copy.write(piece)
                    digest.update(piece)
            if sha256 is not None and digest.hexdigest() != sha256:
                raise StoreError(
                    f"{self.url}/{key}: does not match its SHA-256; delete this object and make it "
                    "again with the step that published it"
                )

    def list(self, prefix: str = "") -> list[Stored]:
        """Every object below the folder `prefix`, by key; a request for each thousand."""
        selector = fs.FileSelector(self._path(prefix), recursive=True, allow_not_found=True)
        found = self._ask(lambda: self._files.get_file_info(selector), prefix)
        start = len(self._path("")) + 1
        # Folders are no objects; Arrow makes empty ones to stand for them.
        files = (info for info in found if info.type == fs.FileType.File)
        return sorted(
            (Stored(info.path[start:], info.size, info.mtime) for info in files),
            key=lambda stored: stored.key,
        )

    def size(self, key: str) -> int | None:
        """Bytes of the object `key`; None: there is none. One request."""

        def look() -> int | None:
            try:
                # What Arrow says of a path costs a listing more, of the folder it might be.
                with self._files.open_input_file(self._path(key)) as file:
                    return int(file.size())
            except FileNotFoundError:
                return None

        return self._ask(look, key)

    def delete(self, key: str) -> None:
        """Delete the object `key`, if there is one."""

        def remove() -> None:
            try:
                self._files.delete_file(self._path(key))
            except FileNotFoundError:
                _log.debug("%s/%s: is gone already", self.url, key)

        self._ask(remove, key)

    def delete_folder(self, prefix: str) -> None:
        """Delete every object below the folder `prefix`; a request for each thousand."""
        self._ask(
            lambda: self._files.delete_dir_contents(self._path(prefix), missing_dir_ok=True), prefix
        )

    def _open_late(self, key: str) -> pa.NativeFile:
        for seconds in _LATE_SECONDS:
            try:
                return self._files.open_input_file(self._path(key))
            except FileNotFoundError:
                time.sleep(seconds)
        return self._files.open_input_file(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self.url.partition('://')[2]}/{key}".rstrip("/")

    def _ask(self, request: Callable[[], _T], key: str) -> _T:
        where = f"{self.url}/{key}".rstrip("/")
        until, pause = time.monotonic() + self.patience, _FIRST_PAUSE
        while True:
            try:
                return request()
            except (OSError, pa.ArrowException) as error:
                left = until - time.monotonic()
                if left <= 0 or not may_pass(error):
                    raise StoreError(explained(where, error)) from error
                # Of many workers that were throttled at once, not all are to come back at once.
                seconds = min(pause * random.uniform(0.5, 1.0), left)
                _log.warning("%s: tried again in %.1f s (%s)", where, seconds, one_line(error))
            time.sleep(seconds)
            pause = min(2 * pause, _LONGEST_PAUSE)


def is_url(where: str) -> bool:
    """Whether `where` names an object store's folder, and not one of a file system."""
    return where.partition("://")[0] in SCHEMES and "://" in where


def open_objects(url: str, environ: Mapping[str, str] = os.environ) -> Objects:
    """The folder of objects at `url`; nothing is asked of the store yet.

    Credentials are found the way the store's own tools find them. For S3 these variables count:
    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (another server than Amazon's), and AWS_REGION or
    AWS_DEFAULT_REGION.

    Raises:
        SettingsError: it is no such URL.
        StoreError: the bucket's region was to be looked up, and could not be.
    """
    scheme, _, path = url.partition("://")
    bucket = path.partition("/")[0]
    if not is_url(url) or not bucket or "//" in path or "?" in path:
        raise SettingsError(
            f"{url}: is not the URL of a folder; write s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        )
    url = url.rstrip("/")
    if scheme == "gs":
        return Objects(url, fs.GcsFileSystem(retry_time_limit=timedelta(seconds=10)))
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    try:
        files = fs.S3FileSystem(
            endpoint_override=endpoint,
            region=region or ("us-east-1" if endpoint else fs.resolve_s3_region(bucket)),
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_REQUEST_SECONDS,
            # The standard strategy stops trying again once a hundred requests of this process
            # were throttled.
            retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=_ATTEMPTS),
            # A small object is one request.
            allow_delayed_open=True,
        )
    except (OSError, pa.ArrowException) as error:
        raise StoreError(explained(url, error)) from error
    return Objects(url, files)
