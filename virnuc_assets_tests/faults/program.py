"""`python -m virnuc_assets_tests.faults.program JOB.json`: the runner, with places to die at.

It is `python -m virnuc_assets.runner` with its own arguments, events and processes. Around it, and
not in it, are the fault points, a journal of what is computed, and several workers on one CPU: a
device may have any name here.
"""

from __future__ import annotations

import faulthandler
import os
import re
import shutil
import sys
import time
from collections import deque
from functools import partial
from io import FileIO
from pathlib import Path

from virnuc_assets.runner import __main__ as runner
from virnuc_assets.runner import coordinator, worker
from virnuc_assets.runner.background import leave
from virnuc_assets.runner.devices import CPU
from virnuc_assets.store import hdf5
from virnuc_assets_tests.faults.points import STACKS_SIGNAL, VARIABLE, Points

PACK_SECONDS = 0.05
"""How long a pack takes at least: most of a run's time goes by in the middle of a block."""

_POINTS = Points(Path(os.environ.get(VARIABLE, ".")))
_BLOCK = re.compile(r"shard-(\d+)-of-\d+\.blocks/block-(\d+)(?:\.piece-(\d+)-(\d+))?\.h5$")


def work(connection, device, *arguments):
    """What a worker process runs."""
    from virnuc_assets.encoders.packed_model import PackedModel

    faulthandler.register(STACKS_SIGNAL)
    _watch_files()
    means, pipeline = PackedModel.means, worker.Pipeline

    def means_then_point(model, pack):
        values = means(model, pack)
        time.sleep(PACK_SECONDS)
        _POINTS.reach("mid-compute")
        return values

    PackedModel.means = means_then_point
    worker.Pipeline = partial(_noted, pipeline)
    worker.work(connection, CPU, *arguments)


def _noted(pipeline, receive, prepare, compute, publish):
    """The worker's pipeline; the journal says when a block's computation begins and ends."""
    begun = deque()

    def prepare_for(block):
        return block, prepare(block)

    def unwrap(batches):
        for pair in batches:
            if pair is None:
                yield None
                continue
            block, batch = pair
            piece = () if block.whole else (block.start, block.stop)
            begun.append(_name(block.shard, block.block, *piece))
            _POINTS.note("begun", begun[-1])
            yield batch

    def compute_noted(batches):
        for result in compute(unwrap(batches)):
            _POINTS.note("computed", begun.popleft())
            yield result

    return pipeline(receive, prepare_for, compute_noted, publish)


def _name(shard, block, *piece):
    """What the journal calls a block, or a piece of one."""
    return " ".join([f"{shard}/{block}", *map(str, piece)])


def _kind(path):
    """What a file is by its name, temporary or not: a block, a shard, the view of all shards."""
    return re.match(r"\.?([a-z]*)", Path(path).name).group(1)


def _watch_files():
    """Points around every write and rename of a block, shard or view, and the removal of blocks."""
    replace, remove = os.replace, shutil.rmtree

    def replace_between_points(source, target, **options):
        kind = _kind(target)
        _POINTS.reach(f"{kind} before rename")
        replace(source, target, **options)
        if block := _BLOCK.search(str(target)):
            numbers = (int(number) for number in block.groups() if number is not None)
            _POINTS.note("published", _name(*numbers))
        _POINTS.reach(f"{kind} after rename")

    class Torn(FileIO):
        """An HDF5 file on its way: the point comes after the first of its writes."""

        def write(self, data):
            written = super().write(data)
            _POINTS.reach(f"{_kind(self.name)} half written")
            return written

    def remove_half_then_point(folder, *arguments, **options):
        if Path(folder).exists():
            if (_POINTS.folder / "armed blocks half removed").exists():
                for block in sorted(Path(folder).iterdir())[::2]:
                    block.unlink()
            _POINTS.reach("blocks half removed")
        remove(folder, *arguments, **options)

    os.replace = replace_between_points
    hdf5.FileIO = Torn
    shutil.rmtree = remove_half_then_point


if __name__ == "__main__":
    faulthandler.register(STACKS_SIGNAL)
    _watch_files()
    runner.run = partial(coordinator.run, worker=work)
    leave(runner.main(sys.argv[1:]))
