"""A folder of files that are replaced together; where there is a manifest, it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.lock import sole_writer

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MANIFEST_FILE = "manifest.json"
STAGING = ".building"
"""Folder inside a folder in which its new files are made."""


@contextmanager
def kept_as_it_is(directory: Path) -> Iterator[None]:
    """Let nobody else replace files of `directory`, made if need be; wait for who does.

    The lock is on a file in it, so that it holds on all machines of which the file system passes
    locks on, and on the folder, which says who waits and keeps `virnuc gc` out.

    Raises:
        StoreError: `directory` cannot be made or locked.
    """
    from virnuc_assets.store.shard_locks import whole_folder

    with sole_writer(directory), whole_folder(directory):
        yield


@contextmanager
def replaced_folder(directory: Path) -> Iterator[Path]:
    """Yield an empty folder whose files take their place in `directory` on a clean exit.

    The old manifest goes first and the new one comes last, so a folder with a manifest is whole
    whenever the process dies. On an exception `directory` keeps the files that it had.

    Raises:
        StoreError: `directory` cannot be made or written.
    """
    staging = directory / STAGING
    is_new = not directory.exists()
    with kept_as_it_is(directory):
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
            if is_new:
                _remove_but_for_files(directory)


def _remove_but_for_files(directory: Path) -> None:
    from virnuc_assets.store.shard_locks import LOCKS

    if {file.name for file in directory.iterdir()} <= {LOCKS}:
        # It stays where another machine begins to write in it just now.
        with suppress(OSError):
            shutil.rmtree(directory / LOCKS)
            directory.rmdir()


@contextmanager
def parquet_table(
    path: Path, schema: pa.Schema, repeating: Sequence[str] = ()
) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of a table that appears at `path`, whole, on a clean exit.

    `repeating`: text columns of few different values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Numbers rise slowly and other text hardly repeats: differences and plain text are smaller, and
    # quicker to write, than dictionaries. Packed differences hardly shrink.
    numbers = [field.name for field in schema if pa.types.is_integer(field.type)]
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression={name: "none" if name in numbers else "zstd" for name in schema.names},
            use_dictionary=list(repeating) or False,
            column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
            write_statistics=False,
        ) as writer,
    ):
        yield writer


def append_numbered(writer: pq.ParquetWriter, table: pa.Table, first: int) -> None:
    """Write `table` with a first column `ordinal`, which numbers its rows from `first`."""
    import numpy as np
    import pyarrow as pa

    ordinal = pa.array(np.arange(first, first + table.num_rows))
    writer.write_table(table.add_column(0, "ordinal", ordinal).cast(writer.schema))
