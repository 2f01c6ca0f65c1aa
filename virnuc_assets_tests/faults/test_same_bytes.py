"""What must not change a bit of the output: devices, the order of blocks, resuming twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from virnuc_assets.runner.events import BlockDone, ShardDone
from virnuc_assets_tests.faults.jobs import contents, run_undisturbed
from virnuc_assets_tests.faults.processes import Run

pytestmark = pytest.mark.slow


def blocks_done(events):
    return [(event.shard, event.block) for event in events if isinstance(event, BlockDone)]


def test_neither_the_number_of_devices_nor_the_order_of_shards_matters(
    again, undisturbed, tmp_path
):
    job = again(devices=("cpu", "cpu:1", "cpu:2"), shards=(2, 0, 1))
    events = run_undisturbed(tmp_path / "run", job)
    assert len({event.device for event in events if isinstance(event, BlockDone)}) > 1
    assert contents(job) == undisturbed[1]


def test_neither_the_order_of_blocks_nor_resuming_twice_matters(again, undisturbed, tmp_path):
    job = again(devices=("cpu",))
    run = Run(tmp_path / "run", job)
    done = []
    for event in run.events():
        done += blocks_done([event])
        if len(done) == 12:
            run.signal_group(signal.SIGKILL)
    run.wait()
    # The first and longest of every shard are now made after shorter ones.
    for first in Path(job.output).rglob("block-0000[01].h5"):
        first.unlink()
    order = blocks_done(run_undisturbed(tmp_path / "run", job))
    assert {block for _, block in order} >= {0, 1}
    assert set(done) - set(order), "nothing was kept: the order was the usual one"
    assert contents(job) == undisturbed[1]

    times = {path: path.stat().st_mtime_ns for path in Path(job.output).glob("shard-*")}
    events = run_undisturbed(tmp_path / "run", job)
    assert blocks_done(events) == []
    assert all(event.reused for event in events if isinstance(event, ShardDone))
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert contents(job) == undisturbed[1]
