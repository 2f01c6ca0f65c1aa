"""The platform itself: a FASTA file of reads to predictions by `dagster asset materialize`.

Makes an instance, random weights of the published shapes and a random head; registers one sample of
simulated reads and materialises its assets with Dagster's own command line; then `virnuc predict`
on the same file, which must call every record the same. Prints what the commands print and writes
JSON.

    python benchmarks/whole_path.py --output benchmarks/results/whole-path.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from random_models import write_dnabert_s, write_esm2
from scaling import machine, simulate

from virnuc_assets.classifier.head_files import HeadCard, save_head
from virnuc_assets.encoders.catalog import DNABERT_S_SHAPE, ESM2_SHAPES

ROOT = Path(__file__).parents[1]
DAGSTER = ("-m", "dagster", "asset", "materialize", "-m", "virnuc_assets.definitions")
VIRNUC = ("-c", "from virnuc_assets.cli.main import main; main()")


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esm2", default="esm2_t36_3B_UR50D", choices=list(ESM2_SHAPES))
    parser.add_argument("--reads", type=int, default=100_000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    options.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of each command, and whether both ways agree."""
    print(machine(), flush=True)
    write_esm2(folder / "esm2", options.esm2)
    write_dnabert_s(folder / "dnabert_s")
    write_head(folder / "head", ESM2_SHAPES[options.esm2].dim)
    simulate(folder / "reads.fa", options.reads)
    home = folder / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    settings = {
        "DAGSTER_HOME": str(home),
        "VIRNUC_STORE": str(folder / "store"),
        "VIRNUC_ESM2": str(folder / "esm2"),
        "VIRNUC_DNABERT_S": str(folder / "dnabert_s"),
        "VIRNUC_HEAD": str(folder / "head"),
    }
    reads = str(folder / "reads.fa")
    commands: dict[str, tuple[str, ...]] = {
        "samples add": (*VIRNUC, "samples", "add", reads),
        "index": (*DAGSTER, "--select", "sequence_index", "--partition", "reads"),
        "embeddings": (
            *(*DAGSTER, "--select", "dnabert_s_embeddings,esm2_embeddings"),
            *("--partition-range", "reads|0...reads|7"),
        ),
        "predictions and report": (
            *(*DAGSTER, "--select", "predictions,sample_report"),
            *("--partition", "reads"),
        ),
        "virnuc predict": (*VIRNUC, "predict", reads, "-o", str(folder / "plain")),
    }
    seconds = {name: run(command, settings, home) for name, command in commands.items()}
    tables = [
        pl.read_parquet(folder / store / "predictions" / "reads" / "records.parquet")
        for store in ("store", "plain")
    ]
    same = tables[0].equals(tables[1])
    print(tables[0].head(), f"the same records both ways: {same}", seconds, sep="\n", flush=True)
    return {
        "machine": machine(),
        "reads": options.reads,
        "esm2": options.esm2,
        "seconds": seconds,
        "records": len(tables[0]),
        "statuses": dict(tables[0]["status"].value_counts().iter_rows()),
        "same_records_both_ways": same,
    }


def write_head(folder: Path, protein_dim: int) -> None:
    """A head with random weights that takes these encoders' embeddings."""
    card = HeadCard("random", "random weights", DNABERT_S_SHAPE.dim, protein_dim, 512)
    generator = np.random.default_rng(3)
    weights = {
        name: generator.normal(scale=shape[-1] ** -0.5, size=shape).astype(np.float32)
        for name, shape in card.shapes().items()
    }
    for name in ("bn1.weight", "bn1.running_var"):
        weights[name] = np.ones_like(weights[name])
    save_head(folder, card, weights)


def run(command: tuple[str, ...], settings: dict[str, str], folder: Path) -> float:
    """Run one command of Python's in `folder`; stops everything if it fails."""
    print("$ python", *command, flush=True)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    began = time.monotonic()
    subprocess.run(
        [sys.executable, *command],
        env=os.environ | settings | {"PYTHONPATH": path},
        cwd=folder,
        check=True,
        stderr=subprocess.STDOUT,
    )
    return time.monotonic() - began


if __name__ == "__main__":
    main()
