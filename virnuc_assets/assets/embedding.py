"""What both embedding assets do: run the runner, turn its events into logs and metadata."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from virnuc_assets import pipeline
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import RunnerError, VirnucError
from virnuc_assets.partitions import N_SHARDS, shards_by_sample
from virnuc_assets.resources import Models, Store
from virnuc_assets.runner import client
from virnuc_assets.runner.events import Event, Failed, Progress, ShardDone, Started, Warned
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.logs import FOLDER as LOGS
from virnuc_assets.settings import Models as ModelSettings
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import registered

GPU_POOL = "gpu_host"
_LOG_SECONDS = 10.0


@dataclass(frozen=True)
class _Part:
    """One sample's part in a run: its job, and the partition of each of its shards."""

    job: Job
    keys: dict[int, str]
    logger: EventLogger


def embed_shards(
    context: dg.AssetExecutionContext, store: Store, models: Models, encoder: EncoderName
) -> dg.MaterializeResult:
    """Embed the run's shards (of one sample or several) with one encoder, which is loaded once.

    A shard's metadata can be seen as soon as it is done, as an observation; its materialisation
    comes at the end, because only a step's result carries the versions of what it was made from.
    Finished shards are materialised even when others fail, so that "re-execute from failure"
    embeds exactly the rest.
    """
    finished: dict[str, dict[str, Any]] = {}
    failures: list[str] = []
    parts: list[_Part] = []
    settings = models.as_settings()
    for sample, keys in shards_by_sample(list(context.partition_keys)).items():
        try:
            own = pipeline.sample_models(registered(store.layout, sample), settings)
            pipeline.check_models(store.layout, own)
            job = pipeline.embedding_job(
                store.layout, sample, settings.encoding(encoder), N_SHARDS, tuple(sorted(keys))
            )
        except VirnucError as error:
            failures.append(str(error))
        else:
            parts.append(_Part(job, keys, EventLogger(context, sample)))
            context.log.info(f"{sample}: workers log to {Path(job.output) / job.own(LOGS)}")
    try:
        # Closed here and now when the run is terminated, not when garbage is collected.
        with closing(launched(context, [part.job for part in parts])) as events:
            for number, event in events:
                part = parts[number]
                part.logger.log(event)
                if isinstance(event, ShardDone):
                    key = part.keys[event.shard]
                    finished[key] = _metadata(event)
                    context.log_event(
                        dg.AssetObservation(
                            context.asset_key, partition=key, metadata=finished[key]
                        )
                    )
                elif isinstance(event, Failed):
                    failures.append(event.message)
    except VirnucError as error:
        failures.append(str(error))
    for failure in _compare(store.layout, list(finished), encoder, settings):
        context.log.warning(failure)
    if not failures:
        for key, metadata in finished.items():
            context.add_asset_metadata(metadata, partition_key=key)
        return dg.MaterializeResult()
    for key, metadata in finished.items():
        context.log_event(
            dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata)
        )
    raise dg.Failure(
        description=failures[0],
        metadata={"failures": failures, "shards_done": len(finished)},
        allow_retries=False,
    )


def _compare(
    layout: Layout, keys: list[str], encoder: EncoderName, models: ModelSettings
) -> list[str]:
    """Leave beside shards what a comparison with float32 finds, before they count as materialised.

    Calls may follow at once, and refuse what does not agree. The check reports it, which does not
    take place where one of the run's samples failed.

    Returns:
        Why samples could not be compared.
    """
    from virnuc_assets.spot_check import spot_check

    shards = {sample: min(own) for sample, own in shards_by_sample(keys).items()}
    return spot_check(layout, shards, encoder, N_SHARDS, models).failures


def launched(
    context: dg.AssetExecutionContext, jobs: Sequence[Job]
) -> Generator[tuple[int, Event]]:
    """The events of `jobs`, run on this machine or on a Ray cluster, each with its job's number."""
    if all(job.encoding.ray is None for job in jobs):
        return client.stream_all(jobs)
    try:
        from virnuc_assets import ray_job
    except ImportError as error:
        raise RunnerError(
            f"VIRNUC_LAUNCHER=ray cannot be used here ({error}); install virnuc_assets[ray]"
        ) from error
    if len(jobs) > 1:
        context.log.info(f"{len(jobs)} jobs of the cluster one by one; each loads the encoder")
    return client.one_by_one(partial(ray_job.stream, context), jobs)


class EventLogger:
    """Events as lines of the run's log; progress every few seconds, not every block."""

    def __init__(self, context: dg.AssetExecutionContext, sample: str) -> None:
        self._log = context.log
        self._sample = sample
        self._next_progress = 0.0

    def log(self, event: Event) -> None:
        """Log an event as what it is."""
        match event:
            case Started():
                self._log.info(
                    f"{self._sample}: {event.sequences} sequences in {event.blocks} blocks on "
                    f"{', '.join(event.devices)} with model {event.model}; "
                    f"{event.blocks_done} blocks are already done"
                )
            case Progress() if time.monotonic() >= self._next_progress:
                self._next_progress = time.monotonic() + _LOG_SECONDS
                eta = "" if event.eta_seconds is None else f", {event.eta_seconds:.0f} s left"
                self._log.info(
                    f"{self._sample}: {event.sequences_done} of {event.sequences} sequences, "
                    f"{event.tokens_per_second:,.0f} tokens/s{eta}"
                )
            case ShardDone():
                verb = "was there already" if event.reused else "done"
                self._log.info(f"{self._sample}: shard {event.shard} {verb}: {event.path}")
            case Warned():
                self._log.warning(event.message)
            case Failed():
                self._log.error(event.message)


def _metadata(event: ShardDone) -> dict[str, Any]:
    return {**event.metadata, "reused": event.reused, "file": dg.MetadataValue.path(event.path)}
