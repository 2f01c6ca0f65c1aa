"""Materialising a sample's whole chain in this process, through its real assets and jobs."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from dagster import DagsterExecutionInterruptedError

from virnuc_assets import console
from virnuc_assets.assets.sources import add_samples
from virnuc_assets.definitions import build_defs
from virnuc_assets.errors import RunnerError
from virnuc_assets.partitions import N_SHARDS, RANGE_END, RANGE_START
from virnuc_assets.resources import resources
from virnuc_assets.settings import Settings
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import register

# What went wrong is said once, by whoever catches the error; the run's log keeps the rest.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def materialise_sample(
    settings: Settings, name: str, fasta: Path, instance: dg.DagsterInstance
) -> None:
    """Register `fasta` as sample `name` and materialise its index, shards, calls and report.

    Raises:
        RunnerError: a job failed for an explained reason.
        KeyboardInterrupt: it was interrupted.
        RuntimeError: a job failed for another reason; holds the traceback.
    """
    layout = Layout(settings.store)
    add_samples(instance, layout, settings.models, [register(layout, name, fasta)])
    defs = build_defs(resources(settings))
    shards = {RANGE_START: f"{name}|0", RANGE_END: f"{name}|{N_SHARDS - 1}"}
    with console.stage(f"{name}: indexing"):
        _execute(defs, instance, "index_samples", partition=name)
    with console.stage(f"{name}: embedding with both encoders"):
        _execute(defs, instance, "embed_samples", tags=shards)
    with console.stage(f"{name}: calling records"):
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
    if result.success:
        return
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    for failure in failures:
        if failure.user_failure_data is not None:
            raise RunnerError(f"job {job} failed: {failure.user_failure_data.description}")
        if failure.error and failure.error.cls_name == DagsterExecutionInterruptedError.__name__:
            raise KeyboardInterrupt
    traces = "\n".join(failure.error_display_string for failure in failures)
    raise RuntimeError(f"job {job} failed; run {result.run_id} in the UI says more\n{traces}")
