"""Which samples are embedded together: many small ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, takewhile
from pathlib import Path

from virnuc_assets.errors import VirnucError
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import registered

MOST_BYTES = 2**25
"""Of the files of small samples, compressed or not: none is called before all are embedded."""
MOST_SAMPLES = 64


def batches(
    names: Sequence[str], bytes_of: Callable[[str], float], at_least: int = 1
) -> Iterator[list[str]]:
    """`names` in their order, cut into what is embedded together.

    Args:
        bytes_of: the size of a sample's file; asked for until there is enough.
        at_least: samples of a batch, however large they are.
    """
    rest = list(names)
    while rest:
        sizes = accumulate(map(bytes_of, rest[:MOST_SAMPLES]))
        small = sum(1 for _ in takewhile(lambda size: size <= MOST_BYTES, sizes))
        taken = max(small, at_least)
        yield rest[:taken]
        rest = rest[taken:]


def file_bytes(layout: Layout, name: str) -> float:
    """The size of a sample's file; without end where there is none to be seen."""
    try:
        return Path(registered(layout, name).source).stat().st_size
    except (VirnucError, OSError):
        # Its own run says what is wrong with it.
        return math.inf
