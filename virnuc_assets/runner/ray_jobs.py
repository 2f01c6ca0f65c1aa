"""Jobs of a Ray cluster: who takes them, and stopping them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from virnuc_assets.errors import RunnerError, one_line
from virnuc_assets.runner.ray_pool import reach

try:
    from ray.job_submission import JobSubmissionClient
except ImportError as error:
    raise RunnerError(
        f"the launcher is ray, whose jobs cannot be used ({error}); install virnuc_assets[ray], or "
        "set VIRNUC_LAUNCHER=local"
    ) from error

Answer = TypeVar("Answer")

UNANSWERED = (RuntimeError, OSError)
"""What a client raises where a dashboard fails, or is not there."""

_LOOK_SECONDS = 0.5
# A dashboard that is started again is back in less.
_SILENCE_SECONDS = 60.0
# Of a job that is asked to stop, and of its last messages.
_ENDING_SECONDS = 60.0
_log = logging.getLogger(__name__)


def client_of(address: str) -> JobSubmissionClient:
    """What submits jobs to the cluster at `address`.

    Raises:
        RunnerError: no cluster takes jobs there.
    """
    try:
        reach(address)
        return JobSubmissionClient(address)
    except (OSError, ValueError, RuntimeError) as error:
        raise RunnerError(
            f"VIRNUC_RAY_ADDRESS={address}: no Ray cluster takes jobs there "
            f"({one_line(error)}); start one with `ray start --head`, or correct it"
        ) from error


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What a client answers; it is asked again for as long as a dashboard may be starting.

    Raises:
        RuntimeError, OSError: it still does not answer.
    """
    until = time.monotonic() + _SILENCE_SECONDS
    while True:
        try:
            return ask()
        except UNANSWERED:
            if time.monotonic() >= until:
                raise
        time.sleep(_LOOK_SECONDS)


def stop(client: JobSubmissionClient, jobs: Mapping[str, Callable[[], bool]]) -> None:
    """Stop jobs, and wait until they have; of each, what tells whether it has ended."""
    until = time.monotonic() + _ENDING_SECONDS
    while (going := [name for name, has_ended in jobs.items() if not _is_known(has_ended)]) and (
        time.monotonic() < until
    ):
        for name in going:
            # Again and again, for it may not have been submitted yet.
            with suppress(*UNANSWERED):
                client.stop_job(name)
        time.sleep(_LOOK_SECONDS)
    for name in going:
        _log.warning("Ray's job %s was asked to stop and has not; see `ray job status`", name)


def _is_known(has_ended: Callable[[], bool]) -> bool:
    with suppress(*UNANSWERED):
        return has_ended()
    return False
