"""Running a job from another process: start the runner, yield its events, leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from virnuc_assets.errors import RunnerError
from virnuc_assets.runner.events import Event, Failed, ShardDone, from_line
from virnuc_assets.runner.job import Job, write_job
from virnuc_assets.runner.logs import FOLDER

_GRACE_SECONDS = 10.0


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
    """
    logs = Path(job.output) / FOLDER
    with tempfile.TemporaryDirectory(prefix="virnuc-job-") as folder:
        path = Path(folder) / "job.json"
        write_job(path, job)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "virnuc_assets.runner", str(path)),
                *("--watch-stdin", "--log-level", "WARNING", "--logs", str(logs)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            unheard_of = set(job.shards)
            for line in process.stdout:
                event = from_line(line)
                if isinstance(event, ShardDone):
                    unheard_of.discard(event.shard)
                    if not event.reused:
                        event = replace(event, metadata={**event.metadata, "logs": str(logs)})
                elif isinstance(event, Failed):
                    unheard_of -= set(job.shards) if event.shard is None else {event.shard}
                yield event
            code = process.wait()
        finally:
            _end_group(process)
    if unheard_of and code in (0, 1, 2):
        raise RunnerError(
            f"the embedding run ended (exit code {code}) without a word on shards "
            f"{', '.join(map(str, sorted(unheard_of)))}; see the log above, then start it again"
        )
    if code not in (0, 1, 2):
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
