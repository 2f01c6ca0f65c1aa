"""Running jobs from another process: start the runner, yield its events, leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from virnuc_assets.errors import RunnerError, VirnucError
from virnuc_assets.runner.events import Event, Failed, JobBegins, ShardDone, from_line
from virnuc_assets.runner.job import Job, write_jobs
from virnuc_assets.runner.logs import FOLDER

_GRACE_SECONDS = 10.0


LOG_OPTIONS = ("--log-level", "WARNING", "--logs", FOLDER)
"""Where a runner that another process starts logs to, as arguments."""


class Account:
    """Which shards of a job a runner has accounted for."""

    def __init__(self, job: Job) -> None:
        """Of none so far."""
        self._job = job
        self._unheard_of = set(job.shards)

    def note(self, event: Event) -> Event:
        """Note what a runner says; the same, of a new shard with the folder of its logs."""
        if isinstance(event, ShardDone):
            self._unheard_of.discard(event.shard)
            if not event.reused:
                from virnuc_assets.runner.output import work_folder

                logs = str(work_folder(self._job) / self._job.own(FOLDER))
                return replace(event, metadata={**event.metadata, "logs": logs})
        elif isinstance(event, Failed):
            self._unheard_of -= set(self._job.shards) if event.shard is None else {event.shard}
        return event

    @property
    def is_whole(self) -> bool:
        """Whether every shard is accounted for."""
        return not self._unheard_of

    def close(self, end: str) -> None:
        """The runner has ended, as `end` says.

        Raises:
            RunnerError: it did so without accounting for every shard.
        """
        if self._unheard_of:
            raise RunnerError(
                f"the embedding run ended ({end}) without a word on shards "
                f"{', '.join(map(str, sorted(self._unheard_of)))}; see the log above, then start "
                "it again"
            )


def stream(job: Job) -> Generator[Event]:
    """Run `job` in a process group of its own and yield its events.

    The runner logs warnings to this process's standard error, and each worker all that it logs to
    a file in `logs` beside the run's record, a folder that a new shard's metadata names; the rest
    is said by events. Leaving the generator early (an exception, a cancelled run, Ctrl-C) ends the
    whole group: SIGTERM, and SIGKILL after a grace. Should this process be killed instead, the
    runner sees its standard input close and stops by itself.

    Raises:
        RunnerError: the runner was ended by a signal, or ended without accounting for every shard.
            A job that fails says so in `Failed` events.
        StoreError: the object store that a cluster's machines share cannot be used.
    """
    # Imports Arrow and HDF5: not in every process that can start a runner.
    from virnuc_assets.runner.output import exchanged

    return exchanged(job, _run_one)


def stream_all(jobs: Sequence[Job]) -> Generator[tuple[int, Event]]:
    """Run jobs on this machine, one after the other, and yield whose event it is and the event.

    As `stream`, but all in one process, whose workers go on with the next job where the encoder is
    the same. Where that process is ended, the first job of which not all is known is told to have
    failed, and the jobs after it run in another.
    """
    begun = 0
    while begun < len(jobs):
        first = number = begun
        accounts = [Account(job) for job in jobs[first:]]
        try:
            with closing(_run(jobs[first:], accounts)) as events:
                for job, event in events:
                    number = first + job
                    if not isinstance(event, JobBegins):
                        yield number, event
            return
        except RunnerError as error:
            unknown = (first + n for n, account in enumerate(accounts) if not account.is_whole)
            number = next(unknown, number)
            yield number, Failed(str(error))
            begun = number + 1


def stream_where_set(jobs: Sequence[Job]) -> Generator[tuple[int, Event]]:
    """`stream_all`, or of jobs for a cluster `stream` of each, which loads the encoder for each."""
    if all(job.encoding.ray is None for job in jobs):
        return stream_all(jobs)
    return one_by_one(stream, jobs)


def one_by_one(
    stream_of: Callable[[Job], Generator[Event]], jobs: Sequence[Job]
) -> Generator[tuple[int, Event]]:
    """The events of jobs that cannot share workers, each with its job's number.

    `stream_of`: the events of a job; what it raises is said by a `Failed` event.
    """
    for number, job in enumerate(jobs):
        try:
            with closing(stream_of(job)) as events:
                for event in events:
                    yield number, event
        except VirnucError as error:
            yield number, Failed(str(error))


def _run_one(job: Job) -> Generator[Event]:
    with closing(_run([job], [Account(job)])) as events:
        for _, event in events:
            yield event


def _run(jobs: Sequence[Job], accounts: Sequence[Account]) -> Generator[tuple[int, Event]]:
    with tempfile.TemporaryDirectory(prefix="virnuc-job-") as folder:
        path = Path(folder) / "jobs.json"
        write_jobs(path, jobs)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "virnuc_assets.runner", str(path)),
                *("--watch-stdin", *LOG_OPTIONS),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        number = 0
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = from_line(line)
                if isinstance(event, JobBegins):
                    number = event.job
                yield number, accounts[number].note(event)
            code = process.wait()
        finally:
            _end_group(process)
    if code in (0, 1, 2):
        for account in accounts:
            account.close(f"exit code {code}")
    else:
        raise RunnerError(
            f"the embedding run was ended from outside (exit code {code}); finished blocks are "
            "kept, start it again to go on"
        )


def _end_group(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
