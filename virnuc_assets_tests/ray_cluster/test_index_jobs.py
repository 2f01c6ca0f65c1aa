"""Indexing by jobs of a cluster whose dashboard fails now and then; the cluster is pretended."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from virnuc_assets import __version__, ray_index
from virnuc_assets.errors import InputError, RunnerError
from virnuc_assets.runner import ray_jobs
from virnuc_assets.runner.job import RayCluster
from virnuc_assets.sequences import index as index_module
from virnuc_assets.sequences.index import build_index

CLUSTER = RayCluster("http://head:8265")
FASTA = ">a\nATGGCCATTGCAATGGGCCGC\n"
FAILED = RuntimeError("Request failed with status code 500: it\nrestarts.")
GONE = ConnectionError("Connection refused")


class Client:
    """A dashboard that does a job as soon as it is submitted, and raises `faults` in their turn."""

    def __init__(self):
        self.faults = {}
        self.submitted = []
        self.said = {}
        self.stopped = []
        self.going = set()

    def _fail(self, what):
        if self.faults.get(what):
            raise self.faults[what].pop(0)

    def submit_job(self, **job):
        self._fail("submit")
        self.submitted.append(job)
        name = f"job-{len(self.submitted)}"
        *_, fasta, folder, chunk_length, version = shlex.split(job["entrypoint"])
        answer = ray_index._index_there(
            *map(ray_index.Path, (fasta, folder)), int(chunk_length), version
        )
        self.said[name] = f"noise\n{ray_index._ANSWER}{json.dumps(asdict(answer))}\n"
        return name

    def get_job_status(self, name):
        self._fail("status")
        self._fail(name)
        return SimpleNamespace(is_terminal=lambda: name not in self.going)

    def get_job_logs(self, name):
        self._fail("logs")
        return self.said[name]

    def get_job_info(self, name):
        self._fail("info")
        return SimpleNamespace(message="Job supervisor actor\ndied.")

    def stop_job(self, name):
        self._fail("stop")
        self.stopped.append(name)
        self.going.discard(name)


@pytest.fixture
def client(monkeypatch):
    import ray

    client, now = Client(), [0.0]

    def sleep(seconds):
        now[0] += seconds

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: now[0])
    for module in (ray_index, ray_jobs):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(ray_jobs, "client_of", lambda address: client)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    return client


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "a.fa"
    path.write_text(FASTA)
    return path


def test_a_dashboard_that_starts_again_is_waited_for(client, fasta, tmp_path):
    client.faults = {
        "status": [FAILED, GONE] * 20,
        "logs": [GONE, FAILED],
    }
    with ray_index.indexing(CLUSTER) as begin:
        made = begin(fasta, tmp_path / "index", 300)()
    assert made.where == "10.0.0.7"
    assert made.manifest == build_index(fasta, tmp_path / "h", 300, tool_version=__version__)
    assert client.stopped == []


@pytest.mark.parametrize("what", ["status", "logs"])
def test_one_that_stays_away_is_one_sentence(what, client, fasta, tmp_path):
    client.faults = {what: [FAILED] * 1000}
    with (
        pytest.raises(RunnerError, match=r"a\.fa: could not be indexed on the Ray cluster \(its "
                      r"job job-1: Request failed with status code 500: it restarts\.\); see"),
        ray_index.indexing(CLUSTER) as begin,
    ):  # fmt: skip
        begin(fasta, tmp_path / "index", 300)()


def test_a_job_that_ended_without_an_answer_says_why(client, fasta, tmp_path):
    client.faults = {"info": [GONE]}
    with ray_index.indexing(CLUSTER) as begin:
        wait = begin(fasta, tmp_path / "index", 300)
        client.said["job-1"] = "noise\n"
        with pytest.raises(RunnerError, match=r"\(its job job-1: Job supervisor actor died\.\)"):
            wait()


def test_what_cannot_be_submitted_is_one_sentence_and_the_others_go_on(client, fasta, tmp_path):
    with ray_index.indexing(CLUSTER) as begin:
        first = begin(fasta, tmp_path / "first", 300)
        client.faults = {"submit": [FAILED]}
        with pytest.raises(RunnerError, match=r"could not be indexed on the Ray cluster \(Request"):
            begin(fasta, tmp_path / "second", 300)
        assert first().manifest.records == 1


def test_every_job_is_stopped_whatever_becomes_of_the_others(client, fasta, tmp_path, caplog):
    with pytest.raises(KeyError), ray_index.indexing(CLUSTER) as begin:
        for number in range(3):
            begin(fasta, tmp_path / str(number), 300)
        client.going = {"job-1", "job-2", "job-3"}
        client.faults = {"job-1": [FAILED] * 1000, "job-2": [GONE], "stop": [GONE]}
        raise KeyError
    assert client.going == set()
    assert "Ray's job job-1 was asked to stop and has not" in caplog.text
    assert caplog.text.count("was asked to stop") == 1


def test_a_job_holds_no_cpu_itself_and_its_task_uses_the_one_it_has(
    client, fasta, tmp_path, monkeypatch
):
    threads, build = [], index_module.build_index

    def noted(*arguments, **options):
        threads.append(options["threads"])
        return build(*arguments, **options)

    monkeypatch.setattr(index_module, "build_index", noted)
    with ray_index.indexing(CLUSTER) as begin:
        begin(fasta, tmp_path / "index", 300)()
    assert [job["entrypoint_num_cpus"] for job in client.submitted] == [0]
    assert threads == [1]


def test_an_input_that_only_the_asking_machine_has_is_said_to_be(
    client, fasta, tmp_path, monkeypatch
):
    there = ray_index._index_there

    def elsewhere(fasta, *arguments):
        return there(fasta.with_name("not there"), *arguments)

    monkeypatch.setattr(ray_index, "_index_there", elsewhere)
    with ray_index.indexing(CLUSTER) as begin:
        with pytest.raises(InputError) as refused:
            begin(fasta, tmp_path / "index", 300)()
        assert str(refused.value) == (
            f"{fasta}: is on this machine and not on 10.0.0.7, where the Ray cluster looked for "
            "it; put inputs on the disk that the cluster's machines share, or set "
            "VIRNUC_LAUNCHER=local"
        )
        fasta.unlink()
        with pytest.raises(InputError, match="no such file; check the path"):
            begin(fasta, tmp_path / "index", 300)()


def test_an_input_that_is_broken_is_told_as_it_is(client, fasta, tmp_path):
    fasta.write_text(">a\nMKLE\n")
    with ray_index.indexing(CLUSTER) as begin, pytest.raises(InputError, match="not a nucleotide"):
        begin(fasta, tmp_path / "index", 300)()


def test_a_job_has_a_task_index_the_file_and_says_what_came_of_it(monkeypatch, capsys):
    answer = ray_index._Refused("a sentence", of_input=True, missing_on="10.0.0.7")
    asked = []

    class Tasks:
        def __init__(self, address):
            asked.append(address)

        def __enter__(self):
            return lambda *arguments: asked.append(arguments) or (lambda: answer)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(ray_index, "_tasks", Tasks)
    monkeypatch.setattr(ray_index.signal, "signal", lambda *_: None)
    ray_index._be_job("/a.fa", "/index", "300", "9.9")
    assert asked == ["auto", (ray_index.Path("/a.fa"), ray_index.Path("/index"), 300, "9.9")]
    assert ray_index._read(capsys.readouterr().out.removeprefix(ray_index._ANSWER)) == answer
