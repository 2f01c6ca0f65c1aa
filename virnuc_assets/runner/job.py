"""A job: which shards of which sequence table to embed, with what, where to. JSON on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from virnuc_assets.encoders.catalog import EncoderName, LongSequences
from virnuc_assets.errors import RunnerError
from virnuc_assets.runner.devices import CPU, default_devices, default_dtype
from virnuc_assets.store.atomic import read_json, write_json

# Sequences and letters of a block at most.
_BLOCK = {"cpu": (10_000, 50_000), "esm2": (10_000, 250_000), "dnabert-s": (40_000, 4_000_000)}


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
    """`cpu`, or physical GPU ids or UUIDs; empty: every visible GPU, else the CPU."""


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

    def resolved(self) -> Job:
        """This job with every `auto` replaced by what this machine gives."""
        # A device named twice is one device.
        devices = tuple(dict.fromkeys(self.encoding.devices or default_devices()))
        dtype = self.encoding.dtype
        encoding = replace(
            self.encoding,
            devices=devices,
            dtype=default_dtype(devices) if dtype == "auto" else dtype,
        )
        sequences, letters = _BLOCK["cpu" if CPU in devices else encoding.encoder]
        return replace(
            self,
            encoding=encoding,
            block_sequences=self.block_sequences or sequences,
            block_letters=self.block_letters or letters,
        )


def write_job(path: Path, job: Job) -> None:
    """Write a job as JSON."""
    write_json(path, asdict(job))


def read_job(path: Path) -> Job:
    """Read a job.

    Raises:
        StoreError: no such file, or not JSON.
        RunnerError: the JSON is not a job.
    """
    value = read_json(path)
    try:
        encoding = Encoding(**{**value["encoding"], "devices": tuple(value["encoding"]["devices"])})
        return Job(**{**value, "encoding": encoding, "shards": tuple(value["shards"])})
    except (TypeError, KeyError) as error:
        raise RunnerError(f"{path}: is not a job of this version ({error})") from error
