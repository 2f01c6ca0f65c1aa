"""Which devices there are, without importing torch: the coordinator never touches one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from virnuc_assets.errors import BackendError, RunnerError

CPU = "cpu"
_RAY = "ray"
_NAMED = 8
_ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"}


def default_devices() -> tuple[str, ...]:
    """Every GPU this process may use, as physical ids or UUIDs; the CPU where there is none.

    `CUDA_VISIBLE_DEVICES`, where set, says which (an empty value hides them all).
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        chosen = tuple(part.strip() for part in visible.split(",") if part.strip())
        return tuple(device for device in chosen if device != "-1") or (CPU,)
    return tuple(gpu_names()) or (CPU,)


def gpu_names() -> dict[str, str]:
    """Physical id → name of the machine's NVIDIA GPUs; empty where there is no driver."""
    return _query("name")


def gpu_uuid(device: str) -> str:
    """The UUID of a GPU or MIG device, named by its physical id, its UUID or the start of one.

    The same for every name of a device, so that it tells devices apart. Where there is no
    nvidia-smi to ask, it is the name given.

    Raises:
        BackendError: the machine has no such GPU.
    """
    uuids = _query("uuid")
    if not uuids or device.startswith("MIG-"):
        return device
    for index, uuid in uuids.items():
        if device == index or (device.startswith("GPU-") and uuid.startswith(device)):
            return uuid
    raise BackendError(
        f"there is no such GPU on this machine; use one of {', '.join(uuids)}, or a UUID that "
        "`nvidia-smi -L` lists"
    )


def _query(field: str) -> dict[str, str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    listing = subprocess.run(
        [program, f"--query-gpu=index,{field}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        return {}
    rows = (line.split(",", 1) for line in listing.stdout.splitlines() if "," in line)
    return {index.strip(): value.strip() for index, value in rows}


def slots(devices: Sequence[str], workers: int) -> tuple[str, ...]:
    """Names of `workers` devices of a Ray cluster, which finds them itself: `ray/gpu/0`, ...

    Args:
        devices: none for GPUs, or `cpu` alone.
        workers: how many.

    Raises:
        RunnerError: `devices` names GPUs.
    """
    if any(device != CPU for device in devices):
        raise RunnerError(
            f"{', '.join(devices)}: a Ray cluster chooses its GPUs itself; set VIRNUC_GPUS to auto "
            "or cpu, and VIRNUC_RAY_WORKERS to how many"
        )
    return tuple(f"{_RAY}/{CPU if devices else 'gpu'}/{number}" for number in range(workers))


def is_cpu(device: str) -> bool:
    """Whether `device` is a CPU, of this machine or wherever Ray finds one."""
    return device == CPU or device.startswith(f"{_RAY}/{CPU}/")


def described(devices: Sequence[str]) -> tuple[str, ...]:
    """The devices as a person wants to read them, without hundreds of names."""
    if len(devices) <= _NAMED:
        return tuple(devices)
    return (f"{devices[0]} to {devices[-1]}",)


def default_dtype(devices: Sequence[str]) -> str:
    """float16 on GPUs; float32 on a CPU, where half precision is slower and less exact."""
    return "float32" if any(map(is_cpu, devices)) else "float16"


def bind(device: str) -> str:
    """Confine this process to one device and return torch's name for it.

    Must run before torch is imported: CUDA reads the variable once.
    """
    if device == CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return CPU
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = device
    if not _ALLOCATOR & os.environ.keys():
        # So that memory freed by one size of tensor can serve another.
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    return "cuda:0"
