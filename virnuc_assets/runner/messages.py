"""What workers and their pool tell the coordinator, and what a worker is told beside its blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from virnuc_assets.encoders.agreement import Agreement
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.plan import Block
from virnuc_assets.store.embeddings import EmbeddingFile


@dataclass(frozen=True)
class Ready:
    """The encoder is loaded; the worker waits for a block. `dim`: numbers in an embedding."""

    dim: int


@dataclass(frozen=True)
class Finished:
    """A block file was published.

    `slots`: of packs, padding included, its share. `busy_seconds`, `starved_seconds`: of the
    `seconds` it took, what a CUDA device did. `agreement`: with float32, where the precision has it
    checked. `flops`: the model's floating point operations on its tokens, attention included;
    `peak_memory_bytes`: most that the device held so far; `ceiling`: what its products can reach
    there in operations a second. Each None where it is not known.
    """

    block: Block
    file: EmbeddingFile
    seconds: float
    slots: int = 0
    busy_seconds: float = 0.0
    starved_seconds: float = 0.0
    agreement: Agreement | None = None
    flops: float | None = None
    peak_memory_bytes: int | None = None
    ceiling: float | None = None


@dataclass(frozen=True)
class Broke:
    """A block raised, or with block None the start of a worker or what every block would meet.

    `explained`: the message is a sentence for a person, not a traceback; what is explained and no
    block's stops the run, for no other device would be spared it, unless it is met at a start while
    other devices go on. `row`: the one row of the sequence table that is at fault, where that is
    known. `encoder`: it is the encoder that cannot be loaded, whatever the job and however often.
    """

    block: Block | None
    message: str
    explained: bool
    row: int | None = None
    encoder: bool = False


@dataclass(frozen=True)
class OutOfMemory:
    """The device's memory does not hold a pack of `token_budget` slots beside the model."""

    message: str
    token_budget: int


@dataclass(frozen=True)
class Taken:
    """The device is in use by another run; the message says which process."""

    message: str


@dataclass(frozen=True)
class DiskFull:
    """A file, of a block or of what is fetched for it, found no room; the message is a sentence."""

    message: str


@dataclass(frozen=True)
class Died:
    """A worker's process ended without saying why."""

    exit_code: int | None


@dataclass(frozen=True)
class Hung:
    """A worker gave no sign of life, or got no further, and was killed; `why` says which."""

    why: str


@dataclass(frozen=True)
class Placed:
    """A machine was found for a worker that waited for one; it is about to start."""

    machine: str


@dataclass(frozen=True)
class Lost:
    """The machine a worker ran on is gone, which is no fault of a block or the device's."""

    why: str


@dataclass(frozen=True)
class NextJob:
    """To a worker that has no block: it goes on with `job`, and says so by `Ready`.

    `turn`: counts its jobs, the first is 0. `arguments`: what the worker was started with after its
    first job, for this one.
    """

    turn: int
    job: Job
    arguments: tuple[Any, ...]


Message = Ready | Finished | Broke | OutOfMemory | Taken | DiskFull
"""What a worker says."""

Report = Message | Placed | Died | Hung | Lost
"""What a pool says of a worker."""
