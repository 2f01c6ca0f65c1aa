"""One run on a GPU at a time."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from virnuc_assets.errors import DeviceTakenError
from virnuc_assets.runner.devices import gpu_uuid

_CREDENTIALS = struct.Struct("3i")


@contextmanager
def sole_user(device: str) -> Iterator[None]:
    """Hold the GPU `device`, a physical id or UUID, for this process.

    What is held is a name in the kernel, that of a socket nobody sends to. It is no file: whatever
    ends the process frees it, and nothing is left to remove. Containers with a network of their own
    have names of their own.

    Raises:
        DeviceTakenError: another process holds it; the message has its process id.
        BackendError: the machine has no such GPU.
    """
    name = f"\0virnuc-device-{gpu_uuid(device)}"
    if sys.platform != "linux":
        yield  # no such sockets, and no CUDA either
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        try:
            held.bind(name)
        except OSError as error:
            raise DeviceTakenError(
                f"is in use by another run (process {_holder(name)}); wait for it to end, or name "
                "other devices"
            ) from error
        held.listen()
        yield


def _holder(name: str) -> str:
    """Process id of who listens on `name`, as this process may see it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1)
        try:
            asking.connect(name)
        except OSError:
            return "unknown"
        found = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return str(_CREDENTIALS.unpack(found)[0] or "unknown")
