"""What changes under samples that are there: their files and heads, and the encoders' weights."""

from __future__ import annotations

import json

import dagster as dg

from virnuc_assets.assets.sources import (
    Source,
    observations,
    observed_versions,
    sample_versions,
    weights_versions,
)
from virnuc_assets.resources import Models, Store
from virnuc_assets.store.samples import all_samples

EVENTS_A_TICK = 500
"""Observations that one tick makes at most."""


@dg.sensor(
    name="sources",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def sources_sensor(
    context: dg.SensorEvaluationContext, store: Store, models: Models
) -> dg.SensorResult:
    """Observe the files, heads and weights whose version is not the one last observed.

    Automation renews what was made from an earlier version. What changes must be the same on two
    ticks first: a file may still be growing. The cursor holds what is waited for.
    """
    layout, settings = store.layout, models.as_settings()
    known = set(context.instance.get_dynamic_partitions("sample"))
    registered = [sample for sample in all_samples(layout) if sample.name in known]
    observed = observed_versions(context.instance)
    now = {**weights_versions(settings), **sample_versions(layout, settings, registered)}
    different = {
        source: version for source, version in now.items() if observed.get(source) != version
    }
    waiting = json.loads(context.cursor or "{}")
    settled = [
        source
        for source, version in different.items()
        if source not in observed or waiting.get(_name(source)) == version
    ]
    found = {source: different.pop(source) for source in settled[:EVENTS_A_TICK]}
    for source in found:
        if source in observed:
            context.log.info(f"{_name(source)} has changed")
    return dg.SensorResult(
        asset_events=observations(found),
        cursor=json.dumps({_name(source): version for source, version in different.items()}),
    )


def _name(source: Source) -> str:
    asset, sample = source
    return asset if sample is None else f"{asset}|{sample}"
