"""Runs that failed, are to be tried again, and are not.

Dagster stores the event that a run has failed, and then the run's status; its daemon looks for such
events every five seconds, and starts what it finds anew if the status says that it failed
(`EventLogConsumerDaemon` of Dagster 1.13). Where it looks between the two, it passes the run over
for good: a backfill would wait for the second try for ever.
"""

from __future__ import annotations

import datetime

import dagster as dg

_WILL_RETRY_TAG = "dagster/will_retry"
_PARENT_TAG = "dagster/parent_run_id"
# The daemon may be at other runs.
_PATIENCE = datetime.timedelta(minutes=1)
_LOOK_BACK = datetime.timedelta(days=1)
# Dagster has reasons not to try again that only the run's log tells.
_MOST_TIMES = 3


@dg.sensor(
    name="lost_retries",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def lost_retries_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Say again that a run has failed, if it is to be tried again and was not for a minute."""
    instance = context.instance
    now = datetime.datetime.now(datetime.UTC)
    wait_for_another_try = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={_WILL_RETRY_TAG: "true"},
        updated_after=now - _LOOK_BACK,
        updated_before=now - _PATIENCE,
    )
    for run in instance.get_runs(wait_for_another_try):
        if not _was_tried_again(instance, run) and _times_failed(instance, run) < _MOST_TIMES:
            instance.report_run_failed(
                run, "Said again, because it is not tried again; why it failed is said above."
            )
            context.log.warning(f"run {run.run_id}: was not tried again; Dagster is told anew")
    return dg.SkipReason("This sensor starts no runs.")


def _was_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """By Dagster or by a person."""
    return instance.get_runs_count(dg.RunsFilter(tags={_PARENT_TAG: run.run_id})) > 0


def _times_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    return len(
        instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    )
