"""A FASTA file → one HDF5 file with an embedding per record, in the file's order.

The work lies in a folder beside the output until the output is whole, so an interrupted call goes
on where it stopped.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq

from virnuc_assets import __version__
from virnuc_assets.errors import InputError, StoreError, VirnucError
from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.sequences.fasta import Kind
from virnuc_assets.sequences.sequence_list import LIST_FILE, UNIQUE_FILE, build_sequence_list
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.embeddings import ShardedEmbeddings

_ROWS = 4096


def plan(fasta: Path, output: Path, encoding: Encoding) -> Job:
    """List the file's sequences (proteins for ESM-2, DNA for DNABERT-S) and plan their embedding.

    Raises:
        InputError: the file cannot be used, or is the output.
        StoreError: the output cannot be written.
    """
    if output.is_dir():
        raise StoreError(f"{output}: is a folder; name a file in it, such as {output / 'out.h5'}")
    if output.exists() and fasta.exists() and output.samefile(fasta):
        raise InputError(f"{output}: is the input file; name another output")
    work = _work(output)
    kind: Kind = "protein" if encoding.encoder == "esm2" else "nucleotide"
    try:
        manifest = build_sequence_list(fasta, work, kind)
    except VirnucError:
        with suppress(OSError):
            # Only where nothing was in it before.
            work.rmdir()
        raise
    return Job(
        encoding=encoding,
        sequences=str(work / UNIQUE_FILE),
        sequences_sha256=manifest.sequences_sha256,
        index_digest=manifest.index_digest,
        output=str(work / "embeddings"),
        n_shards=1,
        shards=(0,),
    )


def collect(job: Job, output: Path) -> int:
    """Write the finished job's embeddings to `output` and remove the work folder.

    The file holds `embeddings` (n, d) float32 and `sequence_ids` (n,) in input order; its
    attributes say what made them.

    Returns:
        How many records the file holds.

    Raises:
        StoreError: the embeddings are not all there, or the output cannot be written.
    """
    work = _work(output)
    listed = pq.read_table(work / LIST_FILE, columns=["id", "row"])
    rows = listed["row"].to_numpy()
    unique = int(rows.max()) + 1
    embeddings = ShardedEmbeddings(Path(job.output), 1, unique, job.index_digest)
    made = embeddings.files[0]
    with atomic_path(output) as temporary, h5py.File(temporary, "w") as file:
        values = file.create_dataset("embeddings", (len(rows), embeddings.dim), np.float32)
        for start in range(0, len(rows), _ROWS):
            values[start : start + _ROWS] = embeddings.take(rows[start : start + _ROWS])
        ids = listed["id"].to_pylist()
        file.create_dataset("sequence_ids", data=ids, dtype=h5py.string_dtype())
        file.attrs["model"] = made.origin.model
        file.attrs["encoder"] = made.identity.encoder
        file.attrs["weights_digest"] = made.origin.weights_digest
        file.attrs["encoder_digest"] = made.identity.encoder_digest
        file.attrs["dtype"] = made.identity.dtype
        file.attrs["attention"] = made.origin.attention
        file.attrs["device"] = made.origin.device
        file.attrs["truncated"] = made.counts.truncated
        file.attrs["tool_version"] = __version__
    shutil.rmtree(work)
    return len(rows)


def _work(output: Path) -> Path:
    return output.with_name(f".{output.name}.work")
