"""From an index on disk to both encoders' shard files, on one device and on all of them.

Simulates a sample (reads, or contigs with one frame in six open), indexes it, writes random weights
of the published shapes in the real formats and embeds through the runner's own processes and files,
once on the first device and once on all. A small sample goes before on all devices, unmeasured, so
that kernels are compiled and files in the system's cache for every run alike.
With `--kill-after`, embeds the first `--kill-shards` shards of ESM-2 once more on the first device
and once on all, and kills one worker there when that many blocks are done. Shard checksums say
whether the same bits came out. Prints tables and writes JSON.

Seconds of a run are from its start to its last shard's file. What a GPU did is counted by its own
clock, pack by pack. It is busy from when the host begins to launch a pack, or when the GPU is done
with the one before if that is later, until it is done; and starved from one pack's end to the next
one's beginning. The busy share is busy over both: over the time from its first pack to its last.
Loading, compiling and warming up are before that, assembling shards is after. A GPU that waits
within a pack, for kernels that are launched too slowly, counts as busy: that shows in the tokens a
second while busy, against those in `dnabert_s.py` and `esm2.py`.

    python benchmarks/scaling.py --output benchmarks/results/scaling.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_models import write_dnabert_s, write_esm2

from virnuc_assets.encoders.catalog import ESM2_SHAPES, EncoderName
from virnuc_assets.runner import client
from virnuc_assets.runner.devices import default_devices, gpu_names
from virnuc_assets.runner.events import BlockDone, Failed, Progress, ShardDone, Started, Warned
from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.sequences.index import build_index
from virnuc_assets.sequences.manifest import IndexManifest

READ_LENGTH = 150
CHUNK_LENGTH = 500
CONTIG_LENGTH = 100 * CHUNK_LENGTH
SIZE_TO_WARM_UP = 2000
BASES = np.frombuffer(b"ACGT", np.uint8)
OPEN_CODONS = np.array(
    [
        "".join(codon)
        for codon in product("ACGT", repeat=3)
        if "".join(codon) not in ("TAA", "TAG", "TGA")
    ],
    dtype="S3",
)


@dataclass
class Run:
    """What one run of the runner did; seconds by the wall clock."""

    encoder: str
    devices: tuple[str, ...]
    sequences: int
    tokens: int = 0
    seconds: float = 0.0
    seconds_before_first_block: float = 0.0
    seconds_after_last_block: float = 0.0
    busy_seconds: dict[str, float] = field(default_factory=dict)
    starved_seconds: dict[str, float] = field(default_factory=dict)
    busy_share: dict[str, float] = field(default_factory=dict)
    """Of the sum of both."""
    engine_tokens_per_s: dict[str, float] = field(default_factory=dict)
    """While busy."""
    blocks: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    packing_efficiency: float = 0.0
    checksums: dict[int, str] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        """Without starting and loading the model."""
        return self.tokens / (self.seconds - self.seconds_before_first_block)

    @property
    def tokens_per_s_with_start(self) -> float:
        """All of the wall time."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Index:
    """An index on disk."""

    folder: Path
    manifest: IndexManifest


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esm2", default="esm2_t36_3B_UR50D", choices=list(ESM2_SHAPES))
    parser.add_argument("--sample", choices=["reads", "contigs"], default="reads")
    parser.add_argument(
        "--size", type=int, default=1_000_000, help="reads, or chunks that contigs are cut into"
    )
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument(
        "--esm2-shards", type=int, default=16, help="of these, how many ESM-2 embeds"
    )
    parser.add_argument("--kill-after", type=int, default=0, help="blocks of ESM-2; 0: no such run")
    parser.add_argument("--kill-shards", type=int, default=2)
    parser.add_argument("--devices", default=",".join(default_devices()))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All runs and their ratios."""
    devices = tuple(options.devices.split(","))
    print(machine(), flush=True)
    began = time.monotonic()
    write_esm2(folder / "esm2", options.esm2)
    write_dnabert_s(folder / "dnabert-s")
    print(f"models written in {time.monotonic() - began:.1f} s", flush=True)
    index = simulated(folder / "index", options.sample, options.size)

    shards: dict[EncoderName, int] = {"dnabert-s": options.shards, "esm2": options.esm2_shards}
    few = simulated(folder / "few", options.sample, SIZE_TO_WARM_UP)
    for encoder in shards:
        began = time.monotonic()
        run(job_of(folder, few, encoder, devices, options.shards, options.shards, "few"))
        print(f"{encoder} warmed up in {time.monotonic() - began:.1f} s", flush=True)
    groups = [devices[:1]] + ([devices] if len(devices) > 1 else [])
    runs: list[Run] = []
    for encoder, count in shards.items():
        for group in groups:
            job = job_of(folder, index, encoder, group, options.shards, count, "scaling")
            runs.append(run(job))
            show(runs[-1])
    result: dict[str, Any] = {
        "machine": machine(),
        "sample": options.sample,
        "size": options.size,
        "esm2": options.esm2,
        "runs": [summary(run) for run in runs],
    }
    if len(devices) > 1:
        result["scaling"] = {
            encoder: scaling([run for run in runs if run.encoder == encoder]) for encoder in shards
        }
        result["scaling"]["both"] = both(runs, len(devices))
        print(json.dumps(result["scaling"], indent=2), flush=True)
    if options.kill_after:
        count = options.kill_shards
        whole = run(job_of(folder, index, "esm2", devices[:1], options.shards, count, "whole"))
        job = job_of(folder, index, "esm2", devices, options.shards, count, "killed")
        hurt = run(job, options.kill_after)
        show(whole)
        show(hurt)
        result["killed"] = {
            "whole": summary(whole),
            "killed": summary(hurt),
            "same_bits": whole.checksums == hurt.checksums,
        }
        print(f"a worker killed: same bits {whole.checksums == hurt.checksums}", flush=True)
    return result


def scaling(runs: list[Run]) -> dict[str, Any]:
    """Of one encoder, all devices over one."""
    one, all_ = runs
    return {
        "without_start": all_.tokens_per_s / one.tokens_per_s,
        "with_start": all_.tokens_per_s_with_start / one.tokens_per_s_with_start,
        "least_busy_share": min(all_.busy_share.values(), default=0.0),
        "same_bits": one.checksums == all_.checksums,
    }


def both(runs: list[Run], devices: int) -> dict[str, float]:
    """Both encoders one after the other, all devices over one."""
    one = [run for run in runs if len(run.devices) == 1]
    all_ = [run for run in runs if len(run.devices) == devices]

    def computing(run: Run) -> float:
        return run.seconds - run.seconds_before_first_block

    return {
        "without_start": sum(map(computing, one)) / sum(map(computing, all_)),
        "with_start": sum(run.seconds for run in one) / sum(run.seconds for run in all_),
    }


def job_of(
    folder: Path,
    index: Index,
    encoder: EncoderName,
    devices: tuple[str, ...],
    n_shards: int,
    shards: int,
    name: str,
) -> Job:
    """The runner's job for the first `shards` shards on `devices`."""
    of_dna, manifest = encoder == "dnabert-s", index.manifest
    return Job(
        encoding=Encoding(encoder=encoder, weights=str(folder / encoder), devices=devices),
        sequences=str(index.folder / ("nucleotides.arrow" if of_dna else "proteins.arrow")),
        sequences_sha256=manifest.nucleotides_sha256 if of_dna else manifest.proteins_sha256,
        index_digest=manifest.index_digest,
        output=str(folder / f"{name}-{encoder}-{len(devices)}"),
        n_shards=n_shards,
        shards=tuple(range(shards)),
    )


def run(job: Job, kill_after: int = 0) -> Run:
    """Run `job`; kill a worker when `kill_after` blocks are done."""
    began = time.monotonic()
    found = Run(job.encoding.encoder, job.encoding.devices, 0)
    blocks: list[BlockDone] = []
    last = 0.0
    for event in client.stream(job):
        now = time.monotonic() - began
        match event:
            case Started():
                found.sequences = event.sequences
            case BlockDone():
                if not blocks:
                    found.seconds_before_first_block = now - event.seconds
                blocks.append(event)
                last = now
                if len(blocks) == kill_after:
                    victim = max(workers())
                    os.kill(victim, signal.SIGKILL)
                    print(f"killed a worker after {kill_after} blocks", flush=True)
            case ShardDone():
                found.seconds = now
                found.checksums[event.shard] = event.metadata["checksum"]
                found.packing_efficiency = event.metadata["packing_efficiency"]
            case Failed():
                raise SystemExit(event.message)
            case Warned():
                found.warnings.append(event.message)
            case Progress():
                pass
    found.tokens = sum(block.tokens for block in blocks)
    found.seconds_after_last_block = found.seconds - last
    by_device: defaultdict[str, list[BlockDone]] = defaultdict(list)
    for block in blocks:
        by_device[block.device].append(block)
    for device, its in sorted(by_device.items()):
        busy, starved = (sum(getattr(b, f"{n}_seconds") for b in its) for n in ("busy", "starved"))
        found.blocks[device] = len(its)
        if busy:
            found.busy_seconds[device], found.starved_seconds[device] = busy, starved
            found.busy_share[device] = busy / (busy + starved)
            found.engine_tokens_per_s[device] = sum(block.tokens for block in its) / busy
    return found


def workers() -> Iterator[int]:
    """Process ids of the runner's workers, which this process is an ancestor of."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command and _descends(folder.name):
            yield int(folder.name)


def _descends(process: str) -> bool:
    while process not in ("0", "1"):
        if int(process) == os.getpid():
            return True
        text = Path("/proc", process, "stat").read_text()
        process = text.rpartition(")")[2].split()[1]
    return False


def summary(run: Run) -> dict[str, Any]:
    """JSON-ready."""
    return asdict(run) | {
        "tokens_per_s": run.tokens_per_s,
        "tokens_per_s_with_start": run.tokens_per_s_with_start,
    }


def show(run: Run) -> None:
    """A few lines."""
    print(
        f"{run.encoder} on {','.join(run.devices)}: {run.sequences} sequences, "
        f"{run.tokens} tokens, {run.seconds:.1f} s "
        f"({run.seconds_before_first_block:.1f} s before the first block, "
        f"{run.seconds_after_last_block:.1f} s after the last), "
        f"{run.tokens_per_s:,.0f} tokens/s, with the start {run.tokens_per_s_with_start:,.0f}"
    )
    for device, blocks in run.blocks.items():
        print(f"   {device}: {blocks} blocks")
        if device in run.busy_seconds:
            print(
                f"      busy {run.busy_seconds[device]:.2f} s, starved "
                f"{run.starved_seconds[device]:.2f} s, busy share {run.busy_share[device]:.4f}, "
                f"{run.engine_tokens_per_s[device]:,.0f} tokens/s while busy"
            )
    for text in run.warnings:
        print(f"   warning: {text.strip().splitlines()[-1]}")
    print(end="", flush=True)


def simulated(folder: Path, sample: str, size: int) -> Index:
    """An index of random reads or contigs."""
    began = time.monotonic()
    fasta = folder.with_suffix(".fa")
    simulate = {"reads": simulate_reads, "contigs": simulate_contigs}[sample]
    simulate(fasta, size)
    manifest = build_index(fasta, folder, CHUNK_LENGTH, tool_version="benchmark")
    print(
        f"{sample} of size {size} written and indexed in {time.monotonic() - began:.1f} s: "
        f"{manifest.unique_nucleotides} sequences",
        flush=True,
    )
    return Index(folder, manifest)


def simulate_reads(path: Path, reads: int) -> None:
    """Random reads."""
    generator = np.random.default_rng(0)
    with path.open("w") as handle:
        for start in range(0, reads, 100_000):
            count = min(100_000, reads - start)
            letters = generator.choice(BASES, (count, READ_LENGTH))
            for number, row in enumerate(letters, start):
                handle.write(f">read_{number}\n{row.tobytes().decode()}\n")


def simulate_contigs(path: Path, chunks: int) -> None:
    """Contigs of random codons without a stop: `chunks` chunks, each with a frame that is open."""
    generator = np.random.default_rng(0)
    with path.open("wb") as handle:
        for number in range(-(-chunks * CHUNK_LENGTH // CONTIG_LENGTH)):
            codons = generator.choice(OPEN_CODONS, -(-CONTIG_LENGTH // 3))
            handle.write(b">contig_%d\n%s\n" % (number, codons.tobytes()[:CONTIG_LENGTH]))


def machine() -> dict[str, object]:
    """The devices and versions."""
    return {
        "devices": list(gpu_names().values()) or [f"{platform.machine()} CPU"],
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
