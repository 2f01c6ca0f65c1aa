"""What a run says while it goes: one JSON object a line, read back into the same dataclasses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from virnuc_assets.errors import RunnerError


@dataclass(frozen=True)
class Started:
    """The plan: what is already done and what is left."""

    sequences: int
    """Sequences in the shards asked for."""
    sequences_done: int
    """Of these, embedded by an earlier run."""
    blocks: int
    blocks_done: int
    devices: tuple[str, ...]
    model: str


@dataclass(frozen=True)
class JobBegins:
    """What follows is of another job of those the process was given; before, it is of the first."""

    job: int
    """Its place among them, from 0."""


@dataclass(frozen=True)
class BlockDone:
    """A block file was published."""

    shard: int
    block: int
    sequences: int
    tokens: int
    seconds: float
    device: str
    busy_seconds: float = 0.0
    """How long a CUDA device computed it, and had nothing to do before it."""
    starved_seconds: float = 0.0


@dataclass(frozen=True)
class ShardDone:
    """A shard file is in place: just made from verified blocks, or found and verified."""

    shard: int
    path: str
    reused: bool
    """It was there from an earlier run; nothing was computed."""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far the whole run is, sent after every block."""

    sequences_done: int
    sequences: int
    tokens_per_second: float
    """Real tokens over wall time since the first block was handed out, all devices together."""
    eta_seconds: float | None


@dataclass(frozen=True)
class Warned:
    """Something a person should know that did not stop the run."""

    message: str


@dataclass(frozen=True)
class Failed:
    """A shard (or, with shard None, the whole job) could not be done."""

    message: str
    shard: int | None = None
    explained: bool = True
    """False when it is a bug of ours and the log holds a traceback."""


Event = Started | JobBegins | BlockDone | ShardDone | Progress | Warned | Failed
_KINDS: dict[str, type[Any]] = {
    "started": Started,
    "job_begins": JobBegins,
    "block_done": BlockDone,
    "shard_done": ShardDone,
    "progress": Progress,
    "warning": Warned,
    "failed": Failed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_line(event: Event) -> str:
    """One line of JSON, without the newline."""
    return json.dumps({"event": _NAMES[type(event)], **asdict(event)})


def from_line(line: str) -> Event:
    """Read a line written by `to_line`.

    Raises:
        RunnerError: the line is no event.
    """
    try:
        value = json.loads(line)
        kind = _KINDS[value.pop("event")]
        if kind is Started:
            value["devices"] = tuple(value["devices"])
        event: Event = kind(**value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunnerError(f"the runner printed something that is no event: {line!r}") from error
    return event
