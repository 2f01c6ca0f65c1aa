"""The whole runner on one kind of device: sequence table on disk → shard files, random weights.

Writes random weights of a public model's shape in the real format, embeds random sequences through
`python -m virnuc_assets.runner` (real processes, real files), runs it again to show that nothing is
re-done, and a third time with other blocks to show that no bit changes. Prints a table and writes
JSON. Needs torch, transformers, numpy, h5py and pyarrow.

    python benchmarks/runner.py --shape esm2_t36_3B_UR50D --length 50 --sequences 60000 \
        --output benchmarks/results/runner.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from virnuc_assets.encoders.catalog import ESM2_SHAPES
from virnuc_assets.runner import client
from virnuc_assets.runner.events import BlockDone, Event, Failed, ShardDone, Started, Warned
from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.embeddings import ShardedEmbeddings
from virnuc_assets.store.sequence_table import write_sequence_table

RESIDUES = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="esm2_t36_3B_UR50D", choices=list(ESM2_SHAPES))
    parser.add_argument("--sequences", type=int, default=60_000)
    parser.add_argument("--length", default="50", help="residues, or LOW-HIGH for a mix")
    parser.add_argument("--devices", default="", help="as VIRNUC_GPUS; default: all GPUs, else cpu")
    parser.add_argument("--token-budget", type=int)
    parser.add_argument("--block-sequences", type=int, default=10_000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:28} {value}")


def measure(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """All three runs; the figures by name."""
    write_model(folder / "model", options.shape)
    table = folder / "proteins.arrow"
    write_sequence_table(
        table, [pa.array(random_proteins(options.sequences, options.length), pa.large_string())]
    )
    job = Job(
        encoding=Encoding(
            encoder="esm2",
            weights=str(folder / "model"),
            token_budget=options.token_budget,
            devices=tuple(filter(None, options.devices.split(","))),
        ),
        sequences=str(table),
        sequences_sha256=sha256_file(table),
        index_digest="benchmark",
        output=str(folder / "first"),
        n_shards=4,
        shards=(0, 1, 2, 3),
        block_sequences=options.block_sequences,
    )
    wall, compute, events = run(job)
    again_wall, _, again = run(job)
    other = replace(
        job, output=str(folder / "other"), block_sequences=options.block_sequences // 3 + 1
    )
    run(other)
    shards = [event.metadata for event in events if isinstance(event, ShardDone)]
    blocks = [event for event in events if isinstance(event, BlockDone)]
    tokens = sum(block.tokens for block in blocks)
    return {
        "machine": machine(),
        "shape": options.shape,
        "sequences": options.sequences,
        "length": options.length,
        "dtype": shards[0]["dtype"],
        "attention": shards[0]["attention"],
        "token_budget": shards[0]["token_budget"],
        "devices": next(event for event in events if isinstance(event, Started)).devices,
        "tokens": tokens,
        "packing_efficiency": tokens / sum(s["tokens"] / s["packing_efficiency"] for s in shards),
        "redone_in_float32": sum(s["redone_in_float32"] for s in shards),
        "wall_s": wall,
        "wall_without_start_s": compute,
        "tokens_per_s": tokens / wall,
        "tokens_per_s_without_start": tokens / compute,
        "blocks": len(blocks),
        "second_run_blocks_redone": sum(isinstance(event, BlockDone) for event in again),
        "second_run_wall_s": again_wall,
        "other_blocks_same_bits": digest(job, options) == digest(other, options),
    }


def run(job: Job) -> tuple[float, float, list[Event]]:
    """Seconds in all, seconds from the first hand-out on (the start and loading left out)."""
    began = time.monotonic()
    first_block: float | None = None
    events = []
    for event in client.stream(job):
        if isinstance(event, BlockDone) and first_block is None:
            first_block = time.monotonic() - event.seconds
        if isinstance(event, Failed | Warned):
            print(asdict(event))
        events.append(event)
    ended = time.monotonic()
    return ended - began, ended - (first_block or began), events


def digest(job: Job, options: argparse.Namespace) -> str:
    """SHA-256 of all embeddings in row order."""
    stored = ShardedEmbeddings(Path(job.output), job.n_shards, options.sequences, job.index_digest)
    sha = hashlib.sha256()
    for start in range(0, options.sequences, 4096):
        rows = np.arange(start, min(start + 4096, options.sequences))
        sha.update(stored.take(rows).tobytes())
    return sha.hexdigest()


def random_proteins(n: int, length: str) -> list[str]:
    """Random residues, longest first, as an index holds them."""
    generator = np.random.default_rng(0)
    low, _, high = length.partition("-")
    lengths = np.sort(generator.integers(int(low), int(high or low) + 1, n))[::-1]
    letters = generator.choice(RESIDUES, int(lengths.sum())).tobytes().decode()
    ends = np.cumsum(lengths)
    return [letters[end - size : end] for end, size in zip(ends, lengths, strict=True)]


def write_model(folder: Path, name: str) -> None:
    """Random weights of a public ESM-2's shape, as a Hugging Face folder in float16."""
    from transformers import EsmConfig, EsmModel

    shape = ESM2_SHAPES[name]
    config = EsmConfig(
        vocab_size=33,
        hidden_size=shape.dim,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.dim,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        mask_token_id=32,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = EsmModel(config, add_pooling_layer=False)
    model.half().save_pretrained(folder)


def machine() -> str:
    """The device's name, or the processor's."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
