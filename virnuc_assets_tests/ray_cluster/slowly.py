"""A worker like any other that takes its time, and notes on which node it computed what.

Imported by name where Ray puts it, so it is no part of the program that starts a run.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from virnuc_assets.runner import worker
from virnuc_assets.runner.events import BlockDone

PACK_SECONDS = 0.5
"""On a cluster: long enough for a new node to start while a run goes on."""
_RAYLET = "RAY_RAYLET_PID"
JOURNALS = "JOURNALS"
"""Environment variable: the folder of the journals, a file for each node's raylet."""


def work(link, device, *arguments):
    """What a worker process runs."""
    from virnuc_assets.encoders.packed_model import PackedModel

    means = PackedModel.means

    def means_slowly(model, pack):
        time.sleep(PACK_SECONDS)
        return means(model, pack)

    if _RAYLET in os.environ:
        PackedModel.means = means_slowly
    worker.Pipeline = partial(_noted, worker.Pipeline)
    worker.work(link, device, *arguments)


def _noted(pipeline, receive, prepare, compute, publish):
    journal = Path(os.environ[JOURNALS]) / os.environ.get(_RAYLET, "none")

    def publish_noted(block, *result):
        publish(block, *result)
        with journal.open("a") as file:
            file.write(f"{block.shard}/{block.block}\n")

    return pipeline(receive, prepare, compute, publish_noted)


def computed(folder, raylet=None):
    """The blocks that were computed and published, in the journal of one node or in all."""
    journals = folder.iterdir() if raylet is None else [folder / str(raylet)]
    return [line for path in journals if path.exists() for line in path.read_text().split()]


def done(events):
    """The blocks that a run said were done."""
    return [f"{event.shard}/{event.block}" for event in events if isinstance(event, BlockDone)]
