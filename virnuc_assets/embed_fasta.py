"""A FASTA file → one HDF5 file with an embedding per record, in the file's order.

The work lies in a folder beside the output until the output is whole, so an interrupted call goes
on where it stopped.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq

from virnuc_assets import __version__
from virnuc_assets.errors import InputError, StoreError
from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.sequences.records import Kind
from virnuc_assets.sequences.sequence_list import LIST_FILE, UNIQUE_FILE, build_sequence_list
from virnuc_assets.store.atomic import atomic_path, leftovers_of
from virnuc_assets.store.hdf5 import new_hdf5
from virnuc_assets.store.lock import sole_writer
from virnuc_assets.store.seal import SEAL_BYTES, seal
from virnuc_assets.store.sharded import ShardedEmbeddings

_LIST = "list"
_ROWS = 4096
_NAMED = 10
_log = logging.getLogger(__name__)


@contextmanager
def sole_work(fasta: Path, output: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Be the only one who works on `output`, from plan to collection; others wait and are told.

    Raises:
        InputError: the output is the input.
        StoreError: the output is a folder or cannot be written.
    """
    if output.is_dir():
        raise StoreError(f"{output}: is a folder; name a file in it, such as {output / 'out.h5'}")
    if output.exists() and fasta.exists() and output.samefile(fasta):
        raise InputError(f"{output}: is the input file; name another output")
    work = _work_folder(output)
    with sole_writer(work, tell):
        try:
            yield
        finally:
            # Only where nothing has been finished in it.
            with suppress(OSError):
                work.rmdir()


def plan(fasta: Path, output: Path, encoding: Encoding) -> Job:
    """List the file's sequences (proteins for ESM-2, DNA for DNABERT-S) and plan their embedding.

    Raises:
        InputError: the file cannot be used.
        StoreError: the output cannot be written.
    """
    work = _work_folder(output)
    kind: Kind = "protein" if encoding.encoder == "esm2" else "nucleotide"
    manifest = build_sequence_list(fasta, work / _LIST, kind)
    return Job(
        encoding=encoding,
        sequences=str(work / _LIST / UNIQUE_FILE),
        sequences_sha256=manifest.sequences_sha256,
        index_digest=manifest.index_digest,
        output=str(work / "embeddings"),
        n_shards=1,
        shards=(0,),
    )


def collect(job: Job, output: Path) -> int:
    """Write the finished job's embeddings to `output` and remove the work folder.

    The file holds `embeddings` (n, d) float32 and `sequence_ids` (n,) in input order; its
    attributes say what made them. A record whose sequence was set aside is NaN, and is named in a
    warning.

    Returns:
        How many records the file holds.

    Raises:
        StoreError: the embeddings are not all there, or the output cannot be written.
    """
    work = _work_folder(output)
    listed = pq.read_table(work / _LIST / LIST_FILE, columns=["id", "row"])
    rows = listed["row"].to_numpy()
    unique = int(rows.max()) + 1
    embeddings = ShardedEmbeddings(Path(job.output), 1, unique, job.index_digest)
    identity, origin = embeddings.identity, embeddings.origin
    without = np.flatnonzero(np.isin(rows, embeddings.set_aside))
    _remove_leftovers(output)
    with atomic_path(output) as temporary:
        with new_hdf5(temporary, SEAL_BYTES) as file:
            values = file.create_dataset("embeddings", (len(rows), embeddings.dim), np.float32)
            for start in range(0, len(rows), _ROWS):
                values[start : start + _ROWS] = embeddings.take(rows[start : start + _ROWS])
            ids = listed["id"].to_pylist()
            file.create_dataset("sequence_ids", data=ids, dtype=h5py.string_dtype())
            file.attrs["model"] = origin.model
            file.attrs["encoder"] = identity.encoder
            file.attrs["weights_digest"] = origin.weights_digest
            file.attrs["encoder_digest"] = identity.encoder_digest
            file.attrs["dtype"] = identity.dtype
            file.attrs["attention"] = origin.attention
            file.attrs["device"] = origin.device
            file.attrs["truncated"] = embeddings.counts.truncated
            file.attrs["set_aside"] = len(without)
            file.attrs["tool_version"] = __version__
        seal(temporary)
    for record in without[:_NAMED]:
        _log.warning(
            "%s: record %s could not be embedded and is NaN in the file", output, ids[record]
        )
    if len(without) > _NAMED:
        _log.warning("%s: so are %d more records", output, len(without) - _NAMED)
    shutil.rmtree(work)
    return len(rows)


def _remove_leftovers(output: Path) -> None:
    """Remove what calls that were killed left of `output`; to be called within `sole_work`."""
    for path in leftovers_of(output):
        # Another user's may not be ours to remove; it is in nobody's way.
        with suppress(OSError):
            path.unlink()


def _work_folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.work")
