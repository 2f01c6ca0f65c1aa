"""A folder of files that are replaced together; where there is a manifest, it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.lock import sole_writer

MANIFEST_FILE = "manifest.json"
_STAGING = ".building"


@contextmanager
def replaced_folder(directory: Path) -> Iterator[Path]:
    """Yield an empty folder whose files take their place in `directory` on a clean exit.

    The old manifest goes first and the new one comes last, so a folder with a manifest is whole
    whenever the process dies. On an exception `directory` keeps the files that it had.

    Raises:
        StoreError: `directory` cannot be made or written.
    """
    staging = directory / _STAGING
    is_new = not directory.exists()
    with sole_writer(directory):
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            yield staging
            (directory / MANIFEST_FILE).unlink(missing_ok=True)
            for file in sorted(staging.iterdir(), key=lambda file: file.name == MANIFEST_FILE):
                file.replace(directory / file.name)
        except OSError as error:
            raise StoreError(
                f"{directory}: cannot be written ({error.strerror or error}); choose another "
                "output folder, change its permissions or free some space"
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if is_new and not any(directory.iterdir()):
                directory.rmdir()


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write `table` to `path`, atomically."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
