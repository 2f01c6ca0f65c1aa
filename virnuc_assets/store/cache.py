"""Files of an object store that a host fetches once and keeps, by their SHA-256."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.lock import sole_writer
from virnuc_assets.store.objects import is_url, open_objects

_log = logging.getLogger(__name__)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a host keeps what it fetched: VIRNUC_CACHE, or `virnuc` in the user's cache."""
    if chosen := environ.get("VIRNUC_CACHE"):
        return Path(chosen).absolute()
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "virnuc"


def local_file(where: str, sha256: str, cache: Path) -> Path:
    """The file `where`, a path or the URL of an object with digest `sha256`, as one of this host.

    An object is fetched by the first process that asks and found by the others, which wait. What
    is found there is checked each time, and fetched again if it was damaged. A path is returned as
    it is, unchecked.

    Raises:
        StoreError: the object is missing or is another, or the cache cannot be written.
        DiskFullError: the cache's disk is full.
    """
    if not is_url(where):
        return Path(where)
    url, _, name = where.rpartition("/")
    folder = cache / sha256
    path = folder / name
    with sole_writer(folder, _log.info):
        if path.exists():
            if sha256_file(path) == sha256:
                return path
            _log.warning("%s: is damaged and fetched again", path)
        open_objects(url).fetch(name, path, sha256)
    return path


def publish_file(path: Path, url: str, sha256: str) -> str:
    """Publish a file with digest `sha256` below the folder `url`, unless it is there already.

    Returns:
        The object's URL, which holds the digest.
    """
    objects = open_objects(url)
    key = f"{sha256}/{path.name}"
    if objects.size(key) != path.stat().st_size:
        objects.publish(path, key)
    return f"{objects.url}/{key}"
