"""What this machine has, what of it will be used, and what to fix."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from virnuc_assets import pipeline
from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import VirnucError
from virnuc_assets.runner.devices import gpu_names
from virnuc_assets.settings import Settings
from virnuc_assets.store.layout import Layout

_LOW_DISK_BYTES = 20 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    status: Literal["ok", "note", "problem"]
    detail: str
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything a run needs; nothing is changed."""
    return [
        _machine(),
        *_gpus(),
        _flash_attention(),
        _encoder("esm2", settings.models.esm2),
        _encoder("dnabert-s", settings.models.dnabert_s),
        _head(settings),
        *_store(settings),
        _dagster(),
    ]


def _machine() -> Finding:
    detail = f"Python {platform.python_version()}, torch {version('torch')}, {os.cpu_count()} CPUs"
    return Finding("machine", "ok", detail)


def _gpus() -> list[Finding]:
    import torch

    names = gpu_names()
    if not names:
        return [Finding("GPU", "note", "none: runs on the CPU, far slower for the large models")]
    if not torch.cuda.is_available():
        return [
            Finding(
                "GPU",
                "problem",
                f"{len(names)} found, but torch {version('torch')} cannot use them",
                "install a CUDA build of torch that fits the driver",
            )
        ]
    return [Finding(f"GPU {index}", "ok", name) for index, name in names.items()]


def _flash_attention() -> Finding:
    if importlib.util.find_spec("flash_attn") is not None:
        return Finding("flash-attn", "ok", version("flash_attn"))
    if not gpu_names():
        return Finding("flash-attn", "note", "not installed; not needed without a GPU")
    return Finding(
        "flash-attn",
        "note",
        "not installed: torch's own kernels are used, slower for DNABERT-S",
        "pip install 'virnuc_assets[gpu]'",
    )


def _encoder(encoder: EncoderName, setting: str) -> Finding:
    try:
        weights = catalog.resolve_weights(encoder, setting)
    except VirnucError as error:
        return Finding(encoder, "problem", str(error))
    if weights.label == pipeline.UNTRAINED:
        fix = "set VIRNUC_ESM2, VIRNUC_DNABERT_S and VIRNUC_HEAD to real weights"
        return Finding(encoder, "note", f"{weights.label}: scores mean nothing", fix)
    return Finding(encoder, "ok", f"{weights.label} ({weights.path})")


def _head(settings: Settings) -> Finding:
    from virnuc_assets.classifier.head_files import read_card

    try:
        card = read_card(pipeline.head_folder(Layout(settings.store), settings.models.head))
    except VirnucError as error:
        return Finding("head", "problem", str(error))
    if card.chunk_length not in (None, settings.models.chunk_length):
        return Finding(
            "head",
            "problem",
            f"{card.name}: trained on chunks of {card.chunk_length}, VIRNUC_CHUNK_LENGTH is "
            f"{settings.models.chunk_length}",
            f"set VIRNUC_CHUNK_LENGTH to {card.chunk_length}",
        )
    return Finding("head", "note" if card.label == pipeline.UNTRAINED else "ok", card.label)


def _store(settings: Settings) -> list[Finding]:
    there = _nearest(settings.store)
    if not os.access(there, os.W_OK):
        fix = "change its permissions or set VIRNUC_STORE"
        return [Finding("store", "problem", f"{settings.store} cannot be written", fix)]
    free = shutil.disk_usage(there).free
    size = f"{free / 2**30:.0f} GiB free"
    if free < _LOW_DISK_BYTES:
        fix = "a million frames of the large models take 13 GB: free some space"
        return [Finding("store", "note", f"{settings.store}: {size}", fix)]
    return [Finding("store", "ok", f"{settings.store}: {size}")]


def _dagster() -> Finding:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        fix = "export DAGSTER_HOME=<folder of dagster.yaml>; predict, index and embed do without"
        return Finding("Dagster", "note", "DAGSTER_HOME is not set", fix)
    if not (Path(home) / "dagster.yaml").exists():
        fix = "set DAGSTER_HOME to the folder of this project's dagster.yaml"
        return Finding("Dagster", "problem", f"{home} holds no dagster.yaml", fix)
    import dagster as dg

    try:
        with dg.DagsterInstance.get() as instance:
            samples = instance.get_dynamic_partitions("sample")
    except Exception as error:  # noqa: BLE001  any failure to open the instance is the finding
        return Finding("Dagster", "problem", f"the instance cannot be opened: {error}")
    return Finding("Dagster", "ok", f"instance of {home}, {len(samples)} samples")


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
