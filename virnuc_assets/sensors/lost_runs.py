"""Runs whose process is gone and that nobody is left to speak for.

A run's process is a child of the code server, which tells when it ends. When both are killed at
once, by a power cut or by the system, Dagster would show the run as started for ever: it would
hold its place in the queue, and its sample would wait for it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import dagster as dg

GRPC_INFO_TAG = ".dagster/grpc_info"
_PROC = Path("/proc")
# Of a process that has ended and that nobody has asked about.
_ENDED = "ZX"
# By so much the clock may have been set since.
_CLOCK_SECONDS = 60.0
_HAVE_A_PROCESS = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(
    name="lost_runs",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def lost_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Mark started runs of this machine whose process is gone as failed; they are tried again.

    Runs that a code server elsewhere has started are left alone: their processes cannot be seen.
    """
    instance = context.instance
    for run in instance.get_runs(dg.RunsFilter(statuses=_HAVE_A_PROCESS)):
        # Its process may have ended well since it was listed.
        if _is_lost(instance, run) and _has_a_process(instance, run.run_id):
            instance.report_run_failed(run, "The run's process and its code server were killed.")
            context.log.warning(f"run {run.run_id}: its process is gone; it counts as failed")
    return dg.SkipReason("This sensor starts no runs.")


def _has_a_process(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status in _HAVE_A_PROCESS


def _is_lost(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket")
    if server is None or not _PROC.is_dir() or _answers(server):
        return False
    records = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=20
    ).records
    for record in records:
        event = record.event_log_entry.dagster_event
        pid = event and event.engine_event_data.metadata.get("pid")
        if pid is not None:
            began = _began(int(str(pid.value)))
            # A number may be given to another process.
            return began is None or began > record.event_log_entry.timestamp + _CLOCK_SECONDS
    return False


def _answers(path: str) -> bool:
    """Whether a process listens at a socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return True
    return False


def _began(pid: int) -> float | None:
    """When a process began, in seconds since the epoch; None if there is none."""
    with suppress(OSError):
        state, *numbers = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        if state in _ENDED:
            return None
        ticks = int(numbers[18])
        up = float((_PROC / "uptime").read_text().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    return None
