"""Materialising a sample's whole chain in this process, through its real assets and jobs."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from virnuc_assets.definitions import build_defs
from virnuc_assets.errors import RunnerError
from virnuc_assets.partitions import N_SHARDS, samples
from virnuc_assets.settings import Settings
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import register

_QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"


def materialise_sample(
    settings: Settings, name: str, fasta: Path, instance: dg.DagsterInstance
) -> None:
    """Register `fasta` as sample `name` and materialise its index, shards, calls and report.

    Raises:
        RunnerError: a job failed; says which and why.
    """
    register(Layout(settings.store), name, fasta)
    instance.add_dynamic_partitions(str(samples.name), [name])
    defs = build_defs()
    shards = {_RANGE_START: f"{name}|0", _RANGE_END: f"{name}|{N_SHARDS - 1}"}
    _execute(defs, instance, "index_samples", partition=name)
    _execute(defs, instance, "embed_samples", tags=shards)
    _execute(defs, instance, "predict_samples", partition=name)


def _execute(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    partition: str | None = None,
    tags: dict[str, str] | None = None,
) -> None:
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=partition,
        tags=tags,
        run_config=_QUIET,
        raise_on_error=False,
    )
    if not result.success:
        failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        explained = [
            failure.user_failure_data.description
            for failure in failures
            if failure.user_failure_data is not None
        ]
        raise RunnerError(
            f"job {job} failed: {explained[0] if explained else 'see the log above or in the UI'}"
        )
