"""ESM-2 on the CPU: packed layers against fair-esm's own loop, on reads, random weights.

Runs alternate, so that what else the machine does falls on both; medians are compared, of seconds
by the wall clock and of seconds the processor worked, which other processes disturb less. Rates
are real tokens (BOS and EOS included). Prints a table and writes JSON. Needs fair-esm.

    python benchmarks/esm2_cpu.py --output benchmarks/results/esm2-cpu.json
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gpu_timing import packs_of, padded_batches, print_table, write_json

from virnuc_assets.encoders import alphabet
from virnuc_assets.encoders.attention import SDPA
from virnuc_assets.encoders.catalog import ESM2_SHAPES
from virnuc_assets.encoders.esm2 import ESM2, ESM2Config
from virnuc_assets.encoders.packed_model import load_model
from virnuc_assets.encoders.packing import Frame

CPU = torch.device("cpu")
RESIDUES = (4, 24)
# As the original batches; and the packs that an encoder on the CPU takes.
ORIGINAL_BUDGET, TOKEN_BUDGET = 2048, 4096


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="esm2_t12_35M_UR50D", choices=list(ESM2_SHAPES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    shape = ESM2_SHAPES[options.shape]
    config = ESM2Config(shape.layers, shape.dim, shape.heads, 4 * shape.dim)
    # Frames of reads of 150 bases: 49 or 50 residues, and those that the read's end cut short.
    slots = np.random.default_rng(0).permutation(np.repeat([52, 51, 40], [50, 80, 28]))

    runs = {
        "fair-esm, float32": original(config, slots),
        "ours, float32": packed(config, slots, torch.float32),
        "ours, bfloat16": packed(config, slots, torch.bfloat16),
    }
    wall: dict[str, list[float]] = {name: [] for name in runs}
    processor_time: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for run in runs.values():
            run()
        for _ in range(options.runs):
            for name, run in runs.items():
                began = time.perf_counter(), time.process_time()
                run()
                wall[name].append(time.perf_counter() - began[0])
                processor_time[name].append(time.process_time() - began[1])
    of_wall, of_processor = faster(wall), faster(processor_time)
    rows = {
        name: {
            "tokens/s": int(slots.sum()) / statistics.median(wall[name]),
            "of fair-esm": of_wall[name],
            "by processor": of_processor[name],
        }
        for name in runs
    }
    print_table(["tokens/s", "of fair-esm", "by processor"], rows)
    result = {
        "machine": f"{processor()}, {options.threads} threads, torch {torch.__version__}",
        "shape": options.shape,
        "sequences": len(slots),
        "seconds": wall,
        "processor_seconds": processor_time,
        "rates": rows,
    }
    write_json(options.output, result)


def faster(seconds: dict[str, list[float]]) -> dict[str, float | None]:
    """How many times as fast as fair-esm each is, by the medians."""
    base = statistics.median(seconds["fair-esm, float32"])
    return {name: base / statistics.median(taken) for name, taken in seconds.items()}


def original(config: ESM2Config, slots: np.ndarray) -> Callable[[], object]:
    """fair-esm in padded batches of similar lengths, means sequence by sequence."""
    from esm.model.esm2 import ESM2 as FairESM2

    model = FairESM2(config.layers, config.dim, config.heads).eval()
    generator = np.random.default_rng(1)
    batches = []
    for rows in padded_batches(slots, ORIGINAL_BUDGET):
        batch = torch.full((len(rows), int(slots[rows].max())), alphabet.PAD)
        for place, row in enumerate(rows):
            residues = torch.from_numpy(generator.integers(*RESIDUES, int(slots[row]) - 2))
            batch[place, 0], batch[place, slots[row] - 1] = alphabet.CLS, alphabet.EOS
            batch[place, 1 : slots[row] - 1] = residues
        batches.append((batch, slots[rows]))

    def run() -> object:
        means = []
        for batch, lengths in batches:
            found = model(batch, repr_layers=[config.layers])["representations"][config.layers]
            means += [one[1 : n - 1].mean(0) for one, n in zip(found, lengths, strict=True)]
        return means

    return run


def packed(config: ESM2Config, slots: np.ndarray, dtype: torch.dtype) -> Callable[[], object]:
    """Our layers over packs, as an encoder on the CPU runs them."""
    module = ESM2(config, SDPA).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=config.dim**-0.5)
    architecture = partial(ESM2, config)
    model = load_model(architecture, module.state_dict(), SDPA, CPU, dtype, pooling_margin=1)
    frame = Frame(alphabet.CLS, alphabet.EOS, alphabet.PAD)
    packs = packs_of(slots, TOKEN_BUDGET, RESIDUES, frame)
    return lambda: [model.means(pack) for pack in packs]


def processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
