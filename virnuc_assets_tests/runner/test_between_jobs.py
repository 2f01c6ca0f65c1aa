"""What one job leaves for the next: workers, token budgets, and that an encoder cannot be loaded.

Workers only pretend to embed; the pool's are real processes.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_assets.encoders import catalog
from virnuc_assets.errors import BackendError, EncoderUnusableError, RunnerError, WeightsError
from virnuc_assets.runner import worker
from virnuc_assets.runner.between_jobs import BetweenJobs
from virnuc_assets.runner.coordinator import run
from virnuc_assets.runner.identity import Digests
from virnuc_assets.runner.logs import Logs
from virnuc_assets.runner.messages import Broke, NextJob, OutOfMemory, Ready, Taken
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.pool import IdleWorkers, LocalPool
from virnuc_assets_tests import untrained
from virnuc_assets_tests.runner.test_coordinator import PretendedPool
from virnuc_assets_tests.runner.test_pool import is_alive, reports

BLOCK = Block(0, 0, 0, 1, 1)


@pytest.fixture
def idle():
    idle = IdleWorkers()
    yield idle
    idle.end()


def take_jobs(link, device, job, *arguments):
    """Says its process id when it is ready, and of each block what it has been told of its job."""
    while device == "loads for long" and not Path(job.output, "loaded").exists():
        time.sleep(0.02)
    link.turn = 0
    while True:
        link.send(Ready(os.getpid()))
        while not isinstance(message := link.recv(), NextJob):
            link.send((job.output, arguments))
        link.turn, job, arguments = message.turn, message.job, message.arguments


def started(idle, job, device="cpu", argument="first"):
    """The process id of the worker that a new pool starts, and what it says of a block."""
    with LocalPool(take_jobs, (argument,), idle=idle) as pool:
        pool.start(device, job)
        ((_, ready),) = reports(pool, 1)
        pool.send(device, BLOCK)
        ((_, said),) = reports(pool, 1)
    return ready.dim, said


def test_a_worker_goes_on_with_the_next_job_and_what_belongs_to_it(idle, make_job):
    one, two = make_job(output="one"), make_job(output="two")
    pid, said = started(idle, one)
    assert said == (one.output, ("first",))
    assert is_alive(pid)
    assert started(idle, two, argument="second") == (pid, (two.output, ("second",)))
    assert started(idle, one, argument="third") == (pid, (one.output, ("third",)))
    idle.end()
    assert not is_alive(pid)


def test_a_worker_that_still_loads_is_not_started_twice_nor_heard_late(idle, make_job):
    one, two = make_job(output="one"), make_job(output="two")
    Path(one.output).mkdir()
    with LocalPool(take_jobs, (), idle=idle) as pool:
        pool.start("loads for long", one)
        assert pool.wait() == []
    with LocalPool(take_jobs, (), idle=idle) as pool:
        pool.start("loads for long", two)
        Path(one.output, "loaded").touch()
        ((_, ready),) = reports(pool, 1)
        pool.send("loads for long", BLOCK)
        assert reports(pool, 1) == [("loads for long", (two.output, ()))]
    assert is_alive(ready.dim)


def fail_to_load(link, device, job):
    while not Path(job.output, "loaded").exists():
        time.sleep(0.02)
    link.send(Taken("in use"))
    link.recv()


def test_that_a_worker_could_not_load_is_heard_whichever_job_is_on(idle, make_job):
    one = make_job()
    Path(one.output).mkdir()
    with LocalPool(fail_to_load, (), idle=idle) as pool:
        pool.start("0", one)
    with LocalPool(fail_to_load, (), idle=idle) as pool:
        pool.start("0", one)
        Path(one.output, "loaded").touch()
        assert reports(pool, 1) == [("0", Taken("in use"))]


def test_workers_that_jobs_find_nothing_to_do_for_are_ended_after_a_while(make_job, monkeypatch):
    job = make_job(output="done before")
    runs = Runs(lambda job, device, block: None)
    runs.run(job)
    with closing(runs.between) as between:
        pid, _ = started(between.workers, job)
        runs.run(job)
        assert is_alive(pid)
        monkeypatch.setattr("virnuc_assets.runner.coordinator._UNUSED_SECONDS", 0.0)
        runs.run(job)
        assert not is_alive(pid)


@pytest.mark.parametrize("ended", ["killed", "of another encoder"])
def test_no_other_worker_is_taken(idle, make_job, ended):
    job = make_job()
    pid, _ = started(idle, job)
    if ended == "killed":
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    else:
        job = replace(job, encoding=replace(job.encoding, attention="sdpa"))
    assert started(idle, job)[0] != pid
    assert not is_alive(pid)


def test_after_an_error_no_worker_is_kept(idle, make_job):
    with pytest.raises(RunnerError), LocalPool(take_jobs, (), idle=idle) as pool:
        pool.start("cpu", make_job())
        ((_, ready),) = reports(pool, 1)
        raise RunnerError("what went wrong")
    assert not is_alive(ready.dim)


class Runs:
    """Runs one after the other in pretended pools; `behave` as a `PretendedPool` has it."""

    def __init__(self, behave):
        self.behave, self.between, self.pools = behave, BetweenJobs(), []

    def run(self, job):
        def make_pool(worker, arguments):
            self.pools.append(PretendedPool(self.behave, arguments))
            return self.pools[-1]

        return run(job, lambda event: None, make_pool=make_pool, between=self.between)


def test_a_halved_token_budget_lives_on_with_its_encoder(make_job):
    def behave(job, device, block):
        budget = job.encoding.token_budget
        return OutOfMemory("full", budget) if block is None and budget > 4096 else None

    def job(output, **changes):
        made = make_job(output=output)
        return replace(made, encoding=replace(made.encoding, token_budget=8192, **changes))

    runs = Runs(behave)
    for each in (job("one"), job("two"), job("three", attention="sdpa")):
        assert runs.run(each).failed == ()
    budgets = [[budget for _, budget in pool.starts] for pool in runs.pools]
    assert budgets == [[8192, 4096], [4096], [8192, 4096]]


def test_that_an_encoder_cannot_be_loaded_is_found_out_once(make_job):
    Runs(lambda job, device, block: None).run(make_job(output="done before"))
    runs = Runs(lambda job, device, block: Broke(None, "not to be loaded", True, encoder=True))
    for output in ("one", "two"):
        with pytest.raises(EncoderUnusableError, match="not to be loaded"):
            runs.run(make_job(output=output))
    assert [len(pool.starts) for pool in runs.pools] == [1, 0]
    assert runs.run(make_job(output="done before")).failed == ()
    other = make_job(output="three")
    other = replace(other, encoding=replace(other.encoding, attention="sdpa"))
    runs.behave = lambda job, device, block: None
    assert runs.run(other).failed == ()


def test_an_encoder_that_was_loaded_once_is_tried_again(make_job):
    runs = Runs(lambda job, device, block: None)
    runs.run(make_job(output="one"))
    runs.behave = lambda job, device, block: Broke(None, "not to be loaded", True, encoder=True)
    with pytest.raises(RunnerError, match="not to be loaded"):
        runs.run(make_job(output="two"))
    runs.behave = lambda job, device, block: None
    assert runs.run(make_job(output="two")).failed == ()


@pytest.mark.parametrize(
    ("device", "error", "cause", "is_the_encoders"),
    [
        ("cpu", WeightsError("should have shape (2,)"), None, True),
        ("0", WeightsError("would run code"), pickle.UnpicklingError(), True),
        ("cpu", BackendError("attention=flash-attn: can't serve here"), None, True),
        ("0", WeightsError("is not readable"), OSError("stale file handle"), False),
        ("0", BackendError("its free memory does not hold it"), RuntimeError(), False),
        ("cpu", BackendError("its free memory does not hold it"), RuntimeError(), False),
        ("0", BackendError("there is no such GPU on this machine"), None, False),
    ],
)
def test_a_device_or_file_that_may_be_there_later_is_no_fault_of_the_encoder(
    make_job, monkeypatch, device, error, cause, is_the_encoders
):
    class Heard:
        turn, said = None, []

        def send(self, message):
            self.said.append(message)

    def fail(*arguments):
        raise error from cause

    monkeypatch.setattr(worker, "_loaded", fail)
    monkeypatch.setattr(worker, "sole_user", nullcontext)
    monkeypatch.setattr(worker, "bind", str)
    link = Heard()
    worker.work(link, device, make_job(), Digests("w", "e"), Logs(logging.INFO, None))
    (broke,) = link.said
    assert (broke.block, broke.explained, broke.encoder) == (None, True, is_the_encoders)


def test_another_fault_at_the_start_is_that_jobs_own(make_job):
    runs = Runs(lambda job, device, block: Broke(None, "no such table", True))
    with pytest.raises(RunnerError, match="no such table"):
        runs.run(make_job(output="one"))
    runs.behave = lambda job, device, block: None
    assert runs.run(make_job(output="two")).failed == ()


def test_weights_are_hashed_again_when_their_files_have_changed(tmp_path, monkeypatch):
    folder = tmp_path / "esm2"
    shutil.copytree(untrained.folder() / "esm2", folder)
    weights = catalog.resolve_weights("esm2", str(folder))
    hashed = []
    digest = catalog.weights_digest
    monkeypatch.setattr(catalog, "weights_digest", lambda w: hashed.append(w) or digest(w))
    between = BetweenJobs()
    first = between.weights_digest(weights)
    assert between.weights_digest(weights) == first == digest(weights)
    assert len(hashed) == 1
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    assert between.weights_digest(weights) == digest(weights) != first
    assert len(hashed) == 2
