"""Building the index of a sample: its records, its open frames, and what is to be embedded.

The file is read once, a block at a time. Blocks are parsed, cut, translated and sorted side by
side and leave their records, and runs of sequences and frames, in memory while there is room and
then on disk; runs are merged into the two sequence tables, and frames take the rows that this gives
them. What is written depends on the file alone.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from virnuc_assets.sequences.chunks import check_chunk_length
from virnuc_assets.sequences.folder import (
    MANIFEST_FILE,
    append_numbered,
    parquet_table,
    replaced_folder,
)
from virnuc_assets.sequences.index_block import FrameRun, index_records
from virnuc_assets.sequences.input_file import open_input
from virnuc_assets.sequences.manifest import (
    FRAMES_FILE,
    INDEX_SCHEMA,
    NUCLEOTIDES_FILE,
    PROTEINS_FILE,
    RECORDS_FILE,
    IndexManifest,
)
from virnuc_assets.sequences.parallel import ordered_map, usable_cores
from virnuc_assets.sequences.records import rna_warnings
from virnuc_assets.sequences.runs import merge_runs
from virnuc_assets.sequences.scan import BLOCK_BYTES, scan
from virnuc_assets.sequences.spool import Spool
from virnuc_assets.store.atomic import write_json
from virnuc_assets.store.digests import INDEX_DIGEST_KEY, sha256_file, sha256_json

_RECORDS = pa.schema(
    {
        "ordinal": pa.int64(),
        "id": pa.large_string(),
        "length": pa.int64(),
        "rna": pa.bool_(),
        "n_chunks": pa.int64(),
        "n_frames": pa.int64(),
    }
)
_FRAMES = pa.schema(
    {
        "ordinal": pa.int64(),
        "record": pa.int64(),
        "chunk": pa.int64(),
        "frame": pa.large_string(),
        "name": pa.large_string(),
        "nucleotide_row": pa.int64(),
        "protein_row": pa.int64(),
    }
)
_log = logging.getLogger(__name__)


def build_index(
    fasta: Path,
    directory: Path,
    chunk_length: int,
    *,
    tool_version: str,
    threads: int | None = None,
    block_bytes: int = BLOCK_BYTES,
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
    threads = threads or usable_cores()
    with (
        open_input(fasta) as source,
        replaced_folder(directory) as folder,
        TemporaryDirectory(dir=folder) as temporary,
        parquet_table(folder / RECORDS_FILE, _RECORDS) as records_table,
        parquet_table(folder / FRAMES_FILE, _FRAMES, repeating=["frame"]) as frames_table,
    ):
        scratch = Path(temporary)
        spool = Spool(scratch)
        runs: list[tuple[int, FrameRun]] = []
        records = rna_records = closed_records = chunks = 0
        index = partial(index_records, chunk_length, spool)
        for block in scan(
            source, "nucleotide", index, scratch, threads=threads, block_bytes=block_bytes
        ):
            append_numbered(records_table, block.records, records)
            runs += [(records, run) for run in block.runs]
            records += block.records.num_rows
            rna_records += pc.sum(block.records["rna"]).as_py()
            closed_records += pc.sum(pc.equal(block.records["n_frames"], 0)).as_py()
            chunks += pc.sum(block.records["n_chunks"]).as_py()
        file = source.identity()

        tables = [folder / NUCLEOTIDES_FILE, folder / PROTEINS_FILE]
        nucleotides = merge_runs([run.nucleotides for _, run in runs], tables[0], scratch, threads)
        proteins = merge_runs([run.proteins for _, run in runs], tables[1], scratch, threads)
        nucleotides_sha256, proteins_sha256 = ordered_map(sha256_file, tables, threads)
        frames = 0
        for number, (first_record, run) in enumerate(runs):
            table = run.frames.read(0, run.frames.rows)
            record = table["record"].to_numpy() + first_record
            nucleotide_row = nucleotides.rows(number)[table["nucleotides"].to_numpy()]
            protein_row = proteins.rows(number)[table["protein"].to_numpy()]
            columns = [
                record,
                table["chunk"],
                table["frame"],
                table["name"],
                nucleotide_row,
                protein_row,
            ]
            append_numbered(frames_table, pa.table(columns, _FRAMES.names[1:]), frames)
            frames += table.num_rows

        identity: dict[str, Any] = {
            "schema": INDEX_SCHEMA,
            "chunk_length": chunk_length,
            "input_sha256": file.sha256,
            "nucleotides_sha256": nucleotides_sha256,
            "proteins_sha256": proteins_sha256,
        }
        digest = sha256_json(identity)
        for writer in (records_table, frames_table):
            writer.add_key_value_metadata({INDEX_DIGEST_KEY: digest})
        manifest = IndexManifest(
            tool_version=tool_version,
            index_digest=digest,
            input_name=fasta.name,
            input_bytes=file.size,
            records=records,
            rna_records=rna_records,
            records_without_open_frame=closed_records,
            chunks=chunks,
            frames=frames,
            unique_nucleotides=nucleotides.sequences,
            unique_proteins=proteins.sequences,
            nucleotide_residues=nucleotides.letters,
            protein_residues=proteins.letters,
            warnings=rna_warnings(rna_records, records),
            **identity,
        )
        write_json(folder / MANIFEST_FILE, asdict(manifest))
    for warning in manifest.warnings:
        _log.warning("%s: %s", fasta, warning)
    return manifest
