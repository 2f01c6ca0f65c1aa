"""A FASTA file as it is, for embedding: its ids, and its distinct sequences longest first."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from virnuc_assets.sequences.fasta import Kind, read_fasta, rna_warnings
from virnuc_assets.sequences.folder import MANIFEST_FILE, replaced_folder, write_parquet
from virnuc_assets.sequences.input_file import check_unchanged, identify
from virnuc_assets.sequences.ragged import string_array
from virnuc_assets.sequences.unique import total_letters, unique_longest_first
from virnuc_assets.store.atomic import write_json
from virnuc_assets.store.digests import sha256_file, sha256_json
from virnuc_assets.store.sequence_table import write_sequence_table

LIST_FILE = "sequences.parquet"
UNIQUE_FILE = "sequences.arrow"
LIST_SCHEMA = 1

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
    source = identify(fasta)
    with replaced_folder(directory) as folder:
        ids, sequences = [], []
        rna_records = 0
        for batch in read_fasta(fasta, kind):
            ids.append(batch.ids)
            sequences.append(string_array(batch.letters, np.diff(batch.offsets)))
            rna_records += int(np.count_nonzero(batch.rna))
        check_unchanged(source)

        unique, row = unique_longest_first(pa.chunked_array(sequences))
        write_sequence_table(folder / UNIQUE_FILE, unique)
        columns = {"ordinal": np.arange(row.size), "id": pa.chunked_array(ids), "row": row}
        write_parquet(folder / LIST_FILE, pa.table(columns))
        identity: dict[str, Any] = {
            "schema": LIST_SCHEMA,
            "kind": kind,
            "input_sha256": source.sha256,
            "sequences_sha256": sha256_file(folder / UNIQUE_FILE),
        }
        manifest = SequenceListManifest(
            index_digest=sha256_json(identity),
            input_name=fasta.name,
            input_bytes=source.size,
            records=row.size,
            rna_records=rna_records,
            unique_sequences=len(unique),
            residues=total_letters(unique),
            warnings=rna_warnings(rna_records, row.size),
            **identity,
        )
        write_json(folder / MANIFEST_FILE, asdict(manifest))
    for warning in manifest.warnings:
        _log.warning("%s: %s", fasta, warning)
    return manifest
