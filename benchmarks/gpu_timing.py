"""What the GPU benchmarks share: timing, the ceiling, the machine's name, packs, the table."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from virnuc_assets.encoders.arithmetic import Config, flops_of_a_token
from virnuc_assets.encoders.ceiling import gemm_ceiling
from virnuc_assets.encoders.packing import Frame, Items, Pack, make_packs

PACKAGES = ("torch", "triton", "transformers", "flash-attn", "fair-esm", "esm-efficient")


def timed(run: Callable[[], object], seconds: float) -> float:
    """Seconds that `run` takes: the mean over `seconds` of repetitions, after one to warm up."""
    run()
    torch.cuda.synchronize()
    began, repetitions = time.perf_counter(), 0
    while repetitions < 1 or time.perf_counter() - began < seconds:
        run()
        torch.cuda.synchronize()
        repetitions += 1
    return (time.perf_counter() - began) / repetitions


def ceiling(config: Config, tokens: int, seconds: float) -> float:
    """Tokens a second if a model were nothing but its float16 products, `tokens` at once."""
    found = gemm_ceiling(config, torch.device("cuda"), torch.float16, tokens, seconds)
    assert found is not None
    return found / flops_of_a_token(config)


def packs_of(
    lengths: np.ndarray, budget: int, letters: tuple[int, int], frame: Frame
) -> list[Pack]:
    """Packs of random tokens (from `letters`, low to high) for sequences of `lengths` slots."""
    content = lengths - 2
    offsets = np.cumsum(content)
    tokens = np.random.default_rng(0).integers(*letters, int(offsets[-1])).astype(np.int32)
    rows = np.arange(len(lengths))
    items = Items(tokens, offsets - content, content, rows, 0, 0)
    return make_packs(items, frame, budget)


def padded_batches(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Numbers of sequences, longest first, in batches of at most `budget` slots with padding."""
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        size = max(1, budget // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def machine() -> dict[str, object]:
    """The device and the versions that matter."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "device": torch.cuda.get_device_name(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        **versions,
    }


def print_table(columns: Sequence[str], rows: dict[str, dict[str, float | None]]) -> None:
    """One line for each of `rows`."""
    width = max(map(len, rows)) + 2
    print(" " * width + "".join(f"{column:>16}" for column in columns))
    for name, row in rows.items():
        cells = (row.get(column) for column in columns)
        print(name.ljust(width) + "".join(f"{'-' if c is None else f'{c:.4g}':>16}" for c in cells))


def write_json(path: Path, result: object) -> None:
    """Write `result` where the benchmark was told to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
