"""What messages cost the coordinator's process with 512 workers on Ray.

`python -m benchmarks.ray_messages [--devices 512] [--seconds 20]`

The pool and the messages are the runner's own. Behind them are not 512 actors, which no small
machine can hold, but two, each of which answers for half of them and says at once that a block is
done. Measured: the processor time of the coordinator's process for each block, all its threads
together, and how many blocks a second that is at most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray

from virnuc_assets.runner.link import Watch
from virnuc_assets.runner.messages import Finished
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.ray_pool import Place, RayPool, _Actor
from virnuc_assets.store.embeddings import Counts, EmbeddingFile, Identity, Origin

_ACTORS = 2
_IN_HAND = 2


def finished(block: Block) -> Finished:
    """What a worker says of a block, in its usual size."""
    identity = Identity("esm2", "i" * 64, "e" * 64, "float16", 8, 0, block.start, block.stop)
    origin = Origin("esm2_t36_3B_UR50D", "w" * 64, "NVIDIA H200", "triton", "", 16896, "truncate")
    folder = Path("/shared/virnuc/samples/sample/embeddings/esm2/shard-00-of-08.blocks")
    counts = Counts(tokens=block.letters)
    file = EmbeddingFile(folder / "block-00000.h5", identity, counts, origin, 2560, "c" * 64)
    return Finished(block, file, 3.0, 250_000, 3.0, 0.0, None, 1e15, 2**36, 1e15)


class Far:
    """Many workers' actors in one."""

    def __init__(self) -> None:
        """None has a block."""
        self.said: defaultdict[str, list[Finished]] = defaultdict(list)

    async def start(self, device: str) -> Place:
        """It is here."""
        return Place("node", "192.0.2.1")

    async def take(self, device: str, number: int, block: Block) -> None:
        """A block is done at once."""
        self.said[device].append(finished(block))

    async def reports(self, device: str, seen: int) -> list[Finished]:
        """As `Slot.reports`."""
        until = time.monotonic() + 5
        while len(self.said[device]) <= seen and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return self.said[device][seen:]


@dataclass(frozen=True)
class Handle:
    """One device's part of an actor, as the pool sees an actor."""

    far: Any
    device: str

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.far, name)
        return SimpleNamespace(remote=partial(call.remote, self.device))


def measure(devices: int, seconds: float) -> dict[str, float]:
    """Hand out and take back blocks for so many seconds; what was measured, JSON-ready."""
    far = [ray.remote(Far).options(num_cpus=0).remote() for _ in range(_ACTORS)]
    pool = RayPool("auto", print, ())
    for number in range(devices):
        device = f"ray/gpu/{number}"
        handle = Handle(far[number % _ACTORS], device)
        watch = Watch(math.inf, math.inf, ready=True)
        pool._actors[device] = _Actor(handle, handle.start.remote(), watch)
    while pool.unplaced():
        pool.wait()
    block = Block(0, 0, 0, 5000, 250_000)
    for device in pool._actors:
        for _ in range(_IN_HAND):
            pool.send(device, block)
    blocks, began, cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        for device, _ in pool.wait():
            blocks += 1
            pool.send(device, block)
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    return {
        "devices": devices,
        "blocks_a_second": blocks / wall,
        "processor_ms_a_block": 1000 * cpu / blocks,
        "share_of_one_core": cpu / wall,
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    # A cluster that nobody else sees, and that leaves no token in the home folder.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init("local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False)
    text = json.dumps(measure(options.devices, options.seconds), indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
