"""Runs whose process and code server were killed at once are not started for ever."""

import json
import os
import socket
import subprocess
import time

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.test_utils import create_run_for_test

from virnuc_assets.sensors import lost_runs
from virnuc_assets.sensors.lost_runs import GRPC_INFO_TAG, lost_runs_sensor


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def ended():
    """Process id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def status(instance):
    """The status, after a tick, of a started run of process `pid` and a code server at `server`."""

    def status(pid, server):
        tags = {GRPC_INFO_TAG: json.dumps(server)}
        run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=tags)
        instance.report_engine_event("Started process.", run, EngineEventData.in_process(pid))
        lost_runs_sensor(dg.build_sensor_context(instance=instance))
        return instance.get_run_by_id(run.run_id).status

    return status


@pytest.fixture
def gone(tmp_path):
    """The socket of a code server that was killed: the file is there, and nobody listens."""
    path = tmp_path / "gone"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return {"host": "localhost", "socket": str(path)}


def test_a_run_whose_process_and_code_server_are_gone_has_failed(status, ended, gone):
    assert status(ended, gone) == dg.DagsterRunStatus.FAILURE


def test_a_process_number_that_was_given_away_counts_as_gone(status, gone, monkeypatch):
    """The process of that number began after the run said that it was its own."""
    monkeypatch.setattr(lost_runs, "_began", lambda pid: time.time() + 100)
    assert status(os.getpid(), gone) == dg.DagsterRunStatus.FAILURE


def test_a_process_that_ended_and_that_nobody_asked_about_counts_as_gone(status, gone):
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert status(process.pid, gone) == dg.DagsterRunStatus.FAILURE
    finally:
        process.wait()


def test_a_run_that_ends_while_it_is_looked_at_has_not_failed(status, ended, gone, monkeypatch):
    def ends(instance, run):
        instance.report_run_canceled(run)
        return True

    monkeypatch.setattr(lost_runs, "_is_lost", ends)
    assert status(ended, gone) == dg.DagsterRunStatus.CANCELED


def test_a_run_that_is_at_work_goes_on_without_its_code_server(status, gone):
    assert status(os.getpid(), gone) == dg.DagsterRunStatus.STARTED


def test_a_code_server_that_is_there_speaks_for_its_runs(status, ended, tmp_path):
    path = tmp_path / "server"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert status(ended, {"socket": str(path)}) == dg.DagsterRunStatus.STARTED


def test_runs_of_a_code_server_elsewhere_are_left_alone(status, ended):
    assert status(ended, {"host": "elsewhere", "port": 4000}) == dg.DagsterRunStatus.STARTED
