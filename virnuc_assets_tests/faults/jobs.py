"""The jobs that are harmed, their results, and a disk small enough to be filled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from virnuc_assets.encoders.catalog import MAX_TOKENS
from virnuc_assets.runner.events import Event
from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.runner.telemetry import RECORD_FILE
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.sequence_table import write_sequence_table
from virnuc_assets_tests import untrained
from virnuc_assets_tests.faults.processes import Run

SHARDS = 3
BLOCKS_OF_A_SHARD = 12


def make_job(folder: Path, encoder: str, sequences: int, seed: int) -> Job:
    """A job over random sequences of mixed lengths for an untrained encoder; tables in `folder`."""
    letters = np.array(list("ACGT" if encoder == "dnabert-s" else "ACDEFGHIKLMNPQRSTVWY"))
    longest = 600 if encoder == "dnabert-s" else 300
    generator = np.random.default_rng(seed)
    lengths = np.sort(generator.integers(1, longest, sequences))[::-1]
    table = folder / f"{encoder}-{seed}.arrow"
    if not table.exists():
        texts = ["".join(generator.choice(letters, length)) for length in lengths]
        write_sequence_table(table, [pa.array(texts, pa.large_string())])
    model = untrained.folder() / encoder.replace("-", "_")
    encoding = Encoding(
        encoder,
        str(model),
        dtype="float32",
        # A block is several packs, as it is on a GPU: blocks within one pack are done at once.
        token_budget=MAX_TOKENS[encoder],
        devices=("cpu",),
    )
    return Job(
        encoding=encoding,
        sequences=str(table),
        sequences_sha256=sha256_file(table),
        index_digest="index",
        output=str(folder / "uninterrupted"),
        n_shards=SHARDS,
        shards=tuple(range(SHARDS)),
        block_sequences=sequences // (SHARDS * BLOCKS_OF_A_SHARD),
        block_letters=10**9,
    )


def run_undisturbed(folder: Path, job: Job) -> list[Event]:
    """Run `job` to its end; its events."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, job)
    events = list(run.events())
    assert run.wait() == 0, (folder / "log").read_text()
    return events


def contents(job: Job) -> dict[str, bytes]:
    """Every file below the job's output but the run's record, which is of the run and its time."""
    output = Path(job.output)
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.name != RECORD_FILE
    }


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A file system of its own at `folder`/disk, where this process may make one."""
    disk = folder / "disk"
    disk.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "virnuc-faults", str(disk)],
        capture_output=True,
        check=False,
    )
    try:
        yield disk if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(disk)], check=True)
