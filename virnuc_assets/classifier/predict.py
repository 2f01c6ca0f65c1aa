"""Scores the frames of an index with a head and writes a sample's result files.

Frames stream through in batches, so memory holds one batch of embeddings at a time, and one row
of names and scores per frame for the calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from virnuc_assets import __version__
from virnuc_assets.classifier import calls
from virnuc_assets.classifier import result_files as files
from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import write_json
from virnuc_assets.store.digests import INDEX_DIGEST_KEY, sha256_file

if TYPE_CHECKING:
    from virnuc_assets.classifier.head import Head

INDEX_RECORDS = "records.parquet"
INDEX_FRAMES = "frames.parquet"
_BATCH_FRAMES = 8192
_ROW_COLUMNS = ["nucleotide_row", "protein_row"]
_INDEX_COLUMNS = ["ordinal", "record", "chunk", "frame", "name", *_ROW_COLUMNS]


class RowReader(Protocol):
    """Embeddings by row of a sequence table."""

    @property
    def set_aside(self) -> np.ndarray:
        """Rows without an embedding, shape (k,), int64."""
        ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings (n, d) float32 of `rows` (n,) int64, in that order; rows may repeat."""
        ...


@dataclass(frozen=True)
class PredictionSummary:
    """What was called, in numbers."""

    model: str
    head_digest: str
    n_records: int
    n_viral_records: int
    n_bases: int
    n_viral_bases: int
    """In viral records."""
    n_no_open_frame: int
    """Records without a stop-free frame, which have no call."""
    n_not_embedded: int
    """Records whose stop-free frames all hold a sequence that was set aside; no call either."""
    n_chunks: int
    n_called_chunks: int
    n_viral_chunks: int
    n_frames: int
    n_unscored_frames: int
    """Frames, of these, whose nucleotides or protein were set aside."""
    n_unique_nucleotides: int
    n_unique_proteins: int
    """Different sequences among the frames: what was embedded."""
    median_score: float | None
    """Of the records that have a call; None where none has."""


def classify(
    index_dir: Path,
    dna: RowReader,
    protein: RowReader,
    head: Head,
    output_dir: Path,
    provenance: Mapping[str, str],
) -> PredictionSummary:
    """Score every frame of the index in `index_dir` and write the result files to `output_dir`.

    A frame whose nucleotides or protein were set aside has no scores (null) and no part in any
    call.

    `dna` and `protein` hold the embeddings of the index's nucleotide and protein tables.
    `provenance["model"]` is the label the results go by, `provenance["index_digest"]` the index
    that the embeddings are of; they and every other key are put in the
    metadata of every parquet file and in `results.json`. That manifest is removed first and written
    last, so a folder that has one is complete. The same input gives the same bytes.

    Raises:
        StoreError: the index is damaged, or a frame's score is not a number.
        WeightsError: the embeddings do not fit the head.
    """
    model = provenance["model"]
    for table in (INDEX_RECORDS, INDEX_FRAMES):
        _check_belongs(index_dir / table, provenance["index_digest"])
    (output_dir / files.MANIFEST).unlink(missing_ok=True)
    n_frames = _write_frames(index_dir, dna, protein, head, output_dir, provenance)
    frames = files.read_parquet(
        output_dir / files.FRAMES,
        ["ordinal", "record", "chunk", "name", "score_other", "score_virus"],
    )
    index = files.read_parquet(
        index_dir / INDEX_RECORDS, ["ordinal", "id", "length", "n_chunks", "n_frames"]
    )
    if (
        int(index["n_frames"].sum()) != n_frames
        or not frames["record"].is_in(index["ordinal"].implode()).all()
    ):
        raise StoreError(
            f"{index_dir}: its records and frames do not belong together; make the index again"
        )
    scored = frames.drop_nulls("score_virus")
    chunks = calls.call_chunks(scored)
    records = calls.call_records(index, chunks).with_columns(model=pl.lit(model))
    files.write_parquet(output_dir / files.CHUNKS, chunks, provenance)
    files.write_parquet(output_dir / files.RECORDS, records, provenance)
    files.write_original_chunks(output_dir / files.ORIGINAL_CHUNKS, chunks)
    unique = files.query(
        index_dir / INDEX_FRAMES, lambda table: table.select(pl.col(_ROW_COLUMNS).n_unique())
    )
    summary = PredictionSummary(
        model=model,
        head_digest=head.digest,
        n_records=len(records),
        n_viral_records=int(records["is_virus"].sum()),
        n_bases=int(records["length"].sum()),
        n_viral_bases=int(records.filter("is_virus")["length"].sum()),
        n_no_open_frame=int((records["status"] == calls.NO_OPEN_FRAME).sum()),
        n_not_embedded=int((records["status"] == calls.NOT_EMBEDDED).sum()),
        n_chunks=int(records["n_chunks"].sum()),
        n_called_chunks=len(chunks),
        n_viral_chunks=int(chunks["is_virus"].sum()),
        n_frames=n_frames,
        n_unscored_frames=n_frames - len(scored),
        n_unique_nucleotides=unique.item(0, "nucleotide_row"),
        n_unique_proteins=unique.item(0, "protein_row"),
        median_score=records.get_column("score").median(),  # type: ignore[arg-type]
    )
    _write_manifest(output_dir, head, provenance, summary)
    return summary


def _write_frames(
    index_dir: Path,
    dna: RowReader,
    protein: RowReader,
    head: Head,
    output_dir: Path,
    provenance: Mapping[str, str],
) -> int:
    n_frames = 0
    path = index_dir / INDEX_FRAMES
    no_dna, no_protein = dna.set_aside, protein.set_aside
    with files.frame_writers(output_dir, provenance) as (writer, text):
        for batch in _batches(path):
            dna_rows, protein_rows = _rows(batch, "nucleotide_row"), _rows(batch, "protein_row")
            unscored = np.isin(dna_rows, no_dna) | np.isin(protein_rows, no_protein)
            names = batch.column("name").filter(pa.array(~unscored)).to_pylist()
            scores = head.score(
                dna.take(dna_rows[~unscored]), protein.take(protein_rows[~unscored])
            )
            _check_finite(scores, names, path)
            text.write(files.original_frame_lines(names, scores))
            columns = [batch.column(name) for name in _INDEX_COLUMNS[:5]]
            columns += [_with_nulls(scores[:, label], unscored) for label in (0, 1)]
            table = pa.Table.from_arrays(columns, names=files.FRAME_SCHEMA.names)
            writer.write_table(table.cast(writer.schema))
            n_frames += len(batch)
    return n_frames


def _check_belongs(path: Path, index_digest: str) -> None:
    """Refuse a table of another index than the embeddings are of: rows would be paired wrongly."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file; make the index first (virnuc index)") from error
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); make the index again") from error
    if metadata.get(INDEX_DIGEST_KEY.encode()) != index_digest.encode():
        raise StoreError(
            f"{path}: belongs to another index than the embeddings; make the index again, then "
            "the embeddings"
        )


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as parquet:
            if missing := sorted(set(_INDEX_COLUMNS) - set(parquet.schema_arrow.names)):
                raise StoreError(f"{path}: has no column {missing[0]}; make the index again")
            yield from parquet.iter_batches(_BATCH_FRAMES, columns=_INDEX_COLUMNS)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file; make the index first (virnuc index)") from error
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); make the index again") from error


def _rows(batch: pa.RecordBatch, column: str) -> np.ndarray:
    return batch.column(column).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def _with_nulls(scores: np.ndarray, unscored: np.ndarray) -> pa.Array:
    """A column of `scores` in the places that are not `unscored`, and null in those."""
    column = np.zeros(len(unscored), np.float32)
    column[~unscored] = scores
    return pa.array(column, mask=unscored)


def _check_finite(scores: np.ndarray, names: list[str], path: Path) -> None:
    if not np.isfinite(scores).all():
        bad = names[int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])]
        raise StoreError(
            f"{path}: the score of frame {bad} is not a number, so one of its embeddings is "
            "damaged; delete the sample's embeddings and make them again"
        )


def _write_manifest(
    output_dir: Path, head: Head, provenance: Mapping[str, str], summary: PredictionSummary
) -> None:
    counts = {name: value for name, value in asdict(summary).items() if name.startswith("n_")}
    written = (
        files.FRAMES,
        files.CHUNKS,
        files.RECORDS,
        files.ORIGINAL_FRAMES,
        files.ORIGINAL_CHUNKS,
    )
    manifest = {
        "schema": files.SCHEMA,
        "version": __version__,
        "model": summary.model,
        "head": {**asdict(head.card), "digest": head.digest},
        "counts": counts,
        "median_score": summary.median_score,
        "provenance": dict(provenance),
        "files": {
            name: {
                "sha256": sha256_file(output_dir / name),
                "bytes": (output_dir / name).stat().st_size,
            }
            for name in written
        },
    }
    write_json(output_dir / files.MANIFEST, manifest)
