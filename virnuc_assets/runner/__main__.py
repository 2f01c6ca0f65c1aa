"""`python -m virnuc_assets.runner JOBS.json`: embed; events as JSON lines on standard output.

The file lists jobs. They are done one after the other, with the same workers where they have the
same encoder; one that fails does not keep the others from being done.

With `--pipes` in place of a file, a job comes from the Dagster run that started this process, and
events go there, by Dagster Pipes.

Exit codes: 0 all shards done, 1 none, 2 some, 128 + n after signal n. With `--watch-stdin` the
run ends when standard input closes, so that it cannot outlive the process that started it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TextIO

from virnuc_assets.errors import VirnucError
from virnuc_assets.runner import pipes
from virnuc_assets.runner.background import leave
from virnuc_assets.runner.between_jobs import BetweenJobs
from virnuc_assets.runner.coordinator import Outcome, run
from virnuc_assets.runner.events import Event, Failed, JobBegins, to_line
from virnuc_assets.runner.job import Job, read_jobs
from virnuc_assets.runner.logs import LOG_FORMAT
from virnuc_assets.runner.resume import Emit


class _Stopped(BaseException):
    """A signal asked us to end; not an Exception, so that no handler takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def main(arguments: list[str]) -> int:
    """Run the jobs; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m virnuc_assets.runner", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("jobs", type=Path, nargs="?")
    source.add_argument("--pipes", action="store_true")
    parser.add_argument("--watch-stdin", action="store_true")
    parser.add_argument("--log-level", default="INFO", choices=("INFO", "WARNING", "ERROR"))
    parser.add_argument(
        "--logs",
        type=Path,
        help="folder in which each worker has a log file, seen from the job's own folder",
    )
    options = parser.parse_args(arguments)
    events = _claim_standard_output()
    logging.basicConfig(level=options.log_level, format=LOG_FORMAT)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    if options.watch_stdin:
        threading.Thread(target=_stop_when_stdin_closes, daemon=True).start()

    if options.pipes:
        with pipes.opened(events) as (job, emit):
            return _embed_all(lambda: [job()], emit, options.logs)

    def emit_line(event: Event) -> None:
        events.write(to_line(event) + "\n")
        events.flush()

    return _embed_all(partial(read_jobs, options.jobs), emit_line, options.logs)


def _embed_all(jobs: Callable[[], Sequence[Job]], emit: Emit, logs: Path | None) -> int:
    done, failed = 0, False
    try:
        with closing(BetweenJobs()) as between:
            for number, job in enumerate(jobs()):
                if number:
                    emit(JobBegins(number))
                outcome = _embed(job, emit, logs, between)
                done += len(outcome.done)
                failed |= bool(outcome.failed)
    except _Stopped as stopped:
        return 128 + stopped.number
    except VirnucError as error:
        emit(Failed(str(error)))
        return 1
    if not failed:
        return 0
    return 2 if done else 1


def _embed(job: Job, emit: Emit, logs: Path | None, between: BetweenJobs) -> Outcome:
    try:
        return run(job, emit, log_folder=logs, between=between)
    except VirnucError as error:
        emit(Failed(str(error)))
    except Exception:  # noqa: BLE001  the last line of defence: told, and a non-zero exit
        emit(Failed(traceback.format_exc(), explained=False))
    return Outcome((), job.shards)


def _claim_standard_output() -> TextIO:
    # Libraries print; from here on what they print goes to standard error, and standard output
    # carries events alone.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _stop(number: int, frame: FrameType | None) -> None:
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    raise _Stopped(number)


def _stop_when_stdin_closes() -> None:
    while os.read(0, 4096):
        pass
    # To the main thread, which waits for workers: a signal taken by another would not wake it.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
