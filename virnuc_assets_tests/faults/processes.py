"""Finding the processes of a run, whoever their parent is by now, and starting one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from virnuc_assets.runner.events import Event, from_line
from virnuc_assets.runner.job import Job, write_jobs
from virnuc_assets_tests.faults.points import STACKS_SIGNAL, VARIABLE

_REPOSITORY = Path(__file__).parents[2]
_GIVE_UP_SECONDS = 240


def marked_with(folder: Path) -> list[int]:
    """Every live process whose environment says that it belongs to the run in `folder`."""
    mark = f"{VARIABLE}={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


class Run:
    """The runner on one job, in a process group of its own."""

    def __init__(self, folder: Path, job: Job) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._hangs = False
        self._patience = threading.Timer(_GIVE_UP_SECONDS, self._give_up)
        write_jobs(folder / "job.json", [job])
        self._log = (folder / "log").open("a")
        temporary = folder / "tmp"
        temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "virnuc_assets_tests.faults.program"),
                *(str(folder / "job.json"), "--watch-stdin"),
            ],
            cwd=_REPOSITORY,
            env={
                **os.environ,
                VARIABLE: str(folder),
                "TMPDIR": str(temporary),
                # As many threads with one worker as with two: sums are added up in one order.
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        self._patience.start()

    def events(self) -> Iterator[Event]:
        """What the run says, until it says no more."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield from_line(line)

    def workers(self) -> list[int]:
        """Worker processes, those that still start included."""
        return [pid for pid in marked_with(self.folder) if b"spawn_main" in _command(pid)]

    def bound_workers(self) -> list[int]:
        """Workers that have asked the kernel to end with their parent.

        They have threads since then; see `virnuc_assets.runner.lifeline`.
        """
        return [pid for pid in self.workers() if _threads(pid) > 1]

    def signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self) -> int:
        """The exit code, once nothing of the run is alive any more.

        Raises:
            AssertionError: something of it lives on; it is killed.
        """
        try:
            code = self.process.wait(_GIVE_UP_SECONDS)
            assert not self._hangs, f"the run hangs; its stacks are in {self.folder / 'log'}"
            for _ in range(20 * 20):
                if not (left := marked_with(self.folder)):
                    return code
                time.sleep(0.05)
            raise AssertionError(f"processes {left} outlive their run: {self.folder}")
        finally:
            self._end()

    def _give_up(self) -> None:
        self._hangs = True
        for pid in marked_with(self.folder):
            with suppress(ProcessLookupError):
                os.kill(pid, STACKS_SIGNAL)
        time.sleep(1.0)
        self.signal_group(signal.SIGKILL)

    def _end(self) -> None:
        self._patience.cancel()
        self.signal_group(signal.SIGKILL)
        for pid in marked_with(self.folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def _threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
