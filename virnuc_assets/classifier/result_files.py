"""The result files of a sample: how each is written, and how it says which model made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import atomic_path, read_json

SCHEMA = 2
"""Of `results.json`."""
FRAMES = "frames.parquet"
CHUNKS = "chunks.parquet"
RECORDS = "records.parquet"
ORIGINAL_FRAMES = "prediction_results.txt"
ORIGINAL_CHUNKS = "prediction_results_highestscore.csv"
MANIFEST = "results.json"

FRAME_SCHEMA = pa.schema(
    [
        ("ordinal", pa.int64()),
        ("record", pa.int64()),
        ("chunk", pa.int64()),
        ("frame", pa.string()),
        ("name", pa.string()),
        ("score_other", pa.float32()),
        ("score_virus", pa.float32()),
    ]
)


def file_metadata(provenance: Mapping[str, str]) -> dict[str, str]:
    """The key-value metadata of a parquet file: `virnuc.<key>` for every key."""
    return {f"virnuc.{key}": value for key, value in sorted(provenance.items())}


@contextmanager
def frame_writers(
    directory: Path, provenance: Mapping[str, str]
) -> Iterator[tuple[pq.ParquetWriter, TextIO]]:
    """Open the two files that grow frame by frame; both appear on a clean exit, or neither does.

    Yields:
        A writer of `FRAME_SCHEMA` batches, and the original tool's text file with its header
        written.
    """
    schema = FRAME_SCHEMA.with_metadata(file_metadata(provenance))
    with (
        atomic_path(directory / FRAMES) as frames,
        atomic_path(directory / ORIGINAL_FRAMES) as original,
        pq.ParquetWriter(str(frames), schema) as writer,
        original.open("w", encoding="utf-8", newline="\n") as text,
    ):
        text.write("Sequence_ID\tPrediction\tscore1\tscore2\n")
        yield writer, text


def original_frame_lines(names: list[str], scores: np.ndarray) -> str:
    """Lines of `prediction_results.txt`: name, label, P(others), P(virus), as NumPy prints them.

    A tie is labelled others, as the original's argmax does.
    """
    return "".join(
        f"{name}\t{'virus' if virus > other else 'others'}\t{other!s}\t{virus!s}\n"
        for name, (other, virus) in zip(names, scores, strict=True)
    )


def write_parquet(path: Path, table: pl.DataFrame, provenance: Mapping[str, str]) -> None:
    """Write `table` with the provenance in its metadata, atomically."""
    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    with atomic_path(path) as temporary:
        pq.write_table(arrow.replace_schema_metadata(file_metadata(provenance)), str(temporary))


def write_original_chunks(path: Path, chunks: pl.DataFrame) -> None:
    """Write `prediction_results_highestscore.csv`: tab-separated, sorted by chunk name."""
    table = chunks.sort("name").select(
        pl.col("name").alias("Modified_ID"),
        pl.when("is_virus").then(pl.lit("True")).otherwise(pl.lit("False")).alias("Is_Virus"),
    )
    with atomic_path(path) as temporary:
        table.write_csv(temporary, separator="\t")


def read_manifest(directory: Path) -> dict[str, Any]:
    """What `results.json` in `directory` says; where it is, the results are complete.

    Raises:
        StoreError: there are no complete results, or another version made them.
    """
    path = directory / MANIFEST
    value = read_json(path)
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA:
        raise StoreError(
            f"{path}: has format {found} and this version reads {SCHEMA}; make the predictions "
            "again"
        )
    return value


def read_parquet(path: Path, columns: list[str]) -> pl.DataFrame:
    """Read some columns of one of our parquet files.

    Raises:
        StoreError: the file is missing, damaged, or lacks a column.
    """
    return query(path, lambda table: table.select(columns))


def query(path: Path, ask: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
    """What `ask` makes of one of our parquet files, of which no more is read than it takes.

    Raises:
        StoreError: the file is missing, damaged, or lacks a column.
    """
    try:
        return ask(pl.scan_parquet(path, glob=False)).collect()
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file; make it again with the step before") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"{path}: cannot be read ({reason}); delete it and make it again"
        ) from error
