"""The checks that describing a file is made of: tables, and files that a manifest speaks of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from virnuc_assets.errors import StoreError, VirnucError
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.digests import INDEX_DIGEST_KEY, sha256_file
from virnuc_assets.store.sequence_table import SequenceTable

Facts = dict[str, Any]
Finding = tuple[Facts, list[str]]
"""What a file says of itself, and a sentence for everything that is not as it says."""


def check_table(path: Path, rows: int, sha256: str, deep: bool) -> None:
    """Check a sequence table against what its manifest says (`deep`: its SHA-256 too).

    Raises:
        StoreError: it is another, or no table.
    """
    table = SequenceTable(path)
    if len(table) != rows:
        raise StoreError(
            f"{path}: holds {len(table)} sequences and its manifest says {rows}; make the index "
            "again"
        )
    if deep:
        table.verify(sha256)


def check_parquet(path: Path, rows: int | None, digest: str | None, deep: bool) -> Facts:
    """Read a parquet file's footer (`deep`: all of it); what it says of itself.

    `rows`, `digest`: how many rows it must have and the index it must be of, where that is known.

    Raises:
        StoreError: it is missing, damaged, or another.
    """
    try:
        with pq.ParquetFile(path) as parquet:
            found = parquet.metadata.num_rows
            facts: Facts = {"rows": found, "columns": parquet.schema_arrow.names}
            said = parquet.metadata.metadata or {}
            if deep:
                found = sum(len(batch) for batch in parquet.iter_batches())
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file; make it again with the step before") from error
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); make it again") from error
    ours = {
        key.decode(errors="replace"): value.decode(errors="replace") for key, value in said.items()
    }
    facts |= {key.removeprefix("virnuc."): ours[key] for key in ours if key.startswith("virnuc.")}
    expected = facts["rows"] if rows is None else rows
    if found != expected:
        raise StoreError(f"{path}: holds {found} rows and not {expected}; make it again")
    if digest not in (None, ours.get(INDEX_DIGEST_KEY)):
        raise StoreError(f"{path}: belongs to another index than its manifest; make it again")
    return facts


def file_faults(path: Path, said: dict[str, Any], deep: bool) -> list[str]:
    """What is wrong with a file whose length and SHA-256 a manifest states."""
    if not path.is_file():
        return [f"{path}: is missing; make the predictions again"]
    changed = path.stat().st_size != said["bytes"] or (deep and sha256_file(path) != said["sha256"])
    return [f"{path}: was changed since it was written; make the predictions again"] * changed


def faults_of(check: Callable[..., object], *what: object) -> list[str]:
    """What `check` of `what` found wrong, as a list of one sentence or none."""
    try:
        check(*what)
    except VirnucError as error:
        return [str(error)]
    return []


def said_beside(manifest: Path) -> dict[str, Any]:
    """What the manifest beside a file says; nothing where there is none."""
    said = read_json(manifest) if manifest.is_file() else {}
    return said if isinstance(said, dict) else {}
