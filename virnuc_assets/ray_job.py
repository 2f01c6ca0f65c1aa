"""An embedding job as a job of a Ray cluster, submitted and followed through Dagster Pipes."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

import dagster as dg
from dagster_ray import PipesRayJobClient
from dagster_ray.core.pipes import PipesRayJobMessageReader

from virnuc_assets.runner import pipes
from virnuc_assets.runner.background import in_thread
from virnuc_assets.runner.client import LOG_OPTIONS, Account
from virnuc_assets.runner.events import Event, from_line
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.output import exchanged
from virnuc_assets.runner.ray_jobs import client_of, stop

_LOOK_SECONDS = 0.5
_TIDYING_SECONDS = 30


def stream(context: dg.AssetExecutionContext, job: Job) -> Generator[Event]:
    """Run `job` on the cluster it names and yield its events.

    The runner is a job of the cluster, on its head; this process only follows. Leaving the
    generator early stops that job, and waits until it has stopped. Should this process be killed
    instead, the job goes on to its end, and the next run finds what it finished.

    Raises:
        RunnerError: the cluster could not be reached, or the job ended without accounting for every
            shard. A job that fails says so in `Failed` events.
        StoreError: the object store that the cluster's machines share cannot be used.
    """
    return exchanged(job, partial(_run, context))


def _run(context: dg.AssetExecutionContext, job: Job) -> Generator[Event]:
    cluster = job.encoding.ray
    if cluster is None:
        raise ValueError("not a job for a cluster")
    said: Queue[Event] = Queue()
    account = Account(job)
    client = client_of(cluster.address)
    name = f"virnuc-{uuid.uuid4().hex[:12]}"
    # On the cluster, its own address is that of the machine the job runs on.
    there = replace(job, encoding=replace(job.encoding, ray=replace(cluster, address="auto")))
    following = in_thread(
        PipesRayJobClient(
            address=client.get_address(), message_reader=_Reader(said.put), poll_interval=1.0
        ).run,
        context=context,
        submit_job_params={
            "submission_id": name,
            "entrypoint": shlex.join(
                ("python", "-m", "virnuc_assets.runner", "--pipes", *LOG_OPTIONS)
            ),
            # How long a job that is stopped has to leave everything tidy.
            "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_TIDYING_SECONDS)}},
        },
        extras={pipes.JOB: asdict(there)},
    )
    try:
        while not (following.done() and said.empty()):
            with suppress(Empty):
                yield account.note(said.get(timeout=_LOOK_SECONDS))
    finally:
        stop(client, {name: following.done})
    failed = following.exception()
    account.close("all its messages were read" if failed is None else str(failed).strip())


class _Reader(PipesRayJobMessageReader):
    """Dagster's reader of a Ray job's log, which hands on events as they come.

    Dagster itself keeps custom messages until a job has ended.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        super().__init__()
        self._tell = tell

    def handle_job_logs(self, handler: dg.PipesMessageHandler) -> None:
        def handle(message: dict[str, Any]) -> None:
            if message["method"] == "report_custom_message":
                self._tell(from_line(message["params"]["payload"]))
            else:
                handler.handle_message(message)  # type: ignore[arg-type]

        super().handle_job_logs(SimpleNamespace(handle_message=handle, _context=handler._context))
