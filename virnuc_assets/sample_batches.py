"""Which samples are embedded by the same request: as many as there are shards, or many small ones.

Of the shards of more samples than there are shards, Dagster 1.13 makes a run a shard, each of all
these samples, and of fewer samples a run a sample. A run loads the encoders once, so many small
samples cost little that way; but none can be called before the last of the runs has ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from virnuc_assets.errors import VirnucError
from virnuc_assets.partitions import N_SHARDS
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import registered

MOST_BYTES = 2**25
"""Of the files of small samples, compressed or not: at most minutes on one GPU, or two cores."""
MOST_SAMPLES = 8 * N_SHARDS


def batches(names: Sequence[str], bytes_of: Callable[[str], float]) -> Iterator[list[str]]:
    """`names` in their order, cut into what is embedded together; a name is asked for when needed.

    Args:
        bytes_of: the size of a sample's file.
    """
    rest = list(names)
    while rest:
        sizes = accumulate(bytes_of(name) for name in rest[:MOST_SAMPLES])
        small = sum(1 for size in sizes if size <= MOST_BYTES)
        taken = max(small, N_SHARDS)
        yield rest[:taken]
        rest = rest[taken:]


def file_bytes(layout: Layout, name: str) -> float:
    """The size of a sample's file; without end where there is none to be seen."""
    try:
        return Path(registered(layout, name).source).stat().st_size
    except (VirnucError, OSError):
        # Its own run says what is wrong with it.
        return math.inf
