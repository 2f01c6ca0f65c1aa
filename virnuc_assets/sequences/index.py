"""The index of a sample: its records, its open frames, and the distinct sequences to embed."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from virnuc_assets.errors import StoreError
from virnuc_assets.sequences.chunks import Chunks, check_chunk_length, chunk_records, windows
from virnuc_assets.sequences.fasta import RecordBatch, read_fasta, rna_warnings
from virnuc_assets.sequences.folder import MANIFEST_FILE, replaced_folder, write_parquet
from virnuc_assets.sequences.frames import FRAME_NAMES, open_frames
from virnuc_assets.sequences.input_file import check_unchanged, identify
from virnuc_assets.sequences.unique import total_letters, unique_longest_first
from virnuc_assets.store.atomic import read_json, write_json
from virnuc_assets.store.digests import INDEX_DIGEST_KEY, sha256_file, sha256_json
from virnuc_assets.store.sequence_table import write_sequence_table

RECORDS_FILE = "records.parquet"
FRAMES_FILE = "frames.parquet"
NUCLEOTIDES_FILE = "nucleotides.arrow"
PROTEINS_FILE = "proteins.arrow"
INDEX_SCHEMA = 1

_CHUNK_INFIX = pa.scalar("_chunk_", pa.large_string())
_NOTHING = pa.scalar("", pa.large_string())
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexManifest:
    """What an index holds and what it was made from.

    `nucleotide_residues` and `protein_residues` count the letters of the unique sequences, which
    are what is embedded. `index_digest` covers the input, the chunk length and both sequence
    tables, and not the tool's version.
    """

    schema: int
    tool_version: str
    index_digest: str
    chunk_length: int
    input_name: str
    input_bytes: int
    input_sha256: str
    records: int
    rna_records: int
    records_without_open_frame: int
    chunks: int
    frames: int
    unique_nucleotides: int
    unique_proteins: int
    nucleotide_residues: int
    protein_residues: int
    nucleotides_sha256: str
    proteins_sha256: str
    warnings: tuple[str, ...]


def build_index(
    fasta: Path, directory: Path, chunk_length: int, *, tool_version: str
) -> IndexManifest:
    """Index `fasta` (DNA; RNA is read as DNA) into `directory`, replacing an earlier index.

    Writes `records.parquet` (ordinal, id, length, rna, n_chunks, n_frames), `frames.parquet`
    (ordinal, record, chunk, frame, name, nucleotide_row, protein_row; in input order, then chunk,
    then F1 … R3), `nucleotides.arrow`, `proteins.arrow` and, last, `manifest.json`. `record` is
    a record's ordinal, from 0; `chunk` counts from 1 within the record.

    Raises:
        InputError: the chunk length or the input cannot be used; an earlier index is untouched.
        StoreError: `directory` cannot be written.
    """
    check_chunk_length(chunk_length)
    source = identify(fasta)
    with replaced_folder(directory) as folder:
        records, frames = _read(fasta, chunk_length)
        check_unchanged(source)
        nucleotides, nucleotide_row = unique_longest_first(frames["nucleotides"])
        proteins, protein_row = unique_longest_first(frames["protein"])
        write_sequence_table(folder / NUCLEOTIDES_FILE, nucleotides)
        write_sequence_table(folder / PROTEINS_FILE, proteins)
        identity: dict[str, Any] = {
            "schema": INDEX_SCHEMA,
            "chunk_length": chunk_length,
            "input_sha256": source.sha256,
            "nucleotides_sha256": sha256_file(folder / NUCLEOTIDES_FILE),
            "proteins_sha256": sha256_file(folder / PROTEINS_FILE),
        }
        digest = sha256_json(identity)

        frames = frames.drop_columns(["nucleotides", "protein"])
        frames = frames.append_column("nucleotide_row", pa.array(nucleotide_row))
        frames = frames.append_column("protein_row", pa.array(protein_row))
        _write_table(folder / RECORDS_FILE, records, digest)
        _write_table(folder / FRAMES_FILE, frames, digest)

        rna_records = pc.sum(records["rna"]).as_py()
        manifest = IndexManifest(
            tool_version=tool_version,
            index_digest=digest,
            input_name=fasta.name,
            input_bytes=source.size,
            records=records.num_rows,
            rna_records=rna_records,
            records_without_open_frame=pc.sum(pc.equal(records["n_frames"], 0)).as_py(),
            chunks=pc.sum(records["n_chunks"]).as_py(),
            frames=frames.num_rows,
            unique_nucleotides=len(nucleotides),
            unique_proteins=len(proteins),
            nucleotide_residues=total_letters(nucleotides),
            protein_residues=total_letters(proteins),
            warnings=rna_warnings(rna_records, records.num_rows),
            **identity,
        )
        write_json(folder / MANIFEST_FILE, asdict(manifest))
    for warning in manifest.warnings:
        _log.warning("%s: %s", fasta, warning)
    return manifest


def read_manifest(directory: Path) -> IndexManifest:
    """Read the manifest of a complete index.

    Raises:
        StoreError: `directory` holds no complete index, or one that another version made.
    """
    path = directory / MANIFEST_FILE
    if not path.exists():
        raise StoreError(f"{directory}: holds no complete index; make it first (virnuc index)")
    value = read_json(path)
    try:
        manifest = IndexManifest(**{**value, "warnings": tuple(value["warnings"])})
    except (TypeError, KeyError) as error:
        raise StoreError(
            f"{path}: is not the manifest of an index; make the index again"
        ) from error
    if manifest.schema != INDEX_SCHEMA:
        raise StoreError(
            f"{path}: has index schema {manifest.schema} and this version reads {INDEX_SCHEMA}; "
            "make the index again"
        )
    return manifest


def _read(fasta: Path, chunk_length: int) -> tuple[pa.Table, pa.Table]:
    """The records table and the frames table of a file, the frames with their sequences."""
    records, frames = [], []
    for batch in read_fasta(fasta, "nucleotide"):
        chunks = chunk_records(batch.offsets, chunk_length)
        found = [_frames(batch, chunks, window) for window in windows(chunks)]
        n_frames = np.zeros(len(batch.ids), np.int64)
        for table in found:
            of_batch = table["record"].to_numpy() - batch.first
            n_frames += np.bincount(of_batch, minlength=len(batch.ids))
        columns = {
            "id": batch.ids,
            "length": np.diff(batch.offsets),
            "rna": batch.rna,
            "n_chunks": np.bincount(chunks.record, minlength=len(batch.ids)),
            "n_frames": n_frames,
        }
        records.append(pa.table(columns))
        frames += found
    return pa.concat_tables(records), pa.concat_tables(frames)


def _frames(batch: RecordBatch, chunks: Chunks, window: slice) -> pa.Table:
    """The open frames of a window of the batch's chunks."""
    start, stop = chunks.start[window], chunks.stop[window]
    base = start[0]
    found = open_frames(batch.letters[base : stop[-1]], start - base, stop - base)
    record = chunks.record[window][found.chunk]
    number = pa.array(chunks.number[window][found.chunk])
    frame = pa.array(FRAME_NAMES, pa.large_string()).take(pa.array(found.frame))
    chunk_name = pc.binary_join_element_wise(
        batch.ids.take(pa.array(record)), number.cast(pa.large_string()), _CHUNK_INFIX
    )
    columns = {
        "record": batch.first + record,
        "chunk": number,
        "frame": frame,
        "name": pc.binary_join_element_wise(chunk_name, frame, _NOTHING),
        "nucleotides": found.nucleotides,
        "protein": found.proteins,
    }
    return pa.table(columns)


def _write_table(path: Path, table: pa.Table, digest: str) -> None:
    table = table.add_column(0, "ordinal", pa.array(np.arange(table.num_rows)))
    write_parquet(path, table.replace_schema_metadata({INDEX_DIGEST_KEY: digest}))
