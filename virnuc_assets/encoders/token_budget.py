"""The largest token budget that a card's memory holds beside a model: found by running one pack.

What was found is remembered in the user's cache folder, so that the next start need not try.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from virnuc_assets.errors import DeviceMemoryError, StoreError
from virnuc_assets.store.atomic import read_json, write_json
from virnuc_assets.store.digests import sha256_json

log = logging.getLogger(__name__)

Holds = Callable[[int], bool]
"""Whether one full pack of so many slots runs in the memory that is free."""

# Memory that is free beyond this multiple of what was free when a small budget was found is
# reason to look for a larger one.
_MORE_MEMORY = 1.1
_MEMORY_IS_FULL = (
    "CUDA error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True)
class Circumstances:
    """What a budget that fits depends on, besides the memory that others take on the card."""

    card: str
    card_bytes: int
    weights_digest: str
    dtype: str
    engine: str
    torch: str
    default: int


@dataclass(frozen=True)
class Fitted:
    """A budget that ran, and how many bytes of the card were free when it did."""

    token_budget: int
    free_bytes: int


def candidates(default: int, least: int) -> Iterator[int]:
    """`default` and its halves, rounded down, while they are no smaller than `least`."""
    budget = default
    while budget >= least:
        yield budget
        budget //= 2


def fit(
    default: int, least: int, free_bytes: int, holds: Holds, before: Fitted | None, device: str
) -> Fitted:
    """The first of `default` and its halves that `holds`, none below `least`.

    `before` spares trying: it stands while as much memory is free as then, is tried first where
    less is, and is forgotten where much more is and it is smaller than the default.

    Raises:
        DeviceMemoryError: not even the smallest runs on `device`.
    """
    start = default
    if before is not None:
        outgrown = free_bytes > _MORE_MEMORY * before.free_bytes
        if free_bytes >= before.free_bytes and not (outgrown and before.token_budget < default):
            return before
        if not outgrown:
            start = before.token_budget
    tried = list(candidates(start, least))
    for budget in tried:
        if holds(budget):
            return Fitted(budget, free_bytes)
        log.warning("%s: a pack of %d tokens does not fit in its memory", device, budget)
    raise DeviceMemoryError(device, tried[-1])


def fit_remembered(
    circumstances: Circumstances, least: int, free_bytes: int, holds: Holds, file: Path
) -> Fitted:
    """`fit` with what `file` remembers of the same circumstances, and the answer noted there.

    A file that cannot be read or written is said in the log and done without.

    Raises:
        DeviceMemoryError: not even the smallest budget runs.
    """
    key = sha256_json(asdict(circumstances))
    remembered = _read(file)
    before = _fitted(remembered.get(key))
    if before is not None and not least <= before.token_budget <= circumstances.default:
        before = None
    found = fit(circumstances.default, least, free_bytes, holds, before, circumstances.card)
    if found != before:
        try:
            write_json(file, remembered | {key: asdict(found)})
        except StoreError as error:
            log.warning("the token budget will be looked for again at every start: %s", error)
    return found


def cache_file() -> Path:
    """Where budgets are remembered: in XDG_CACHE_HOME, or ~/.cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "virnuc" / "token-budgets.json"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether PyTorch, CUDA, cuBLAS or Triton says with `error` that a device's memory is full."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(
        sign in str(error) for sign in _MEMORY_IS_FULL
    )


def _read(file: Path) -> dict[str, object]:
    try:
        if not file.exists():
            return {}
        content = read_json(file)
    except (StoreError, OSError) as error:
        log.warning("remembered token budgets are not used: %s", error)
        return {}
    return content if isinstance(content, dict) else {}


def _fitted(entry: object) -> Fitted | None:
    match entry:
        case {"token_budget": int(budget), "free_bytes": int(free)}:
            return Fitted(budget, free)
    return None
