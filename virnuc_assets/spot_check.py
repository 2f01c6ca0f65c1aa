"""Some embeddings of a shard beside the same sequences embedded anew, in float32 on the CPU.

Another device, other code and another precision than on a GPU: what agrees is neither another
sequence's row nor lost in rounding. The CPU, because the GPUs have the next run's work to do.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa

from virnuc_assets import pipeline
from virnuc_assets.encoders.agreement import Agreement, agreement
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import RunnerError, StoreError
from virnuc_assets.runner import client
from virnuc_assets.runner.devices import CPU
from virnuc_assets.runner.events import Failed
from virnuc_assets.runner.job import Job
from virnuc_assets.sequences.manifest import IndexManifest, read_manifest
from virnuc_assets.settings import Models
from virnuc_assets.store.agreement import AgreementRecord, agreement_of, write_agreement
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.embeddings import EmbeddingFile, read_attributes, shard_path
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.sequence_table import SequenceTable, write_sequence_table
from virnuc_assets.store.sharded import ShardedEmbeddings

SEQUENCES = 8
"""That are compared; as few as have a centre (see `encoders.agreement`)."""
_LEAST = {"fp8": 0.99}
_LEAST_OTHERWISE = 0.999
_LEAST_CENTRED_MEDIAN = 0.9
_EXACT = "float32"


def spot_check(
    layout: Layout, sample: str, encoder: EncoderName, shard: int, n_shards: int, models: Models
) -> AgreementRecord | None:
    """Compare random embeddings of a shard, the same ones whenever it is asked for.

    What was found is left beside the shard: predictions refuse one that does not agree. A shard
    that was compared before is not compared again.

    Returns:
        What was found. None where the embeddings were computed in float32 on a CPU, which is
        exact, or where there are none.

    Raises:
        RunnerError: the sequences could not be embedded again.
        StoreError: index or shard are missing, damaged, or of other weights than `models`.
    """
    manifest = read_manifest(layout.index(sample))
    file = read_attributes(shard_path(layout.embeddings(sample, encoder), shard, n_shards))
    rows = _some_rows(file, manifest)
    if not len(rows) or (file.identity.dtype == _EXACT and file.origin.device == "CPU"):
        return None
    if (known := agreement_of(file)) is not None:
        return known
    table = layout.index(sample) / pipeline.sequence_table(manifest, encoder).file
    again = _in_float32(SequenceTable(table).take(rows), file, models)
    record = _record(file, agreement(_stored(file, rows), again))
    write_agreement(file.path, record)
    return record


def _record(file: EmbeddingFile, found: Agreement) -> AgreementRecord:
    """Passed: every cosine is high enough, and so are half of the centred ones."""
    least = _LEAST.get(file.identity.dtype, _LEAST_OTHERWISE)
    centred = found.centred_median
    return AgreementRecord(
        shard=file.identity.shard,
        checksum=file.checksum,
        dtype=file.identity.dtype,
        device=file.origin.device,
        passed=found.minimum >= least and (centred is None or centred >= _LEAST_CENTRED_MEDIAN),
        compared=len(found.cosines),
        minimum=found.minimum,
        median=found.quantile(0.5),
        least=least,
    )


def _some_rows(file: EmbeddingFile, manifest: IndexManifest) -> np.ndarray:
    """Rows of the sequence table, ascending and so the longest first, of embeddings there are."""
    there = np.setdiff1d(file.identity.rows(), np.array(file.set_aside, np.int64))
    seed = [int(manifest.index_digest[:16], 16), file.identity.shard]
    chosen = np.random.default_rng(seed).choice(there, min(SEQUENCES, len(there)), replace=False)
    return np.sort(chosen)


def _stored(file: EmbeddingFile, rows: np.ndarray) -> np.ndarray:
    places = (rows - file.identity.shard) // file.identity.n_shards - file.identity.start
    with h5py.File(file.path, "r") as handle:
        return handle["embeddings"][places]


def _in_float32(sequences: list[str], file: EmbeddingFile, models: Models) -> np.ndarray:
    encoding = replace(
        models.encoding(file.identity.encoder),  # type: ignore[arg-type]
        dtype=_EXACT,
        attention="auto",
        token_budget=None,
        devices=(CPU,),
        ray=None,
    )
    with tempfile.TemporaryDirectory(prefix="virnuc-spot-check-") as folder:
        table = Path(folder) / "sequences.arrow"
        write_sequence_table(table, [pa.array(sequences, pa.large_string())])
        job = Job(
            encoding=encoding,
            sequences=str(table),
            sequences_sha256=sha256_file(table),
            index_digest="spot check",
            output=str(Path(folder) / "embeddings"),
            n_shards=1,
            shards=(0,),
        )
        with closing(client.stream(job)) as events:
            for event in events:
                if isinstance(event, Failed):
                    raise RunnerError(event.message)
        again = ShardedEmbeddings(Path(job.output), 1, len(sequences), job.index_digest)
        if again.identity.encoder_digest != file.identity.encoder_digest:
            raise StoreError(
                f"{file.path}: was made with {file.origin.model}, and the settings say "
                f"{again.origin.model}; embed it again, or set the weights it is of"
            )
        return again.take(np.arange(len(sequences)))
