"""The coordinator's way with devices that fail, on workers that only pretend to embed.

What a pretended worker does is decided by its device's name.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from virnuc_assets.errors import RunnerError
from virnuc_assets.runner.coordinator import run
from virnuc_assets.runner.events import BlockDone, Failed, ShardDone, Warned
from virnuc_assets.runner.worker import Broke, Finished, Ready, block_identity
from virnuc_assets.store.embeddings import (
    Counts,
    Origin,
    ShardedEmbeddings,
    block_path,
    write_embeddings,
)

DIM = 2


def pretend(connection, device, job, digests, log_level):
    """A worker that writes each row's number as its embedding, or fails as its device says."""
    births = Path(job.output) / "births"
    if device == "unborn":
        with births.open("a") as file:
            file.write("x")
        os._exit(7)
    connection.send(Ready())
    ahead = []
    while (block := ahead.pop() if ahead else connection.recv()) is not None:
        # A crash of the next block's first pack, before this block's last has arrived.
        if device == "eager" and connection.poll(0.2):
            ahead.append(connection.recv())
        if device == "eager" and any((b.shard, b.block) == (1, 0) for b in (block, *ahead)):
            os._exit(9)
        if device == "mortal":
            os._exit(9)
        if device == "broken" or (device == "picky" and block.shard == 1):
            connection.send(Broke(block, f"no luck on {device}", explained=True))
            return
        while device == "patient" and (not births.exists() or births.stat().st_size < 2):
            time.sleep(0.01)
        if device == "slow":
            time.sleep(0.2)
        identity = block_identity(job, digests, block)
        values = np.repeat(identity.rows()[:, None], DIM, axis=1).astype(np.float32)
        file = write_embeddings(
            block_path(Path(job.output), block.shard, job.n_shards, block.block),
            identity,
            Origin("pretended", "w", device, "none", "plain", 1, "truncate"),
            Counts(tokens=len(values), slots=len(values)),
            DIM,
            [values],
        )
        connection.send(Finished(block, file, 0.01))


@pytest.fixture
def embed(make_job):
    """Run 60 rows in 2 shards and 6 blocks on pretended devices; outcome, events, job."""

    def embed(*devices, **changes):
        job = make_job(**changes)
        job = replace(job, encoding=replace(job.encoding, devices=devices))
        events = []
        return run(job, events.append, pretend), events, job

    return embed


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def assert_whole(job):
    stored = ShardedEmbeddings(Path(job.output), 2, 60, "index").take(np.arange(60))
    assert np.array_equal(stored[:, 0], np.arange(60))


def test_several_devices_share_the_blocks(embed):
    outcome, events, job = embed("slow", "slow-2", "slow-3")
    assert outcome.done == (0, 1)
    assert len(of_kind(events, BlockDone)) == 6
    assert_whole(job)


def test_more_devices_than_blocks(embed):
    outcome, events, job = embed(*(f"good-{i}" for i in range(9)))
    assert outcome.done == (0, 1)
    assert len({event.device for event in of_kind(events, BlockDone)}) <= 6
    assert_whole(job)


@pytest.mark.parametrize("bad", ["mortal", "broken"])
def test_what_one_device_fails_at_another_does(embed, bad):
    outcome, events, job = embed(bad, "slow")
    assert outcome.failed == ()
    assert of_kind(events, Failed) == []
    assert any("is tried again" in event.message for event in of_kind(events, Warned))
    assert {event.device for event in of_kind(events, BlockDone)} == {"slow"}
    assert_whole(job)


def test_a_device_that_never_starts_is_left_out(embed):
    outcome, events, job = embed("unborn", "patient")
    assert outcome.done == (0, 1)
    assert any("left out" in event.message for event in of_kind(events, Warned))
    assert_whole(job)


def test_a_block_in_the_same_hands_as_the_one_at_fault_is_not_lost(embed):
    outcome, events, _ = embed("eager")
    assert outcome.done == (0,)
    assert outcome.failed == (1,)
    (failed,) = of_kind(events, Failed)
    assert failed.shard == 1


def test_no_device_that_starts_is_a_failure(embed):
    with pytest.raises(RunnerError, match=r"exit code 7.* before it could take a block"):
        embed("unborn")


def test_a_block_that_always_fails_costs_its_shard_alone(embed):
    outcome, events, _ = embed("picky")
    assert outcome.done == (0,)
    assert outcome.failed == (1,)
    (failed,) = of_kind(events, Failed)
    assert (failed.shard, failed.message) == (1, "no luck on picky")
    assert [event.shard for event in of_kind(events, ShardDone)] == [0]
