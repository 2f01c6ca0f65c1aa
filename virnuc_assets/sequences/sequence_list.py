"""A FASTA file as it is, for embedding: its ids, and its distinct sequences longest first."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from virnuc_assets.sequences.folder import (
    MANIFEST_FILE,
    append_numbered,
    parquet_table,
    replaced_folder,
)
from virnuc_assets.sequences.input_file import open_input
from virnuc_assets.sequences.parallel import usable_cores
from virnuc_assets.sequences.ragged import string_array
from virnuc_assets.sequences.records import Kind, Records, rna_warnings
from virnuc_assets.sequences.runs import Run, merge_runs, write_run
from virnuc_assets.sequences.scan import scan
from virnuc_assets.sequences.spool import Kept, Spool
from virnuc_assets.store.atomic import write_json
from virnuc_assets.store.digests import sha256_file, sha256_json

LIST_FILE = "sequences.parquet"
UNIQUE_FILE = "sequences.arrow"
LIST_SCHEMA = 2

_LIST = pa.schema({"ordinal": pa.int64(), "id": pa.large_string(), "row": pa.int64()})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SequenceListManifest:
    """What a sequence list holds and what it was made from; `residues` counts unique ones'."""

    schema: int
    index_digest: str
    kind: Kind
    input_name: str
    input_bytes: int
    input_sha256: str
    records: int
    rna_records: int
    unique_sequences: int
    residues: int
    sequences_sha256: str
    warnings: tuple[str, ...]


def build_sequence_list(fasta: Path, directory: Path, kind: Kind) -> SequenceListManifest:
    """List the sequences of `fasta` in `directory`, uncut and untranslated.

    Writes `sequences.parquet` (ordinal, id, row; in input order), `sequences.arrow` (unique
    sequences, longest first) and, last, `manifest.json`. RNA is read as DNA; proteins are kept as
    they are, in upper case.

    Raises:
        InputError: the input cannot be used; an earlier list is untouched.
        StoreError: `directory` cannot be written.
    """
    threads = usable_cores()
    with (
        open_input(fasta) as source,
        replaced_folder(directory) as folder,
        TemporaryDirectory(dir=folder) as temporary,
        parquet_table(folder / LIST_FILE, _LIST) as list_table,
    ):
        scratch = Path(temporary)
        blocks = list(
            scan(source, kind, partial(_put_by, Spool(scratch)), scratch, threads=threads)
        )
        file = source.identity()
        unique = merge_runs([block.run for block in blocks], folder / UNIQUE_FILE, scratch, threads)
        records = rna_records = 0
        for number, block in enumerate(blocks):
            table = block.ids.read(0, block.ids.rows)
            row = unique.rows(number)[table["row"].to_numpy()]
            append_numbered(list_table, table.set_column(1, "row", pa.array(row)), records)
            records += table.num_rows
            rna_records += block.rna_records
        identity: dict[str, Any] = {
            "schema": LIST_SCHEMA,
            "kind": kind,
            "input_sha256": file.sha256,
            "sequences_sha256": sha256_file(folder / UNIQUE_FILE),
        }
        manifest = SequenceListManifest(
            index_digest=sha256_json(identity),
            input_name=fasta.name,
            input_bytes=file.size,
            records=records,
            rna_records=rna_records,
            unique_sequences=unique.sequences,
            residues=unique.letters,
            warnings=rna_warnings(rna_records, records),
            **identity,
        )
        write_json(folder / MANIFEST_FILE, asdict(manifest))
    for warning in manifest.warnings:
        _log.warning("%s: %s", fasta, warning)
    return manifest


@dataclass(frozen=True)
class _ListedBlock:
    """A block's ids with where each one's sequence is in its run (id, row)."""

    ids: Kept
    run: Run
    rna_records: int


def _put_by(spool: Spool, records: Records) -> _ListedBlock:
    run, row = write_run(spool, string_array(records.letters, records.offsets))
    ids = spool.keep(pa.table({"id": records.ids, "row": row}))
    return _ListedBlock(ids, run, int(np.count_nonzero(records.rna)))
