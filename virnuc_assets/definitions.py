"""Assembles the code location, and nothing else."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import dagster as dg

from virnuc_assets import assets as asset_package
from virnuc_assets import checks as check_package
from virnuc_assets.automation import automation_sensor, call_sensor, embedding_sensor
from virnuc_assets.jobs import embed_samples, index_samples, predict_samples, train_head
from virnuc_assets.resources import resources
from virnuc_assets.sensors.inbox import inbox_sensor
from virnuc_assets.sensors.lost_materialisations import lost_materialisations_sensor
from virnuc_assets.sensors.lost_retries import lost_retries_sensor
from virnuc_assets.sensors.lost_runs import lost_runs_sensor
from virnuc_assets.sensors.sources import sources_sensor
from virnuc_assets.settings import check_models_go_together, from_environment


def build_defs(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions; `resource_overrides` replaces resources by key (the test seam)."""
    check_models_go_together()
    return dg.Definitions(
        assets=dg.load_assets_from_package_module(asset_package),
        asset_checks=dg.load_asset_checks_from_package_module(check_package),
        jobs=[index_samples, embed_samples, predict_samples, train_head],
        sensors=[
            inbox_sensor,
            sources_sensor,
            automation_sensor,
            embedding_sensor,
            call_sensor,
            lost_runs_sensor,
            lost_retries_sensor,
            lost_materialisations_sensor,
        ],
        # A run's steps are few and short, or have processes of their own: one process a step would
        # spend most of a small sample's time on imports.
        executor=dg.in_process_executor,
        resources={**resources(from_environment()), **(resource_overrides or {})},
    )


defs = build_defs()

# All that is loaded by now stays. A run takes seconds: searching this for garbage while it works,
# and when it ends, would be a quarter of them.
gc.freeze()
