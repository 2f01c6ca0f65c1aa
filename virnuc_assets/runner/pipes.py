"""A job from, and its events to, the Dagster run that started this process: Dagster Pipes.

Needs the package dagster_pipes, which needs nothing, and not Dagster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from virnuc_assets.runner.events import Event, to_line
from virnuc_assets.runner.job import Job, job_from
from virnuc_assets.runner.resume import Emit

JOB = "job"
"""The extra that holds the job, as `asdict` makes it."""


@contextmanager
def opened(stream: TextIO) -> Iterator[tuple[Callable[[], Job], Emit]]:
    """What gives the job, and what sends events, as lines of `stream` among other lines.

    The first raises a RunnerError where no job was sent, or none of this version.
    """
    from dagster_pipes import open_dagster_pipes

    # Pipes writes to standard output without flushing: each message goes out in one piece.
    sys.stdout = stream
    with open_dagster_pipes() as context:

        def emit(event: Event) -> None:
            context.report_custom_message(to_line(event))
            stream.flush()

        yield partial(job_from, context.extras.get(JOB), "Dagster Pipes"), emit
        stream.flush()
