"""Devices by name: physical ids and UUIDs, one user each; on a machine that only looks so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from virnuc_assets.errors import BackendError, DeviceTakenError
from virnuc_assets.runner import devices
from virnuc_assets.runner.device_lock import sole_user


def test_every_gpu_is_the_default(two_gpus):
    assert devices.default_devices() == ("0", "3")


@pytest.mark.parametrize("name", ["3", "GPU-bbbb", "GPU-bbbb-{}"])
def test_a_gpu_has_one_uuid_whatever_it_is_called(two_gpus, name):
    pid = os.getpid()
    assert devices.gpu_uuid(name.format(pid)) == f"GPU-bbbb-{pid}"


def test_a_mig_device_is_its_own_uuid(two_gpus):
    assert devices.gpu_uuid("MIG-1234") == "MIG-1234"


@pytest.mark.parametrize("name", ["1", "2", "GPU-cccc", "cuda:0"])
def test_a_gpu_that_is_not_there_is_refused(two_gpus, name):
    with pytest.raises(BackendError, match=r"no such GPU.*use one of 0, 3"):
        devices.gpu_uuid(name)


def test_without_nvidia_smi_a_name_stands_for_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.gpu_uuid("2") == "2"


HOLDER = """
import sys
from virnuc_assets.runner.device_lock import sole_user
with sole_user(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_gpu_has_one_user_by_whatever_name_until_that_is_gone(two_gpus):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(DeviceTakenError, match=rf"process {holder.pid}\).*other devices"),
            sole_user("GPU-bbbb"),
        ):
            pass
        with sole_user("0"):
            pass
        holder.kill()
    with sole_user("3"), pytest.raises(DeviceTakenError), sole_user("GPU-bbbb"):
        pass
    with sole_user("3"):
        pass


@pytest.fixture
def environment(monkeypatch):
    """What `bind` sets is unset again after the test."""
    for name in (
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "PYTORCH_ALLOC_CONF",
        "PYTORCH_CUDA_ALLOC_CONF",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_gpu_is_the_only_one_its_process_sees(environment):
    assert devices.bind("GPU-bbbb") == "cuda:0"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_ones_own_allocator_settings_are_kept(environment, monkeypatch, name):
    monkeypatch.setenv(name, "max_split_size_mb:64")
    devices.bind("3")
    set_now = {key: value for key, value in os.environ.items() if key.startswith("PYTORCH_")}
    assert set_now == {name: "max_split_size_mb:64"}


def test_the_cpu_sees_no_gpu(environment):
    assert devices.bind("cpu") == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert "PYTORCH_CUDA_ALLOC_CONF" not in os.environ
