"""Dagster's run queue, with tags for runs that take a slot of a pool.

On Kubernetes a run's pod asks for what the run's tags say. Nothing else tells an embedding run from
others there: Dagster heeds the tags of an op only where each op has a pod of its own, and those of
a job only in that job's runs, which automation, `virnuc backfill` and the UI's backfills are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from dagster._config import UserConfigSchema
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._serdes import ConfigurableClassData

PoolTags = Mapping[str, Mapping[str, Any]]
"""Pool → tag → value, which is text, or is made JSON."""


class PoolTagsRunCoordinator(QueuedRunCoordinator):
    """Dagster's queue; a run whose ops share a pool gets that pool's tags when it is queued.

    Tags that the run already has stay, so that a person can ask for something else.
    """

    def __init__(self, pool_tags: PoolTags, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data=inst_data)
        self._pool_tags = pool_tags

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """What `run_coordinator: config:` in dagster.yaml holds; limits stand in `concurrency`."""
        return {"pool_tags": dg.Field(dg.Map(str, dg.Permissive()))}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> Self:
        """As Dagster makes it from dagster.yaml."""
        return cls(config_value["pool_tags"], inst_data)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag the run and queue it."""
        run = context.dagster_run
        pools = run.run_op_concurrency.all_pools if run.run_op_concurrency else None
        tags = {
            tag: value if isinstance(value, str) else json.dumps(value)
            for pool in sorted(pools or ())
            for tag, value in self._pool_tags.get(pool, {}).items()
            if tag not in run.tags
        }
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)
