"""The runner as its callers see it: a real process, JSON in, events out, files on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.errors import RunnerError
from virnuc_assets.runner import client
from virnuc_assets.runner.device_lock import sole_user
from virnuc_assets.runner.events import BlockDone, Failed, ShardDone, Started, Warned
from virnuc_assets.runner.job import read_jobs, write_jobs
from virnuc_assets.store.embeddings import block_path, shard_path
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets.store.sharded import ShardedEmbeddings


def run(job):
    return list(client.stream(job))


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def shard_bytes(job):
    return [shard_path(Path(job.output), shard, job.n_shards).read_bytes() for shard in job.shards]


def leftovers(job):
    shards = {shard_path(Path(job.output), shard, job.n_shards) for shard in job.shards}
    beside = {Path(job.output) / name for name in ("view.h5", "run.json", "logs", ".locks")}
    beside |= set((Path(job.output) / ".locks").iterdir())
    beside |= {
        Path(job.output) / "logs" / f"worker-{device}.log" for device in job.encoding.devices
    }
    return set(Path(job.output).rglob("*")) - shards - beside


def test_jobs_survive_their_file(tmp_path, make_job):
    jobs = [make_job(), make_job(n=7, output="other")]
    write_jobs(tmp_path / "jobs.json", jobs)
    assert read_jobs(tmp_path / "jobs.json") == jobs


def test_every_row_is_embedded_as_the_encoder_alone_would(make_job):
    job = make_job()
    events = run(job)
    assert len(of_kind(events, BlockDone)) == 6
    assert [event.shard for event in of_kind(events, ShardDone)] in ([0, 1], [1, 0])
    table = SequenceTable(Path(job.sequences))
    rows = np.arange(len(table))
    encoder = load_encoder(
        EncoderSettings("esm2", job.encoding.weights, token_budget=job.encoding.token_budget)
    )
    alone = np.concatenate([encoder.embed(table.take(rows[i : i + 1])).values for i in rows])
    stored = ShardedEmbeddings(Path(job.output), job.n_shards, len(table), job.index_digest)
    assert np.array_equal(stored.take(rows), alone)
    assert leftovers(job) == set()
    metadata = of_kind(events, ShardDone)[0].metadata
    assert metadata["model"] == "untrained"
    assert metadata["rows"] == 30
    assert 0 < metadata["packing_efficiency"] <= 1
    assert metadata["tokens_per_second"] > 0


def test_a_finished_job_is_not_done_again(make_job):
    job = make_job()
    run(job)
    before = shard_bytes(job)
    events = run(job)
    assert of_kind(events, BlockDone) == []
    assert all(event.reused for event in of_kind(events, ShardDone))
    assert of_kind(events, Started)[0].blocks_done == 6
    assert shard_bytes(job) == before


def test_block_size_and_shard_order_change_no_bit(make_job):
    job, other = make_job(output="a"), make_job(output="b", block_sequences=7, shards=(1, 0))
    run(job)
    run(other)
    one, two = (
        ShardedEmbeddings(Path(j.output), 2, 60, "index").take(np.arange(60)) for j in (job, other)
    )
    assert np.array_equal(one, two)


def test_a_shard_may_be_empty(make_job):
    job = make_job(n=1, n_shards=3)
    events = run(job)
    assert len(of_kind(events, ShardDone)) == 3
    assert len(ShardedEmbeddings(Path(job.output), 3, 1, "index").take(np.array([0]))) == 1


def test_a_sequence_that_cannot_be_embedded_is_set_aside_and_the_rest_completes(make_job):
    job = make_job(empty=1)
    events = run(job)
    assert of_kind(events, Failed) == []
    assert len(of_kind(events, ShardDone)) == 2
    (warning,) = [event.message for event in of_kind(events, Warned)]
    assert "row 59" in warning
    assert "no letters" in warning
    stored = ShardedEmbeddings(Path(job.output), 2, 60, "index")
    assert stored.set_aside.tolist() == [59]
    others = make_job()
    run(replace(others, output=job.output + "-others"))
    without = ShardedEmbeddings(Path(job.output + "-others"), 2, 60, "index").take(np.arange(59))
    assert np.array_equal(stored.take(np.arange(59)), without)
    assert leftovers(job) == set()


def test_a_gpu_that_another_run_uses_is_named_with_its_process(make_job, two_gpus):
    job = make_job()
    job = replace(job, encoding=replace(job.encoding, devices=("3",), dtype="float32"))
    with sole_user("3"):
        (failed,) = of_kind(run(job), Failed)
    assert failed.explained
    assert f"GPU 3: is in use by another run (process {os.getpid()})" in failed.message


@pytest.fixture
def interrupted(make_job, tmp_path):
    """A job killed after two blocks; its output holds exactly these."""

    def interrupt(how):
        job = make_job(n=150, longest=200)
        write_jobs(tmp_path / "job.json", [job])
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "virnuc_assets.runner",
                str(tmp_path / "job.json"),
                "--watch-stdin",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        seen = 0
        for line in process.stdout:
            seen += json.loads(line)["event"] == "block_done"
            if seen == 2:
                break
        how(process)
        process.stdout.read()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            pipe.close()
        return job, process

    return interrupt


def group_is_gone(group):
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (lambda process: os.killpg(process.pid, signal.SIGKILL), -signal.SIGKILL),
        (lambda process: process.kill(), -signal.SIGKILL),
        (lambda process: os.killpg(process.pid, signal.SIGTERM), 128 + signal.SIGTERM),
        (lambda process: process.stdin.close(), 128 + signal.SIGTERM),
    ],
    ids=["group SIGKILL", "coordinator SIGKILL", "group SIGTERM", "parent gone"],
)
def test_an_interrupted_job_goes_on_where_it_stopped(interrupted, make_job, how, code):
    job, process = interrupted(how)
    assert process.returncode == code
    assert group_is_gone(process.pid)
    kept = list(Path(job.output).rglob("block-*.h5"))
    done_shards = len(list(Path(job.output).glob("shard-*.h5")))
    assert len(kept) + done_shards >= 2

    events = run(job)
    started = of_kind(events, Started)[0]
    redone = of_kind(events, BlockDone)
    assert len(redone) == started.blocks - started.blocks_done
    if not done_shards:
        assert started.blocks_done == len(kept)
    uninterrupted = make_job(n=150, longest=200, output="uninterrupted")
    run(uninterrupted)
    assert shard_bytes(job) == shard_bytes(uninterrupted)
    assert leftovers(job) == set()


def test_damaged_and_foreign_blocks_are_named_and_made_again(interrupted):
    job, _ = interrupted(lambda process: os.killpg(process.pid, signal.SIGKILL))
    block = sorted(Path(job.output).rglob("block-*.h5"))[0]
    block.write_bytes(block.read_bytes()[:50])
    events = run(job)
    warnings = [event.message for event in of_kind(events, Warned)]
    assert any(str(block) in warning and "made again" in warning for warning in warnings)

    other_index = replace(job, index_digest="another index")
    events = run(other_index)
    assert len(of_kind(events, BlockDone)) == of_kind(events, Started)[0].blocks
    assert all("index_digest" in event.message for event in of_kind(events, Warned))


def test_a_stale_temporary_file_is_removed(make_job):
    job = make_job()
    folder = block_path(Path(job.output), 0, 2, 0).parent
    folder.mkdir(parents=True)
    (folder / ".block-00000.h5.123.tmp").write_text("torn")
    run(job)
    assert leftovers(job) == set()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda job: replace(job, encoding=replace(job.encoding, weights="/no/such/model")),
            "no such",
        ),
        (lambda job: replace(job, sequences_sha256="0" * 64), "SHA-256 differs"),
        (lambda job: replace(job, sequences=job.sequences + ".gone"), "no such sequence table"),
        (lambda job: replace(job, output=job.sequences + "/below"), "cannot be written"),
        (
            lambda job: replace(job, encoding=replace(job.encoding, attention="flash-attn")),
            "flash-attn",
        ),
    ],
    ids=["weights", "digest", "table", "output", "backend"],
)
def test_what_cannot_start_fails_with_one_sentence(make_job, spoil, says):
    (failed,) = of_kind(run(spoil(make_job())), Failed)
    assert failed.explained
    assert failed.shard is None
    assert says in failed.message
    assert "\n" not in failed.message


def test_a_runner_that_dies_without_a_word_is_no_success(make_job, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunnerError, match=r"without a word on shards 0, 1"):
        run(make_job())


def test_a_run_ended_from_outside_says_so(make_job):
    with pytest.raises(RunnerError, match="ended from outside"):
        for event in client.stream(make_job(n=150, longest=200)):
            if isinstance(event, Started):
                for process in Path("/proc").glob("[0-9]*"):
                    if _is_runner_of_ours(process):
                        os.kill(int(process.name), signal.SIGKILL)


def _is_runner_of_ours(process):
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
        parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"virnuc_assets.runner" in command and int(parent) == os.getpid()
