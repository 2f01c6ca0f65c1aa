"""A job: which shards of which sequence table to embed, with what, where to. JSON on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from virnuc_assets.encoders.catalog import EncoderName, LongSequences
from virnuc_assets.errors import RunnerError
from virnuc_assets.runner.devices import default_devices, default_dtype, is_cpu, slots
from virnuc_assets.store.atomic import read_json, write_json

# Sequences and letters of a block at most.
_BLOCK = {"cpu": (10_000, 50_000), "esm2": (10_000, 250_000), "dnabert-s": (40_000, 4_000_000)}


@dataclass(frozen=True)
class RayCluster:
    """Machines that Ray holds together.

    They see every file of a job by the same path, or have an `exchange`.
    """

    address: str = "auto"
    """As `ray.init` takes it; auto: the cluster that this machine is part of."""
    workers: int = 8
    """Devices at most; there are never more than blocks left."""
    exchange: str | None = None
    """Folder in an object store by way of which machines that share no disk have their files."""


@dataclass(frozen=True)
class Encoding:
    """How to embed: one encoder with its weights, and the machine's part in it."""

    encoder: EncoderName
    weights: str
    """A checkpoint file or folder, or a public model name."""
    dtype: str = "auto"
    """float32, float16, bfloat16 or fp8; auto: float16 on a GPU, float32 on a CPU."""
    attention: str = "auto"
    token_budget: int | None = None
    """Slots of a pack; None: the device's default, or what its memory holds."""
    long_sequences: LongSequences = "truncate"
    validate: int = 0
    """Sequences of each block that are embedded in float32 too, to compare."""
    devices: tuple[str, ...] = ()
    """`cpu`, or physical GPU ids or UUIDs; empty: every visible GPU, else the CPU. On Ray, empty
    for GPUs or `cpu`."""
    ray: RayCluster | None = None
    """The cluster to embed on; None: this machine."""


@dataclass(frozen=True)
class Job:
    """One call of the runner."""

    encoding: Encoding
    sequences: str
    """Path of the sequence table."""
    sequences_sha256: str
    index_digest: str
    output: str
    """Folder the shards are written to."""
    n_shards: int
    shards: tuple[int, ...]
    block_sequences: int | None = None
    """Sequences in a block at most."""
    block_letters: int | None = None
    """Residues or bases in a block at most; None, for both: what takes seconds on the device."""
    silence_seconds: float = 30.0
    """A worker without a sign of life for so long is hung, and so is a GPU without a pack done for
    ten times as long."""

    def own(self, name: str | Path) -> Path:
        """What a run calls the file or folder `name` that each run has one of.

        A job that has not all shards has its first in it, such as `run-03-of-08.json`: others may
        be at work on the rest at the same time.
        """
        path = Path(name)
        if len(self.shards) == self.n_shards:
            return path
        return path.with_stem(f"{path.stem}-{min(self.shards):02d}-of-{self.n_shards:02d}")

    def resolved(self) -> Job:
        """This job with every `auto` replaced by what this machine gives."""
        if self.encoding.ray is not None:
            devices = slots(self.encoding.devices, self.encoding.ray.workers)
        else:
            # A device named twice is one device.
            devices = tuple(dict.fromkeys(self.encoding.devices or default_devices()))
        dtype = self.encoding.dtype
        encoding = replace(
            self.encoding,
            devices=devices,
            dtype=default_dtype(devices) if dtype == "auto" else dtype,
        )
        sequences, letters = _BLOCK["cpu" if any(map(is_cpu, devices)) else encoding.encoder]
        return replace(
            self,
            encoding=encoding,
            block_sequences=self.block_sequences or sequences,
            block_letters=self.block_letters or letters,
        )


def write_jobs(path: Path, jobs: Sequence[Job]) -> None:
    """Write jobs as a list in JSON."""
    write_json(path, [asdict(job) for job in jobs])


def read_jobs(path: Path) -> list[Job]:
    """Read a list of jobs.

    Raises:
        StoreError: no such file, or not JSON.
        RunnerError: the JSON is no list of jobs.
    """
    value = read_json(path)
    if not isinstance(value, list):
        raise RunnerError(f"{path}: is not a list of jobs of this version")
    return [job_from(job, str(path)) for job in value]


def job_from(value: Any, source: str) -> Job:
    """The job that `asdict` made JSON of; `source` says where from, for messages.

    Raises:
        RunnerError: it is not a job.
    """
    try:
        encoding = value["encoding"]
        ray = RayCluster(**encoding["ray"]) if encoding.get("ray") else None
        changes = {"devices": tuple(encoding["devices"]), "ray": ray}
        return Job(
            **{
                **value,
                "encoding": Encoding(**{**encoding, **changes}),
                "shards": tuple(value["shards"]),
            }
        )
    except (TypeError, KeyError) as error:
        raise RunnerError(f"{source}: is not a job of this version ({error})") from error
