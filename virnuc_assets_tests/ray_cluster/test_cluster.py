"""One sample's shards on a real Ray cluster: nodes that go and come, a driver that is killed."""

from __future__ import annotations

import os
import signal

import pytest

from virnuc_assets.runner.events import Failed, ShardDone, Started, Warned
from virnuc_assets_tests.faults.jobs import BLOCKS_OF_A_SHARD, SHARDS, contents
from virnuc_assets_tests.ray_cluster.conftest import Run, raylet_of, until
from virnuc_assets_tests.ray_cluster.slowly import computed, done

pytestmark = [pytest.mark.platform, pytest.mark.slow]

BLOCKS = SHARDS * BLOCKS_OF_A_SHARD


def test_a_node_goes_and_another_comes(on_ray, nodes, local, tmp_path):
    job = on_ray()
    run = Run(tmp_path / "run", job)
    there = [node for node in nodes.cluster.list_all_nodes() if node is not nodes.cluster.head_node]
    run.follow(lambda said: all(computed(nodes.journals, raylet_of(node)) for node in there))
    goes = raylet_of(there[0])
    nodes.remove(there[0])
    run.follow(lambda said: any(isinstance(event, Warned) for event in said))
    had = computed(nodes.journals, goes)
    comes = nodes.add()
    run.follow()
    assert run.wait() == 0, run.log.read_text()
    assert contents(job) == local[1]
    assert sorted(set(done(run.said))) == sorted(done(run.said))
    assert len(done(run.said)) == BLOCKS
    assert len(had) < BLOCKS / 2
    assert computed(nodes.journals, raylet_of(comes))
    warnings = [event.message for event in run.said if isinstance(event, Warned)]
    assert [text for text in warnings if "is lost" not in text] == []
    assert not [event for event in run.said if isinstance(event, Failed)]
    until("the cluster is idle", lambda: nodes.free() == 3)


def test_the_driver_is_killed_and_goes_on(on_ray, nodes, local, tmp_path):
    job = on_ray()
    first = Run(tmp_path / "first", job)
    first.follow(lambda said: len(done(said)) >= BLOCKS // 3)
    first.process.kill()
    first.follow()
    first.wait()
    until("its actors are gone", lambda: nodes.free() == 3)
    second = Run(tmp_path / "second", job)
    second.follow()
    assert second.wait() == 0, second.log.read_text()
    (started,) = [event for event in second.said if isinstance(event, Started)]
    assert started.blocks_done >= len(done(first.said)) > 0
    assert not set(done(first.said)) & set(done(second.said))
    assert started.blocks_done + len(done(second.said)) == BLOCKS
    assert contents(job) == local[1]


def test_more_workers_than_devices_wait_and_are_withdrawn(on_ray, nodes, local, tmp_path):
    job = on_ray(workers=6)
    run = Run(tmp_path / "run", job)
    run.follow()
    assert run.wait() == 0, run.log.read_text()
    assert contents(job) == local[1]
    assert [event for event in run.said if isinstance(event, Warned)] == []
    assert len([event for event in run.said if isinstance(event, ShardDone)]) == SHARDS
    until("the cluster is idle", lambda: nodes.free() == 3)


def test_asked_to_end_it_leaves_no_actor(on_ray, nodes, tmp_path):
    job = on_ray(workers=4)
    run = Run(tmp_path / "run", job)
    run.follow(lambda said: len(done(said)) >= 2)
    os.kill(run.process.pid, signal.SIGTERM)
    run.follow()
    assert run.wait() == 128 + signal.SIGTERM, run.log.read_text()
    assert not list((tmp_path / "output").rglob("*.tmp"))
    until("the cluster is idle", lambda: nodes.free() == 3)
