"""Jobs of a Ray cluster: who takes them, and stopping them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from virnuc_assets.errors import RunnerError, one_line
from virnuc_assets.runner.ray_pool import reach

try:
    from ray.job_submission import JobSubmissionClient
except ImportError as error:
    raise RunnerError(
        f"the launcher is ray, whose jobs cannot be used ({error}); install virnuc_assets[ray], or "
        "set VIRNUC_LAUNCHER=local"
    ) from error

_LOOK_SECONDS = 0.5
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


def stop(client: JobSubmissionClient, name: str, has_ended: Callable[[], bool]) -> None:
    """Stop a job, and wait until it has."""
    until = time.monotonic() + _ENDING_SECONDS
    while not has_ended() and time.monotonic() < until:
        # Again and again, for it may not have been submitted yet.
        with suppress(RuntimeError, OSError):
            client.stop_job(name)
        time.sleep(_LOOK_SECONDS)
    if not has_ended():
        _log.warning("Ray's job %s was asked to stop and has not; see `ray job status`", name)
