"""Real worker processes that only pretend to work: what the pool notices, and that it ends them.

What a pretended worker does is decided by its device's name.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_assets.runner.messages import Died, Hung, Ready
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.pool import LocalPool

BLOCK = Block(0, 0, 0, 1, 1)


def pretend(link, device, job):
    if device == "unborn":
        os._exit(7)
    link.send(Ready(os.getpid()))  # its process id in place of a dimension
    while link.recv() is not None:
        if device == "dies":
            os._exit(9)
        if device == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        if device == "slow":
            for _ in range(40):
                link.landed()
                time.sleep(0.1)
        if device != "stuck":
            link.send("done")


def reports(pool, wanted):
    """What the pool says until it has said `wanted` things."""
    said = []
    for _ in range(200):
        said += pool.wait()
        if len(said) >= wanted:
            return said
    raise AssertionError(f"only {said}")


@pytest.fixture
def job(make_job):
    return replace(make_job(), silence_seconds=3.0)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_that_die_are_told_of(job):
    with LocalPool(pretend, ()) as pool:
        pool.start("unborn", job)
        pool.start("dies", job)
        assert {device for device, _ in reports(pool, 2)} == {"unborn", "dies"}
        pool.send("dies", BLOCK)
        assert reports(pool, 1) == [("dies", Died(9))]
        pool.send("dies", BLOCK)  # nobody is there: no error
        pool.retire("dies")


def test_stopped_and_stuck_workers_are_killed_and_others_go_on(job, monkeypatch):
    monkeypatch.setattr("virnuc_assets.runner.pool._STALL_SILENCES", 2)
    with LocalPool(pretend, ()) as pool:
        for device in ("stops", "stuck", "slow"):
            pool.start(device, job)
        pids = {device: ready.dim for device, ready in reports(pool, 3)}
        for device in pids:
            pool.send(device, BLOCK)
        said = dict(reports(pool, 3))
        assert said["slow"] == "done"
        assert isinstance(said["stops"], Hung)
        assert "no sign of life" in said["stops"].why
        assert isinstance(said["stuck"], Hung)
        assert "no pack" in said["stuck"].why
        assert not is_alive(pids["stops"])
        assert not is_alive(pids["stuck"])
        assert is_alive(pids["slow"])
    assert not is_alive(pids["slow"])


def test_leaving_ends_stopped_workers(job):
    with LocalPool(pretend, ()) as pool:
        for i in range(3):
            pool.start(f"idle {i}", job)
        pids = [ready.dim for _, ready in reports(pool, 3)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert not any(is_alive(pid) for pid in pids)


class StopsWhereItIsRead:
    """An argument at which a process stops, before it does any of its work."""

    def __init__(self, pid_file):
        self.pid_file = pid_file

    def __reduce__(self):
        return _stop, (self.pid_file,)


def _stop(pid_file):
    pid_file.write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


def coordinate(job, argument):
    with LocalPool(pretend, (argument,)) as pool:
        pool.start("unborn", job)
        while True:
            pool.wait()


def until(holds):
    """Wait for what must come about, however long it takes here."""
    while not holds():
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="by the kernel of Linux alone")
def test_a_worker_stopped_while_it_starts_ends_with_a_killed_coordinator(job, tmp_path):
    pid_file = tmp_path / "pid"
    process = multiprocessing.get_context("spawn").Process(
        target=coordinate, args=(replace(job, silence_seconds=1e6), StopsWhereItIsRead(pid_file))
    )
    process.start()
    until(lambda: pid_file.exists() and pid_file.read_text())
    worker = int(pid_file.read_text())
    until(lambda: Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
    process.kill()
    process.join()
    until(lambda: not is_alive(worker))
