"""The Ray pool by itself, with pretended workers: what it notices, and what it gives back."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_assets.errors import RunnerError
from virnuc_assets.runner.identity import Digests
from virnuc_assets.runner.logs import Logs
from virnuc_assets.runner.messages import Broke, Died, Hung, Lost, Placed
from virnuc_assets.runner.plan import Block
from virnuc_assets_tests.ray_cluster import pretended
from virnuc_assets_tests.ray_cluster.conftest import until

pytestmark = [pytest.mark.platform, pytest.mark.slow]

GPU, CPU = "ray/gpu/0", "ray/cpu/0"


def block(what):
    return Block(0, what, 0, 1, 1)


def reports(pool, wanted):
    """What the pool says until it has said `wanted` things."""
    said = []
    for _ in range(120):
        said += [(slot, report) for slot, report in pool.wait() if not isinstance(report, Placed)]
        if len(said) >= wanted:
            return said
    raise AssertionError(f"only {said}")


@pytest.fixture
def pool(nodes):
    from virnuc_assets.runner.ray_pool import RayPool

    arguments = (Digests("", ""), Logs(30, Path("logs")))
    return RayPool(nodes.address, pretended.work, arguments)


@pytest.fixture
def job(local):
    return replace(local[0], silence_seconds=3.0)


def test_a_gpu_is_asked_for_and_given_back(pool, job, nodes):
    with pool:
        pool.start(GPU, job)
        (_, ready), (_, said) = reports(pool, 2)
        assert said == ("0", "ray-gpu-0")
        pool.send(GPU, block(pretended.ANSWER))
        assert reports(pool, 1) == [(GPU, "done")]
        import ray

        assert ray.available_resources()["GPU"] == 2
    assert not Path(f"/proc/{ready.dim}").exists()
    until("the cluster is idle", lambda: nodes.free() == 3)


@pytest.mark.parametrize(
    ("what", "report"), [(pretended.DIE, Died(9)), (pretended.STOP, Hung)], ids=["dies", "stops"]
)
def test_what_becomes_of_a_worker_is_told_by_its_machine(pool, job, what, report):
    with pool:
        pool.start(CPU, job)
        (_, ready), _ = reports(pool, 2)
        pool.send(CPU, block(what))
        ((device, told),) = reports(pool, 1)
        assert device == CPU
        assert told == report or isinstance(told, Hung)
        pool.start(CPU, job)  # the device has been given back
        reports(pool, 2)
    assert not Path(f"/proc/{ready.dim}").exists()


def test_an_actor_that_is_killed_is_its_blocks_affair(pool, job):
    with pool:
        pool.start(CPU, job)
        reports(pool, 2)
        pool.send(CPU, block(pretended.KILL_THE_ACTOR))
        ((_, told),) = reports(pool, 1)
        assert isinstance(told, Broke)
        assert told.block is None and not told.explained
        assert told.message.startswith("its Ray actor ended")
        assert pool.unplaced() == []


def test_a_machine_without_a_sign_of_life_is_lost(pool, job):
    with pool:
        pool.start(CPU, job)
        (_, ready), _ = reports(pool, 2)
        pool.send(CPU, block(pretended.STOP_THE_ACTOR))
        ((_, told),) = reports(pool, 1)
        assert isinstance(told, Lost)
        assert "no sign of life" in told.why
    until("its worker is gone", lambda: not Path(f"/proc/{ready.dim}").exists())


def test_who_waits_for_a_machine_is_not_hung(pool, job):
    with pool:
        for number in range(4):
            pool.start(f"ray/cpu/{number}", job)
        told = reports(pool, 6)
        (waits,) = pool.unplaced()
        began = time.monotonic()
        while time.monotonic() - began < 3 * job.silence_seconds:
            assert pool.wait() == []
        placed = next(iter({device for device, _ in told}))
        pool.retire(placed)
        assert [device for device, _ in reports(pool, 2)] == [waits, waits]


def test_that_a_run_waits_for_a_machine_is_said(pool, job, caplog):
    with pool:
        pool.start(GPU, job)
        pool._warn_of_waiting(time.monotonic())
        assert caplog.text == ""
        pool._warn_of_waiting(time.monotonic() + 60)
    assert "no machine of the Ray cluster has a device free for ray/gpu/0" in caplog.text
    assert "3 GPUs" in caplog.text


def test_a_worker_that_cannot_be_made_breaks(pool, job):
    pool.arguments = (pretended.CannotBeRead(), pool.arguments[1])
    with pool:
        pool.start(CPU, job)
        ((_, told),) = reports(pool, 1)
        assert isinstance(told, Broke)
        assert "no such thing here" in told.message


def test_a_signal_that_ray_takes_for_an_error_of_its_own_is_heard():
    from virnuc_assets.runner.ray_pool import signals_heard

    class Stopped(BaseException):
        pass

    with pytest.raises(Stopped), signals_heard():
        raise SystemError("returned a result with an exception set") from Stopped()
    with pytest.raises(SystemError, match="another"), signals_heard():
        raise SystemError("another")


def test_no_cluster():
    from virnuc_assets.runner.ray_pool import RayPool

    pool = RayPool("127.0.0.1:1", pretended.work, ())
    with pytest.raises(RunnerError, match=r"VIRNUC_RAY_ADDRESS=127.0.0.1:1: no Ray cluster"), pool:
        pass
