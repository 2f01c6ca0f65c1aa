"""The coordinator's way with devices that fail, in a pool that only pretends to have workers.

What a pretended worker does with a block is said by the test. Files are real.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from virnuc_assets.errors import DiskFullError, RunnerError
from virnuc_assets.runner.coordinator import Outcome, run
from virnuc_assets.runner.events import BlockDone, Failed, Progress, ShardDone, Warned
from virnuc_assets.runner.identity import block_file, block_identity
from virnuc_assets.runner.messages import (
    Broke,
    Died,
    DiskFull,
    Finished,
    Hung,
    Lost,
    OutOfMemory,
    Placed,
    Ready,
    Taken,
)
from virnuc_assets.runner.shards import assemble
from virnuc_assets.store.embeddings import Counts, Origin, write_embeddings
from virnuc_assets.store.shard_locks import LOCKS, is_being_made
from virnuc_assets.store.sharded import ShardedEmbeddings
from virnuc_assets.store.view import VIEW_FILE, read_view, verify_view

DIM = 2


class PretendedPool:
    """Devices act one after the other; `behave(job, device, block)` says what becomes of a block.

    It returns a report, or None where all goes well. The block is None at a device's start. A
    fourth parameter is given what the device has been handed beside the block.
    """

    def __init__(self, behave, arguments):
        self.behave = behave
        self.digests, _ = arguments
        self.jobs, self.has = {}, {}
        self.turn = deque()
        self.starts = []
        self.retired = []

    def start(self, device, job):
        assert device not in self.has
        self.starts.append((device, job.encoding.token_budget))
        self.jobs[device], self.has[device] = job, deque([None])
        self.turn.append(device)

    def send(self, device, block):
        self.has[device].append(block)

    def wait(self):
        assert self.turn, "a coordinator that waits for nobody"
        for _ in range(len(self.turn)):
            device = self.turn.popleft()
            self.turn.append(device)
            if self.has[device] and not device.startswith("far"):
                block = self.has[device].popleft()
                report = self._report(device, block)
                if report is None:
                    report = Ready(DIM) if block is None else self._embed(device, block)
                if isinstance(report, Placed):
                    self.has[device].appendleft(block)  # it is about to start
                if isinstance(report, Died | Hung | Lost):
                    self.retire(device)
                return [(device, report)]
        raise AssertionError("nobody has anything to do")

    def _report(self, device, block):
        seen = (self.jobs[device], device, block, tuple(self.has[device]))
        return self.behave(*seen[: len(signature(self.behave).parameters)])

    def unplaced(self):
        """Devices named `far …` wait for ever, and any `void …` until something is said of it."""
        return [device for device in self.has if device.startswith(("far", "void"))]

    def retire(self, device):
        if self.has.pop(device, None) is not None:
            self.retired.append(device)
            self.turn.remove(device)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.has.clear()

    def _embed(self, device, block):
        job = self.jobs[device]
        identity = block_identity(job, self.digests, block)
        values = np.repeat(identity.rows()[:, None], DIM, axis=1).astype(np.float32)
        file = write_embeddings(
            block_file(job, block),
            identity,
            Origin("pretended", "w", device, "none", "plain", 1, "truncate"),
            Counts(tokens=len(values)),
            DIM,
            [values],
        )
        busy, starved = (1.0, 3.0) if device == "starved" else (0.0, 0.0)
        return Finished(block, file, 0.01, busy_seconds=busy, starved_seconds=starved)


class Ran:
    """A run of 60 rows in 2 shards and 6 blocks: its outcome or error, events, pool."""

    def __init__(self, job, behave):
        self.job, self.events = job, []

        def make_pool(worker, arguments):
            self.pool = PretendedPool(behave, arguments)
            return self.pool

        self.outcome = self.error = None
        try:
            self.outcome = run(job, self.events.append, make_pool=make_pool)
        except RunnerError as error:
            self.error = error

    def of_kind(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def warnings(self):
        return [event.message for event in self.of_kind(Warned)]

    @property
    def record(self):
        return json.loads((Path(self.job.output) / self.job.own("run.json")).read_text())

    def assert_whole_but_for(self, *rows):
        assert self.outcome.failed == ()
        stored = ShardedEmbeddings(Path(self.job.output), 2, 60, "index")
        expected = np.arange(60, dtype=np.float32)
        expected[list(rows)] = np.nan
        assert np.array_equal(stored.take(np.arange(60))[:, 0], expected, equal_nan=True)
        assert stored.set_aside.tolist() == sorted(rows)
        files = {path.name for path in Path(self.job.output).iterdir()}
        made = {"shard-00-of-02.h5", "shard-01-of-02.h5", "view.h5", "run.json"}
        assert files == {*made, LOCKS}


@pytest.fixture
def embed(make_job):
    def embed(behave, *devices, budget=1024, **changes):
        job = make_job(**changes)
        encoding = replace(job.encoding, devices=devices, token_budget=budget)
        return Ran(replace(job, encoding=encoding), behave)

    return embed


def well(job, device, block):
    return None


def holds(job, block, row):
    return block is not None and row in block_identity_rows(job, block)


def block_identity_rows(job, block):
    return range(block.shard + job.n_shards * block.start, job.n_shards * block.stop, job.n_shards)


def names(rows):
    """Workers that say of the first of `rows` in their block that it is at fault."""

    def behave(job, device, block):
        for row in rows:
            if holds(job, block, row):
                return Broke(block, f"row {row} is not finite", explained=True, row=row)
        return None

    return behave


def test_several_devices_share_the_blocks(embed):
    ran = embed(well, "a", "b", "c")
    ran.assert_whole_but_for()
    assert len(ran.of_kind(BlockDone)) == 6
    assert {event.device for event in ran.of_kind(BlockDone)} == {"a", "b", "c"}
    assert ran.of_kind(Progress)[-1].sequences_done == 60
    assert ran.warnings == []


def test_no_more_devices_are_started_than_there_are_blocks(embed):
    ran = embed(well, *(f"d{i}" for i in range(9)))
    ran.assert_whole_but_for()
    assert len(ran.pool.starts) == 6


def test_machines_that_go_are_nobodys_fault(embed):
    """However often: neither is a block cut or given up, nor a device left out."""
    goes = iter([True] * 40)

    def behave(job, device, block):
        return Lost("192.0.2.7 is gone") if device == "a" and next(goes, False) else None

    ran = embed(behave, "a", "b", block_sequences=1)
    ran.assert_whole_but_for()
    assert ran.record["blocks_failed"] == 0
    assert set(ran.warnings) == {
        "device a is lost, and its blocks are handed out again: 192.0.2.7 is gone"
    }


def test_no_more_machines_are_waited_for_than_blocks_wait(embed):
    ran = embed(well, "a", *(f"far {i}" for i in range(4)))
    ran.assert_whole_but_for()
    assert [device for device, _ in ran.pool.starts] == ["a", *(f"far {i}" for i in range(4))]
    assert {event.device for event in ran.of_kind(BlockDone)} == {"a"}
    assert ran.warnings == []
    assert set(ran.pool.retired) == {f"far {i}" for i in range(4)}


def test_nothing_waits_for_a_machine_that_may_never_be_found(embed):
    """What the only device that is there fails at, it tries again itself."""
    fails = iter([True])

    def behave(job, device, block):
        return Died(9) if holds(job, block, 0) and next(fails, False) else None

    ran = embed(behave, "a", "far 0", "far 1")
    ran.assert_whole_but_for()
    assert ran.record["blocks_failed"] == 1


def test_a_worker_that_no_machine_can_make_is_left_out(embed):
    def behave(job, device, block):
        return Broke(None, "no such module", explained=False) if device == "void" else None

    ran = embed(behave, "a", "void")
    ran.assert_whole_but_for()
    (why,) = ran.warnings
    assert why == "device void is left out: no such module twice before it could take a block"
    with pytest.raises(RunnerError, match="there is no other device to go on with"):
        raise embed(behave, "void", output="nobody").error


def test_a_device_named_twice_is_one(embed):
    assert [device for device, _ in embed(well, "a", "a").pool.starts] == ["a"]


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (lambda block: Died(9), "ended by itself (exit code 9)"),
        (lambda block: Hung("gave no sign of life for 31 s"), "no sign of life for 31 s and was k"),
        (lambda block: Broke(block, "no luck", explained=True), "no luck"),
        (lambda block: Broke(block, "Traceback\nCUDA error", explained=False), "CUDA error"),
    ],
    ids=["died", "hung", "explained", "unexplained"],
)
def test_what_one_device_fails_at_another_does_and_it_is_left_out_in_the_end(embed, report, says):
    ran = embed(
        lambda job, device, block: report(block) if block and device == "bad" else None,
        *("bad", "good"),
        block_sequences=2,
    )
    ran.assert_whole_but_for()
    assert {event.device for event in ran.of_kind(BlockDone)} == {"good"}
    assert any("is tried again" in warning and says in warning for warning in ran.warnings)
    (left_out,) = [warning for warning in ran.warnings if "left out" in warning]
    assert "device bad" in left_out
    assert ran.record["devices"]["bad"]["restarts"] < 6
    assert ran.record["blocks_failed"] >= 3


@pytest.mark.parametrize("report", [Died(7), Broke(None, "Traceback\nCUDA", explained=False)])
def test_a_device_that_never_starts_is_left_out(embed, report):
    ran = embed(lambda job, device, block: report if device == "unborn" else None, "unborn", "ok")
    ran.assert_whole_but_for()
    assert [device for device, _ in ran.pool.starts].count("unborn") == 2
    assert any("unborn is left out" in warning for warning in ran.warnings)


def test_a_device_in_reserve_takes_the_place_of_one_left_out(embed):
    ran = embed(
        lambda job, device, block: Taken("is in use") if device == "d0" else None,
        *(f"d{i}" for i in range(7)),
    )
    ran.assert_whole_but_for()
    assert "d6" in {device for device, _ in ran.pool.starts}
    assert ran.warnings == ["device d0 is left out: is in use"]


def test_no_device_in_reserve_is_started_where_another_is_there(embed):
    ran = embed(
        lambda job, device, block: Died(-11) if block and device == "bad" else None,
        *("bad", "good", "idle"),
        block_sequences=15,
        shards=(0,),
    )
    assert ran.outcome.done == (0,)
    assert {device for device, _ in ran.pool.starts} == {"bad", "good"}


def test_a_device_in_reserve_tries_what_the_only_one_started_fails_at(embed):
    ran = embed(
        lambda job, device, block: Died(-11) if block and device == "bad" else None,
        *("bad", "good", "idle"),
        block_sequences=30,
        shards=(0,),
    )
    assert (ran.outcome.done, ran.outcome.failed) == ((0,), ())
    assert ran.record["blocks_failed"] == 1
    assert {event.device for event in ran.of_kind(BlockDone)} == {"good"}
    assert "idle" not in {device for device, _ in ran.pool.starts}


def lost_gpus(*lost):
    """GPUs whose worker dies at its first block, and whose next ones find no GPU."""
    died = set()

    def behave(job, device, block):
        if device in died:
            return Broke(None, f"GPU {device}: 0 CUDA devices", explained=True)
        if device in lost and block:
            died.add(device)
            return Died(-6)
        return None

    return behave


def test_a_gpu_that_is_lost_while_the_run_goes_on_is_left_out(embed):
    ran = embed(lost_gpus("b"), "a", "b", "c")
    ran.assert_whole_but_for()
    assert ran.warnings[-1] == "device b is left out: GPU b: 0 CUDA devices"


def test_when_the_last_gpu_is_lost_the_run_stops(embed):
    ran = embed(lost_gpus("a", "b"), "a", "b")
    assert "0 CUDA devices" in str(ran.error)


def test_what_every_block_would_meet_stops_the_run_whatever_other_devices_there_are(embed):
    ran = embed(
        lambda job, device, block: (
            Broke(None, "cannot be written", explained=True) if block and device == "b" else None
        ),
        *("a", "b", "c"),
    )
    assert str(ran.error) == "cannot be written"


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (Died(7), r"exit code 7\) twice before it could take a block"),
        (Taken("GPU 0: is in use by process 5"), "in use by process 5"),
        (OutOfMemory("the model does not fit", 1024), "does not fit"),
        (Broke(None, "no such backend", explained=True), "no such backend"),
        (Broke(None, "Traceback\nCUDA: unknown", explained=False), "CUDA: unknown twice before"),
    ],
)
def test_no_device_that_can_go_on_is_a_failure(embed, report, says):
    ran = embed(lambda job, device, block: report, "only")
    assert ran.outcome is None
    assert ran.record["end"] == str(ran.error)
    with pytest.raises(RunnerError, match=says):
        raise ran.error


@pytest.mark.parametrize("row", [0, 17, 59])
@pytest.mark.parametrize("devices", [("a",), ("a", "b", "c")])
def test_a_sequence_that_crashes_its_worker_is_found_and_set_aside(embed, row, devices):
    ran = embed(lambda job, device, block: Died(9) if holds(job, block, row) else None, *devices)
    ran.assert_whole_but_for(row)
    assert any(f"row {row} " in warning and "set aside" in warning for warning in ran.warnings)
    assert sum(event.metadata["set_aside"] for event in ran.of_kind(ShardDone)) == 1
    assert ran.record["set_aside"] == [row]
    assert ran.record["blocks_done"] == 6
    assert ran.of_kind(Progress)[-1].sequences_done == 60


def test_a_sequence_that_is_named_is_set_aside_without_a_search(embed):
    ran = embed(names((5, 6, 21)), "a")
    ran.assert_whole_but_for(5, 6, 21)
    assert ran.record["blocks_failed"] == 3


def test_a_block_in_the_same_hands_as_the_one_at_fault_is_not_lost(embed):
    def behave(job, device, block, ahead):
        # A crash of the next block's first pack, before this block's last has arrived.
        return Died(9) if any(holds(job, b, 1) for b in (block, *ahead)) else None

    embed(behave, "a").assert_whole_but_for(1)


def test_when_everything_breaks_the_run_stops_and_sets_nothing_aside(embed):
    ran = embed(lambda job, device, block: Died(9) if block else None, "a", "b")
    assert "the machine or the weights are at fault" in str(ran.error)
    assert ran.record["blocks_failed"] <= 24
    assert ran.of_kind(ShardDone) == []


def test_a_block_without_a_sound_sequence_stops_the_run(embed):
    ran = embed(names(range(1, 17, 2)), "a", block_sequences=8)
    assert "8 sequences broke their blocks, every one of a block" in str(ran.error)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("size", [1, 7])
def test_a_small_block_without_a_sound_sequence_does_not(embed, size, named):
    rows = range(1, 2 * size, 2)

    def dies(job, device, block):
        return Died(9) if any(holds(job, block, row) for row in rows) else None

    ran = embed(names(rows) if named else dies, "a", block_sequences=size)
    ran.assert_whole_but_for(*rows)
    assert ran.of_kind(Progress)[-1].sequences_done == 60
    assert ran.record["blocks_done"] == sum(
        event.metadata["blocks"] for event in ran.of_kind(ShardDone)
    )


def test_sequences_that_are_named_are_no_failures_in_a_row(embed):
    rows = range(0, 50, 2)
    embed(names(rows), "a", block_sequences=30).assert_whole_but_for(*rows)


def test_more_than_a_hundred_set_aside_stop_the_run(embed):
    ran = embed(names(range(0, 260, 2)), "a", n=400, n_shards=1, block_sequences=100)
    assert "101 sequences broke their blocks" in str(ran.error)


def test_a_failure_that_is_explained_costs_its_shard_alone(embed):
    ran = embed(
        lambda job, device, block: (
            Broke(block, "not in fp8", explained=True) if block and block.shard == 1 else None
        ),
        "a",
    )
    assert (ran.outcome.done, ran.outcome.failed) == ((0,), (1,))
    (failed,) = ran.of_kind(Failed)
    assert (failed.shard, failed.message) == (1, "not in fp8")
    assert ran.record["failures"] == ["not in fp8"]


def test_out_of_memory_halves_the_budget_of_its_device_and_charges_no_block(embed):
    def behave(job, device, block):
        if block and device == "small" and job.encoding.token_budget > 2000:
            return OutOfMemory("out of memory", job.encoding.token_budget)
        return None

    ran = embed(behave, "small", "large", budget=6000)
    ran.assert_whole_but_for()
    assert [budget for device, budget in ran.pool.starts if device == "small"] == [6000, 3000, 1500]
    assert [budget for device, budget in ran.pool.starts if device == "large"] == [6000]
    assert sum("ran out of memory" in warning for warning in ran.warnings) == 2
    assert ran.record["blocks_failed"] == 0


def test_no_budget_under_the_longest_sequence_is_tried(embed):
    ran = embed(
        lambda job, device, block: (
            OutOfMemory("memory is full", job.encoding.token_budget) if block else None
        ),
        "a",
        budget=1500,
    )
    assert [budget for _, budget in ran.pool.starts] == [1500, 1024]
    assert str(ran.error) == "memory is full; there is no other device to go on with"


def test_a_gpu_that_waits_for_the_host_is_told_of_where_the_run_was_long(embed, monkeypatch):
    assert embed(well, "starved", "fed", output="short").warnings == []
    monkeypatch.setattr("virnuc_assets.runner.dispatcher._SECONDS_TO_JUDGE_STARVATION", 0.0)
    ran = embed(well, "starved", "fed", output="long")
    (warning,) = ran.warnings
    assert "GPU starved was busy 25% of the time (critical)" in warning
    assert ran.record["devices"]["starved"]["level"] == "critical"
    assert ran.record["devices"]["fed"]["level"] is None


def test_a_full_disk_stops_the_run_and_says_what_is_needed(embed):
    done = []

    def behave(job, device, block):
        done.append(block)
        return DiskFull("full") if len(done) == 4 else None

    with pytest.raises(DiskFullError, match="are still needed"):
        embed(behave, "a")


def on_machines(behave):
    """Devices of a cluster: each on a machine of its own, which is told before it starts."""
    placed = set()

    def behave_there(job, device, block):
        if device in placed:
            return behave(job, device, block)
        placed.add(device)
        return Placed(f"machine-of-{device}")

    return behave_there


def full_on(device):
    def behave(job, on, block):
        return DiskFull(f"{on}.h5: full") if on == device and block is not None else None

    return behave


def test_the_machine_that_noticed_a_full_disk_is_named(embed):
    with pytest.raises(
        DiskFullError, match=r"is full \(noticed on machine-of-a\): .* still needed"
    ):
        embed(on_machines(full_on("a")), "a", "b")


def test_a_machine_whose_own_disk_is_full_is_left_out(embed, monkeypatch):
    """Its own: blocks are published from it to an object store."""
    monkeypatch.setattr("virnuc_assets.runner.dispatcher.published", lambda job: True)
    ran = embed(on_machines(full_on("a")), "a", "b")
    ran.assert_whole_but_for()
    assert ran.warnings == ["device a is left out: machine-of-a: a.h5: full"]
    assert ran.record["blocks_failed"] == 0
    assert list(ran.record["devices"]) == ["b"]


def test_when_the_disk_of_every_machine_is_full_the_run_ends(embed, monkeypatch):
    monkeypatch.setattr("virnuc_assets.runner.dispatcher.published", lambda job: True)
    every = on_machines(lambda job, on, block: full_on(on)(job, on, block))
    ran = embed(every, "a", "b")
    assert "full; there is no other device to go on with" in str(ran.error)


def test_what_every_machine_needs_is_said_with_the_machine_that_lacks_it(embed):
    def behave(job, device, block):
        missing = Broke(None, "proteins.arrow: no such file", explained=True)
        return missing if block is not None else None

    ran = embed(on_machines(behave), "a", "b")
    assert str(ran.error) == "machine-of-a: proteins.arrow: no such file"


def test_a_full_disk_with_only_the_assembly_left_says_so_too(embed, monkeypatch):
    def full(job, digests, shard):
        raise DiskFullError(Path(job.output))

    monkeypatch.setattr("virnuc_assets.runner.books.assemble", full)
    for _ in range(2):  # the second run finds all blocks and starts no worker
        with pytest.raises(DiskFullError, match="are still needed"):
            embed(lambda job, device, block: None, "a")


def test_a_run_that_stops_gives_no_shard_back_that_is_being_assembled(embed, monkeypatch):
    """The one under way gets done, however long it takes; no other is begun."""
    begun, stopped, assembled = threading.Event(), threading.Event(), []

    def assemble_slowly(job, digests, shard):
        begun.set()
        assert stopped.wait(30)
        time.sleep(0.2)
        assert is_being_made(Path(job.output), shard.number, job.n_shards)
        assembled.append(shard.number)
        return assemble(job, digests, shard)

    def behave(job, device, block):
        if block is None or block.shard < 2:
            return None
        assert begun.wait(30)
        stopped.set()
        return Broke(None, "no such thing", explained=True)

    monkeypatch.setattr("virnuc_assets.runner.books.assemble", assemble_slowly)
    ran = embed(behave, "a", n_shards=3, shards=(0, 1, 2), block_sequences=20)
    assert str(ran.error) == "no such thing"
    assert len(assembled) == 1
    assert not is_being_made(Path(ran.job.output), assembled[0], 3)
    assert len(list(Path(ran.job.output).glob("shard-*.h5"))) == 1
    assert len(list(Path(ran.job.output).glob("shard-*.blocks"))) == 1


def test_a_block_with_sequences_set_aside_is_tried_again_by_the_next_run(embed):
    def ends_early(job, device, block):
        if holds(job, block, 0):
            return Broke(block, "not finite", explained=True, row=0)
        if block and block.shard == 1:
            return Broke(None, "no such thing", explained=True)
        return None

    ran = embed(ends_early, "a")
    assert "no such thing" in str(ran.error)
    embed(well, "a").assert_whole_but_for()


def test_a_run_of_another_shard_begins_and_ends_meanwhile(embed):
    """The first to end leaves the view to the last."""
    other, views = [], []

    def behave(job, device, block):
        if block is not None and not other:
            other.append(embed(well, "b", shards=(1,)))
            views.append((Path(job.output) / VIEW_FILE).exists())

    ran = embed(behave, "a", shards=(0,))
    assert ran.outcome == Outcome(done=(0,), failed=())
    assert other[0].outcome == Outcome(done=(1,), failed=())
    assert views == [False]
    assert ran.warnings == other[0].warnings == []
    view = read_view(Path(ran.job.output) / VIEW_FILE)
    assert verify_view(view) == []
    stored = ShardedEmbeddings(Path(ran.job.output), 2, 60, "index")
    assert np.array_equal(stored.take(np.arange(60))[:, 0], np.arange(60))
    assert [list(run.record["devices"]) for run in (ran, *other)] == [["a"], ["b"]]
