"""Some embeddings of a shard beside the same sequences embedded anew, in float32 on the CPU.

Another device, other code and another precision than on a GPU: what agrees is neither another
sequence's row nor lost in rounding. The CPU, because the GPUs have the next run's work to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa

from virnuc_assets import pipeline
from virnuc_assets.encoders.agreement import Agreement, agreement
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import StoreError, VirnucError
from virnuc_assets.runner import client
from virnuc_assets.runner.devices import CPU
from virnuc_assets.runner.events import Failed, ShardDone
from virnuc_assets.runner.job import Encoding, Job
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


@dataclass(frozen=True)
class SpotChecks:
    """What came of comparing samples.

    `found`: by sample; None where the embeddings were computed in float32 on a CPU, which is exact,
    or where there are none. `failures`: why others could not be compared, a sentence each.
    """

    found: dict[str, AgreementRecord | None]
    failures: list[str]


@dataclass(frozen=True)
class _Comparison:
    """Some of a shard's embeddings, (n, dim), and the job that embeds their sequences again."""

    file: EmbeddingFile
    stored: np.ndarray
    job: Job


def spot_check(
    layout: Layout, shards: Mapping[str, int], encoder: EncoderName, n_shards: int, models: Models
) -> SpotChecks:
    """Compare random embeddings of a shard of each sample, the same ones whenever it is asked for.

    What was found is left beside the shard: predictions refuse one that does not agree. A shard
    that was compared before is not compared again. Of the others one runner embeds the sequences
    again, and loads the encoder once. A sample that cannot be compared (index or shard missing,
    damaged or of other weights than `models`, a runner's failure) does not keep the others from it.

    Args:
        shards: by sample, the shard to compare.
    """
    found: dict[str, AgreementRecord | None] = {}
    failures: list[str] = []
    comparisons: dict[str, _Comparison] = {}
    encoding = replace(
        models.encoding(encoder),
        dtype=_EXACT,
        attention="auto",
        token_budget=None,
        devices=(CPU,),
        ray=None,
    )
    with tempfile.TemporaryDirectory(prefix="virnuc-spot-check-") as folder:
        for sample, shard in shards.items():
            path = shard_path(layout.embeddings(sample, encoder), shard, n_shards)
            with _noted(failures):
                prepared = _prepared(path, layout.index(sample), encoding, Path(folder) / sample)
                if isinstance(prepared, _Comparison):
                    comparisons[sample] = prepared
                else:
                    found[sample] = prepared
        names, jobs = list(comparisons), [comparison.job for comparison in comparisons.values()]
        with _noted(failures), closing(client.stream_all(jobs)) as events:
            for number, event in events:
                sample = names[number]
                if isinstance(event, Failed):
                    failures.append(f"{sample}: {event.message}")
                elif isinstance(event, ShardDone):
                    with _noted(failures):
                        found[sample] = _compared(comparisons[sample])
    return SpotChecks(found, failures)


@contextmanager
def _noted(failures: list[str]) -> Iterator[None]:
    try:
        yield
    except VirnucError as error:
        failures.append(str(error))


def _prepared(
    shard: Path, index: Path, encoding: Encoding, folder: Path
) -> _Comparison | AgreementRecord | None:
    """What is to be compared, what was found before, or None where there is nothing to compare."""
    manifest = read_manifest(index)
    file = read_attributes(shard)
    rows = _some_rows(file, manifest)
    if not len(rows) or (file.identity.dtype == _EXACT and file.origin.device == "CPU"):
        return None
    if (known := agreement_of(file)) is not None:
        return known
    table = SequenceTable(index / pipeline.sequence_table(manifest, encoding.encoder).file)
    few = folder / "sequences.arrow"
    write_sequence_table(few, [pa.array(table.take(rows), pa.large_string())])
    job = Job(
        encoding=encoding,
        sequences=str(few),
        sequences_sha256=sha256_file(few),
        index_digest="spot check",
        output=str(folder / "embeddings"),
        n_shards=1,
        shards=(0,),
    )
    return _Comparison(file, _stored(file, rows), job)


def _compared(comparison: _Comparison) -> AgreementRecord:
    """What is found when the sequences are embedded again; it is left beside the shard."""
    file, job, n_rows = comparison.file, comparison.job, len(comparison.stored)
    again = ShardedEmbeddings(Path(job.output), job.n_shards, n_rows, job.index_digest)
    if again.identity.encoder_digest != file.identity.encoder_digest:
        raise StoreError(
            f"{file.path}: was made with {file.origin.model}, and the settings say "
            f"{again.origin.model}; embed it again, or set the weights it is of"
        )
    record = _record(file, agreement(comparison.stored, again.take(np.arange(n_rows))))
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
