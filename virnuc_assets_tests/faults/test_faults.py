"""The short form of `make faults`: a few of its faults, in one chain."""

from __future__ import annotations

import pytest

from virnuc_assets_tests.faults.chain import Chain
from virnuc_assets_tests.faults.jobs import small_disk
from virnuc_assets_tests.faults.plan import DISK_FULL, Fault, RunPlan

pytestmark = pytest.mark.slow


def fault(kind, blocks=1, delay=0.1, seed=0):
    return Fault(kind, blocks, delay, seed)


def kinds(outcomes):
    return [outcome.fault.kind for outcome in outcomes if outcome.landed]


def test_a_job_that_is_harmed_again_and_again_ends_as_if_nothing_had_happened(
    again, undisturbed, tmp_path
):
    chain = Chain(tmp_path / "chain", again(), undisturbed[1])
    at_its_end = fault("shard half written", 0), fault("view before rename", 0)
    outcomes = chain.go(
        [
            RunPlan((), (fault("worker SIGKILL"),), fault("group SIGKILL")),
            RunPlan((fault("block bit flipped"),), (), fault("coordinator SIGTERM")),
            RunPlan((fault("block torn"),), (fault("block before rename", 0),), at_its_end[0]),
            RunPlan((), (), at_its_end[1]),
        ]
    )
    lost = {"worker SIGKILL", "group SIGKILL", *(fault.kind for fault in at_its_end)}
    assert lost <= set(kinds(outcomes))


def test_a_full_disk_stops_a_run_cleanly_and_costs_nothing_finished(again, undisturbed, tmp_path):
    with small_disk(tmp_path / "chain", megabytes=8) as disk:
        if disk is None:
            pytest.skip("no file system of its own can be mounted here")
        chain = Chain(tmp_path / "chain", again(output=str(disk / "output")), undisturbed[1])
        outcomes = chain.go([RunPlan((), (), fault(DISK_FULL, delay=0.0))])
        assert kinds(outcomes) == [DISK_FULL]
