"""Many devices on the real coordinator, with an encoder that sleeps in place of computing.

`python -m benchmarks.coordinator [--devices 64] [--sequences 6000000] [--seconds 120]`

Processes, pipes, heartbeats, block files and shards are the runner's own; only the model is not
there. A letter takes as long as makes the whole take `--seconds` on all devices together, and one
device in four is 20 % slower. Measured: how long devices waited for their next block, the tail
(from the first device's last block to the last one's, over the time from the first hand-out on),
and the coordinator's memory and processor time.

`python -m benchmarks.coordinator --simulated 1000000 10000000 100000000 [--devices 512]` leaves the
processes out too (`simulated_pool`), and the last column of embeddings stands for all of them; what
is left is the coordinator: its plan, its decisions, its books, shards put together. Numbers of
sequences are simulated one after the other, each in a process of its own. Blocks' files are real.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.simulated_pool import DIM as SIMULATED_DIM
from benchmarks.simulated_pool import SimulatedPool
from virnuc_assets.runner.coordinator import run
from virnuc_assets.runner.events import BlockDone, Event, Failed, Warned, to_line
from virnuc_assets.runner.identity import Digests, block_file, block_identity
from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.runner.link import Link
from virnuc_assets.runner.messages import Finished, Ready
from virnuc_assets.runner.pipeline import Pipeline
from virnuc_assets.runner.plan import Block
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.embeddings import Counts, Origin, write_embeddings
from virnuc_assets.store.sequence_table import write_sequence_table
from virnuc_assets_tests import untrained

DIM = 16
MEAN_LETTERS = 130
BLOCK_LETTERS = 1_000_000


@dataclass(frozen=True)
class Slept:
    """A block and how long its device slept for it, and waited before it."""

    seconds: float
    waited: float


def sleeping(
    seconds_per_letter: float, link: Link, device: str, job: Job, digests: Digests, log_level: int
) -> None:
    """A worker whose device sleeps."""
    slowness = 1.2 if int(device) % 4 == 0 else 1.0
    link.send(Ready(DIM))

    def compute(blocks: Iterable[Block | None]) -> Iterator[Slept]:
        free = None
        for block in blocks:
            if block is None:
                continue
            began = time.monotonic()
            time.sleep(block.letters * seconds_per_letter * slowness)
            link.landed()
            waited = 0.0 if free is None else began - free
            free = time.monotonic()
            yield Slept(free - began, waited)

    def publish(block: Block, slept: Slept, seconds: float) -> None:
        file = write_embeddings(
            block_file(job, block),
            block_identity(job, digests, block),
            Origin("asleep", "", "", "", "", 0, "truncate"),
            Counts(tokens=block.letters),
            DIM,
            [np.zeros((block.sequences, DIM), np.float32)],
        )
        link.send(
            Finished(block, file, seconds, busy_seconds=slept.seconds, starved_seconds=slept.waited)
        )

    Pipeline(link.recv, lambda block: block, compute, publish).run()


def write_table(path: Path, sequences: int, mean_letters: float = MEAN_LETTERS) -> int:
    """Write a table of `sequences` random lengths, longest first; its letters."""
    lengths = np.random.default_rng(0).gamma(2.0, mean_letters / 2, sequences)
    lengths = np.sort(np.clip(lengths, 5, 1000).astype(np.int64))[::-1]
    parts = []
    for part in np.array_split(lengths, 100):
        offsets = np.concatenate([[0], np.cumsum(part)])
        letters = np.full(offsets[-1], ord("A"), np.uint8)
        parts.append(
            pa.LargeStringArray.from_buffers(
                len(part), pa.py_buffer(offsets), pa.py_buffer(letters)
            )
        )
    write_sequence_table(path, parts)
    return int(lengths.sum())


def measure(devices: int, sequences: int, seconds: float, folder: Path) -> dict[str, object]:
    """Run the simulation in `folder`; what was measured, JSON-ready."""
    table = folder / "sequences.arrow"
    # Elsewhere, so that its memory does not count as the coordinator's.
    with multiprocessing.get_context("spawn").Pool(1) as elsewhere:
        letters = elsewhere.apply(write_table, (table, sequences))
    names = tuple(str(i) for i in range(devices))
    job = Job(
        encoding=Encoding("esm2", str(untrained.folder() / "esm2"), dtype="float16", devices=names),
        sequences=str(table),
        sequences_sha256=sha256_file(table),
        index_digest="index",
        output=str(folder / "out"),
        n_shards=8,
        shards=tuple(range(8)),
        block_letters=BLOCK_LETTERS,
    )
    blocks: list[tuple[float, BlockDone]] = []
    troubles: list[Event] = []

    def emit(event: Event) -> None:
        if isinstance(event, BlockDone):
            blocks.append((time.monotonic(), event))
        elif isinstance(event, Failed | Warned):
            troubles.append(event)

    began, cpu = time.monotonic(), time.process_time()
    outcome = run(job, emit, worker=partial(sleeping, seconds * devices / letters))
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    first = min(at - event.busy_seconds for at, event in blocks)
    last_of = {event.device: at for at, event in blocks}
    going = max(last_of.values()) - first
    waited = sum(event.starved_seconds for _, event in blocks)
    slept = sum(event.busy_seconds for _, event in blocks)
    return {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
        "devices": devices,
        "sequences": sequences,
        "letters": letters,
        "blocks": len(blocks),
        "shards_done": len(outcome.done),
        "troubles": [asdict(event) for event in troubles],
        "seconds_from_first_hand_out": going,
        "seconds_slept_by_a_device": slept / devices,
        "waited_for_next_block_share": waited / (waited + slept),
        "waited_for_next_block_ms": 1000 * waited / len(blocks),
        "tail_seconds": max(last_of.values()) - min(last_of.values()),
        "tail_share": (max(last_of.values()) - min(last_of.values())) / going,
        "coordinator_peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "coordinator_cpu_seconds": cpu,
        "wall_seconds": wall,
    }


def simulate(
    devices: int, sequences: int, letters_per_second: float, mean_letters: float, folder: Path
) -> dict[str, Any]:
    """Run the coordinator on a simulated pool in `folder`; what was measured, JSON-ready."""
    table = folder / "sequences.arrow"
    with multiprocessing.get_context("spawn").Pool(1) as elsewhere:
        letters = elsewhere.apply(write_table, (table, sequences, mean_letters))
    weights = str(untrained.folder() / "esm2")
    names = tuple(f"device {i}" for i in range(devices))
    job = Job(
        encoding=Encoding("esm2", weights, dtype="float16", devices=names),
        sequences=str(table),
        sequences_sha256=sha256_file(table),
        index_digest="index",
        output=str(folder / "out"),
        n_shards=8,
        shards=tuple(range(8)),
    )
    counts = {"blocks": 0, "bytes": 0, "troubles": 0}

    def emit(event: Event) -> None:
        counts["blocks"] += isinstance(event, BlockDone)
        counts["troubles"] += isinstance(event, Failed | Warned)
        counts["bytes"] += len(to_line(event)) + 1

    def make_pool(worker: object, arguments: tuple[Digests, object]) -> SimulatedPool:
        nonlocal pool
        before["pool"] = time.perf_counter()
        pool = SimulatedPool(letters_per_second, arguments[0])
        return pool

    pool: SimulatedPool | None = None
    before = {"run": time.perf_counter()}
    cpu = time.process_time()
    outcome = run(job, emit, make_pool=make_pool)
    wall, cpu = time.perf_counter() - before["run"], time.process_time() - cpu
    assert pool is not None and pool.first_at is not None
    output = Path(job.output)
    shards = sum(path.stat().st_size for path in output.glob("shard-*.h5"))
    going = pool.now - pool.first_at
    last = [device.last_at for device in pool.devices.values()]
    blocks = counts["blocks"]
    return {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
        "devices": devices,
        "letters_per_second_of_a_device": letters_per_second,
        "sequences": sequences,
        "letters": letters,
        "blocks": blocks,
        "shards_done": len(outcome.done),
        "troubles": counts["troubles"],
        "plan_seconds": before["pool"] - before["run"],
        "coordinator_ms_a_block": 1000 * pool.coordinator_seconds / blocks,
        "blocks_a_second_at_most": blocks / pool.coordinator_seconds,
        "blocks_a_second_asked_for": blocks / pool.computed_seconds * devices,
        "simulated_seconds": going,
        "waited_for_next_block_share": pool.waited_seconds
        / (pool.waited_seconds + pool.computed_seconds),
        "tail_seconds": max(last) - min(last),
        "tail_share": (max(last) - min(last)) / going,
        "event_bytes_a_block": counts["bytes"] / blocks,
        "message_bytes_a_block": pool.message_bytes / blocks,
        "shard_metadata_bytes": shards - sequences * (4 * SIMULATED_DIM + 8),
        "record_bytes": (output / "run.json").stat().st_size,
        "coordinator_peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "cpu_seconds_with_block_files": cpu,
        "wall_seconds_with_block_files": wall,
    }


def simulate_each(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every number of sequences, in a new process each, so that memory is its own."""
    found = []
    rates = options.letters_per_second, options.mean_letters
    for sequences in options.simulated:
        with (
            tempfile.TemporaryDirectory(dir=options.folder) as folder,
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone,
        ):
            arguments = options.devices, sequences, *rates, Path(folder)
            found.append(alone.submit(simulate, *arguments).result())
        print(json.dumps(found[-1], indent=2), flush=True)
    return found


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=64)
    parser.add_argument("--simulated", type=int, nargs="+", metavar="SEQUENCES")
    parser.add_argument("--letters-per-second", type=float, default=100_000.0)
    parser.add_argument("--mean-letters", type=float, default=50.0)
    parser.add_argument("--folder", type=Path, help="for the simulation's files")
    parser.add_argument("--sequences", type=int, default=6_000_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.simulated:
        text = json.dumps(simulate_each(options), indent=2)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(options.devices, options.sequences, options.seconds, Path(folder))
        text = json.dumps(found, indent=2)
        print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
