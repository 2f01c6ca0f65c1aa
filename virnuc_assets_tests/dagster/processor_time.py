"""How much processor time a platform's processes take, and which of them."""

import os
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import suppress


def say(text):
    """A line of a log that is kept."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


_TICKS = os.sysconf("SC_CLK_TCK")
_KINDS = (
    ("virnuc_assets.runner", "embedding: coordinator"),
    ("dagster._daemon", "daemon"),
    ("dagster_webserver", "webserver"),
    ("dagster-webserver", "webserver"),
    ("code-server", "code server"),
    ("api\0grpc", "code server"),
    ("multiprocessing.resource_tracker", "other"),
    ("dagster\0dev", "other"),
)


def _times(process):
    """Own time of a process and that of its children that have ended, in seconds."""
    fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
    own, ended = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return own / _TICKS, ended / _TICKS


class Meter:
    """Watches the processes of a platform from a thread while it is entered."""

    def __init__(self, platform, interval=0.2):
        self._platform = platform
        self._interval = interval
        self._over = threading.Event()
        self._own = {}
        self._kinds = {}

    def __enter__(self):
        self._start = self.total()
        self._look()
        self._before = dict(self._own)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._look()
        self.seconds = self.total() - self._start

    def total(self):
        """Seconds of all processes that run, and of all their children that have ended."""
        total = 0.0
        for process in self._platform.processes():
            with suppress(OSError):
                total += sum(_times(process))
        return total

    def by_kind(self):
        """Seconds by kind of process; what ended between two looks is short by its last moments."""
        kinds = defaultdict(float)
        for process, seconds in self._own.items():
            kinds[self._kinds[process]] += seconds - self._before.get(process, 0.0)
        return dict(sorted(kinds.items(), key=lambda item: -item[1]))

    def _watch(self):
        while not self._over.wait(self._interval):
            self._look()

    def _look(self):
        for process in self._platform.processes():
            with suppress(OSError):
                self._own[process.name] = _times(process)[0]
                if process.name not in self._kinds:
                    self._kinds[process.name] = self._kind(process)

    def _kind(self, process):
        line = (process / "cmdline").read_text()
        for mark, kind in _KINDS:
            if mark in line:
                return kind
        parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
        above = self._kinds.get(parent, "")
        if above.startswith("embedding"):
            return "embedding: worker"
        return "run worker" if above == "code server" else "other"


def imports(module):
    """Processor seconds of a process that imports `module`: how fast this machine is just now."""
    before = os.times()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = os.times()
    return after.children_user + after.children_system - sum(before[2:4])
