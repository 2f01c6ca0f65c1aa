"""Runs whose sequences and output are in an object store, as their callers see them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.runner import client
from virnuc_assets.runner.events import BlockDone, Failed, ShardDone, Started, Warned, from_line
from virnuc_assets.runner.job import Encoding, Job, RayCluster, write_jobs
from virnuc_assets.runner.output import through
from virnuc_assets.store.cache import publish_file
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.embeddings import shard_path
from virnuc_assets.store.lock import sole_writer
from virnuc_assets.store.objects import open_objects
from virnuc_assets.store.published import Published
from virnuc_assets.store.sequence_table import SequenceTable, write_sequence_table
from virnuc_assets_tests import untrained

BLOCKS = 6


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    """Go on as on another host: with a cache of its own."""

    def be(name):
        monkeypatch.setenv("VIRNUC_CACHE", str(tmp_path / name))
        return tmp_path / name

    be("first")
    return be


@pytest.fixture
def local(tmp_path):
    """A job of 6 blocks in 2 shards, in folders of this host."""
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    generator = np.random.default_rng(0)
    lengths = sorted(generator.integers(1, 40, 10 * BLOCKS), reverse=True)
    proteins = ["".join(generator.choice(letters, length)) for length in lengths]
    table = tmp_path / "proteins.arrow"
    write_sequence_table(table, [pa.array(proteins, pa.large_string())])
    return Job(
        encoding=Encoding(
            "esm2", str(untrained.folder() / "esm2"), token_budget=1024, devices=("cpu",)
        ),
        sequences=str(table),
        sequences_sha256=sha256_file(table),
        index_digest="index",
        output=str(tmp_path / "local"),
        n_shards=2,
        shards=(0, 1),
        block_sequences=10,
    )


def run(job):
    return list(client.stream(job))


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def files(folder):
    """Shards and view, by name."""
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.h5")}


@pytest.mark.platform
def test_a_run_through_a_store_leaves_what_a_run_on_this_host_leaves(local, url, proxy, tmp_path):
    alone = of_kind(run(local), ShardDone)
    here = replace(local, output=str(tmp_path / "here"))
    events = list(through(url, here, client.stream))
    assert of_kind(events, Failed) == of_kind(events, Warned) == []
    assert files(here.output) == files(local.output)
    assert len(files(here.output)) == 3
    expected = {event.shard: event for event in alone}
    for event in of_kind(events, ShardDone):
        assert event.path == str(shard_path(Path(here.output), event.shard, 2))
        said, wanted = event.metadata, expected[event.shard].metadata
        assert {name: said[name] for name in _OF_THE_FILE} == {
            name: wanted[name] for name in _OF_THE_FILE
        }
    assert proxy.count("PUT", ".arrow") == proxy.count("GET", ".arrow") == 1
    assert proxy.count("GET", ".h5") == BLOCKS
    again = list(through(url, here, client.stream))
    assert [event.reused for event in of_kind(again, ShardDone)] == [True, True]
    assert proxy.count("GET", ".h5") == BLOCKS


@pytest.mark.platform
def test_a_shard_of_another_run_into_the_same_place_is_refused(local, url, tmp_path):
    def overtaken(job):
        """Another model's run publishes its shard after ours has told of its own."""
        for event in client.stream(job):
            if isinstance(event, ShardDone):
                event = replace(event, metadata={**event.metadata, "encoder_digest": "ours"})
            yield event

    here = replace(local, output=str(tmp_path / "here"))
    with pytest.raises(StoreError, match="is of another run into the same place"):
        list(through(url, here, overtaken))


@pytest.mark.platform
def test_a_run_through_a_bad_network_leaves_the_same(
    local, url, objects, proxy, slow_down, cut, tmp_path
):
    """Of all requests a quarter is throttled or cut off."""
    run(local)
    chance = random.Random(0)
    faults = [slow_down, cut, *[None] * 6]
    proxy.fault = lambda method, path: chance.choice(faults)
    here = replace(local, output=str(tmp_path / "here"))
    events = list(through(url, here, client.stream))
    assert of_kind(events, Failed) == []
    assert files(here.output) == files(local.output)
    proxy.fault = lambda method, path: None
    blocks = [one.key for one in objects.list() if ".blocks/" in one.key]
    assert len(blocks) == 2 * BLOCKS
    assert not list((tmp_path / "first").rglob("*.blocks"))


_OF_THE_FILE = ("model", "rows", "dim", "tokens", "set_aside", "engine", "checksum", "bytes")


@pytest.mark.platform
def test_a_run_that_was_killed_goes_on_on_another_host_and_downloads_nothing(
    local, url, objects, host, proxy, tmp_path
):
    sequences = publish_file(Path(local.sequences), f"{url}/sequences", local.sequences_sha256)
    job = replace(local, sequences=sequences, output=f"{url}/embeddings")
    write_jobs(tmp_path / "job.json", [job])
    runner = subprocess.Popen(
        [sys.executable, "-m", "virnuc_assets.runner", str(tmp_path / "job.json")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in runner.stdout:
        if isinstance(from_line(line), BlockDone):
            break
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    runner.stdout.close()
    assert len(objects.list("embeddings/writers")) == 1
    # Or wait until its claim is void.
    objects.delete_folder("embeddings/writers")
    proxy.seen.clear()
    host("second")
    rest = run(job)
    done_before = of_kind(rest, Started)[0].blocks_done
    assert 1 <= done_before < BLOCKS
    assert len(of_kind(rest, BlockDone)) == BLOCKS - done_before
    assert sorted(event.path for event in of_kind(rest, ShardDone)) == [
        f"{url}/embeddings/shard-00-of-02.json",
        f"{url}/embeddings/shard-01-of-02.json",
    ]
    assert proxy.count("GET", ".h5") == 0
    assert objects.size("embeddings/run.json") > 0
    assert objects.list("embeddings/writers") == []
    run(local)
    reader = Published(open_objects(job.output), tmp_path / "reader")
    for shard in job.shards:
        fetched = reader.fetch_shard(shard, 2).path
        assert fetched.read_bytes() == files(local.output)[fetched.name]


@pytest.mark.platform
def test_a_sequence_that_breaks_its_block_is_set_aside_there_too(local, url, tmp_path):
    table = tmp_path / "with-none.arrow"
    proteins = [*SequenceTable(Path(local.sequences)).take(range(10 * BLOCKS - 1)), ""]
    write_sequence_table(table, [pa.array(proteins, pa.large_string())])
    local = replace(local, sequences=str(table), sequences_sha256=sha256_file(table))
    run(local)
    here = replace(local, output=str(tmp_path / "here"))
    events = list(through(url, here, client.stream))
    assert "is set aside, without an embedding" in of_kind(events, Warned)[0].message
    assert [event.metadata["set_aside"] for event in of_kind(events, ShardDone)].count(1) == 1
    assert files(here.output) == files(local.output)


@pytest.mark.platform
def test_a_run_on_a_ray_cluster_whose_nodes_share_no_folder(local, url, proxy, tmp_path):
    pytest.importorskip("ray")
    from virnuc_assets_tests.ray_cluster.conftest import SMALL, nodes_of

    run(local)
    # Its processes go where `url` is, as this one does.
    with nodes_of(0) as nodes:
        caches = [tmp_path / f"node-{number}" for number in range(2)]
        for cache in caches:
            nodes.cluster.add_node(num_cpus=1, **SMALL, env_vars={"VIRNUC_CACHE": str(cache)})
        cluster = RayCluster(nodes.address, workers=2, exchange=url)
        encoding = replace(local.encoding, ray=cluster)
        here = replace(local, encoding=encoding, output=str(tmp_path / "here"))
        events = list(client.stream(here))
    assert of_kind(events, Failed) == []
    assert files(here.output) == files(local.output)
    # A node may have come too late for any block; none fetched the sequences twice.
    assert {len(list(cache.rglob("*.arrow"))) for cache in caches} in ({1}, {0, 1})
    assert not any(list(cache.rglob("*.h5")) for cache in caches)
    assert proxy.count("GET", ".h5") == BLOCKS


@pytest.mark.platform
def test_a_node_whose_disk_is_full_is_left_out(local, url, tmp_path):
    pytest.importorskip("ray")
    from virnuc_assets_tests.faults.jobs import small_disk
    from virnuc_assets_tests.ray_cluster.conftest import SMALL, nodes_of

    run(local)
    with ExitStack() as open_until_the_end:
        disk = open_until_the_end.enter_context(small_disk(tmp_path / "small", megabytes=1))
        if disk is None:
            pytest.skip("needs a file system of its own")
        nodes = open_until_the_end.enter_context(nodes_of(0))
        large = tmp_path / "large"
        for cache in (disk, large):
            nodes.cluster.add_node(num_cpus=1, **SMALL, env_vars={"VIRNUC_CACHE": str(cache)})
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(2**12)):
                pass
        cluster = RayCluster(nodes.address, workers=2, exchange=url)
        encoding = replace(local.encoding, ray=cluster)
        here = replace(local, encoding=encoding, output=str(tmp_path / "here"))
        events, told = client.stream(here), []
        # The other node cannot begin until it is told what became of this one.
        with sole_writer(large / local.sequences_sha256):
            told.append(next(event for event in events if isinstance(event, Warned | Failed)))
        events = [*told, *events]
    assert of_kind(events, Failed) == []
    (warned,) = of_kind(events, Warned)
    assert "is left out: " in warned.message
    assert f"{disk}" in warned.message and "is full" in warned.message
    assert files(here.output) == files(local.output)


@pytest.mark.platform
def test_two_runs_of_different_shards_by_way_of_a_store_at_once(local, url, objects, tmp_path):
    run(local)
    sequences = publish_file(Path(local.sequences), f"{url}/sequences", local.sequences_sha256)
    told = []
    for shard in (0, 1):
        job = replace(local, sequences=sequences, output=f"{url}/embeddings", shards=(shard,))
        told.append(client.stream(job))
    # Each has the one shard, and goes on only when it is asked for more.
    began = [next(event for event in events if isinstance(event, Started)) for events in told]
    assert [event.blocks_done for event in began] == [0, 0]
    rest = [list(events) for events in told]
    assert [of_kind(events, Failed) + of_kind(events, Warned) for events in rest] == [[], []]
    assert objects.list("embeddings/writers") == []
    for shard in (0, 1):
        assert objects.size(f"embeddings/run-{shard:02d}-of-02.json") > 0
    reader = Published(open_objects(f"{url}/embeddings"), tmp_path / "reader")
    for shard in (0, 1):
        fetched = reader.fetch_shard(shard, 2).path
        assert fetched.read_bytes() == files(local.output)[fetched.name]


def test_wrong_credentials_end_a_run_with_a_sentence(local, url, proxy, forbidden):
    proxy.fault = lambda method, path: forbidden
    failed = of_kind(run(replace(local, output=url)), Failed)
    assert len(failed) == 1
    assert "the store refuses these credentials; set AWS_ACCESS_KEY_ID" in failed[0].message
