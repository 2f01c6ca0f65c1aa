"""What this machine has, what of it will be used, and what to fix."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from virnuc_assets import __version__, pipeline
from virnuc_assets.classifier.head_files import read_card
from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import VirnucError
from virnuc_assets.instance import open_instance
from virnuc_assets.mini.bundled import note_on
from virnuc_assets.runner.devices import CPU, default_devices, default_dtype, gpu_names
from virnuc_assets.settings import ENCODERS, Settings, check_models_go_together
from virnuc_assets.store.layout import Layout

_LOW_DISK_BYTES = 20 * 2**30
# Of DNABERT-S and of ESM-2 3B.
_HEAD_DIM = 64


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
        *_mixed_models(),
        *(_encoder(encoder, settings) for encoder in ENCODERS),
        *(_attention(encoder, settings) for encoder in ENCODERS),
        _head(settings),
        _store(settings),
        _dagster(),
    ]


def _mixed_models() -> list[Finding]:
    try:
        check_models_go_together()
    except VirnucError as error:
        return [Finding("models", "problem", str(error))]
    return []


def _machine() -> Finding:
    versions = f"virnuc_assets {__version__}, Python {platform.python_version()}"
    detail = f"{versions}, torch {version('torch')}, {os.cpu_count()} CPUs"
    return Finding("machine", "ok", detail)


def _gpus() -> list[Finding]:
    names = gpu_names()
    if not names:
        return [Finding("GPU", "note", "none: runs on the CPU, far slower for the large models")]
    import torch

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


def _encoder(encoder: EncoderName, settings: Settings) -> Finding:
    try:
        weights = catalog.resolve_weights(encoder, settings.models.encoding(encoder).weights)
    except VirnucError as error:
        return Finding(encoder, "problem", str(error))
    if note := note_on(weights.label):
        fix = "for VirNucPro's, set VIRNUC_ESM2, VIRNUC_DNABERT_S and VIRNUC_HEAD"
        return Finding(encoder, "note", f"{weights.label}: {note}", fix)
    return Finding(encoder, "ok", f"{weights.label} ({weights.path})")


def _attention(encoder: EncoderName, settings: Settings) -> Finding:
    import torch

    from virnuc_assets.encoders.attention import choose_backend

    subject = f"attention, {encoder}"
    devices = settings.models.gpus or default_devices()
    dtype = settings.models.dtype
    if dtype == "auto":
        dtype = default_dtype(devices)
    device = "cpu" if CPU in devices or not torch.cuda.is_available() else "cuda"
    try:
        chosen = choose_backend(
            settings.models.attention,
            torch.device(device),
            getattr(torch, dtype),
            needs_alibi=encoder == "dnabert-s",
            head_dim=_HEAD_DIM,
        )
    except VirnucError as error:
        return Finding(subject, "problem", str(error))
    detail = f"{chosen.name}, {dtype} on {', '.join(devices)} ({chosen.reason})"
    if device == "cuda" and importlib.util.find_spec("flash_attn") is None:
        return Finding(subject, "note", detail, "for speed: pip install 'virnuc_assets[gpu]'")
    return Finding(subject, "ok", detail)


def _head(settings: Settings) -> Finding:
    try:
        card = read_card(pipeline.head_folder(Layout(settings.store), settings.models.head))
        pipeline.check_chunk_length(card, settings.models.chunk_length)
    except VirnucError as error:
        return Finding("head", "problem", str(error))
    return Finding("head", "note" if note_on(card.label) else "ok", card.label)


def _store(settings: Settings) -> Finding:
    there = next(path for path in (settings.store, *settings.store.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        fix = "change its permissions or set VIRNUC_STORE"
        return Finding("store", "problem", f"{settings.store} cannot be written", fix)
    free = shutil.disk_usage(there).free
    detail = f"{settings.store}: {free / 2**30:.0f} GiB free"
    if free < _LOW_DISK_BYTES:
        fix = "a million frames of the large models take 13 GB: free some space"
        return Finding("store", "note", detail, fix)
    return Finding("store", "ok", detail)


def _dagster() -> Finding:
    if not os.environ.get("DAGSTER_HOME"):
        fix = "for the platform, set it to the folder of dagster.yaml; index, embed and predict "
        return Finding("Dagster", "note", "DAGSTER_HOME is not set", fix + "do without")
    try:
        with open_instance() as instance:
            samples = instance.get_dynamic_partitions("sample")
    except VirnucError as error:
        return Finding("Dagster", "problem", str(error))
    return Finding("Dagster", "ok", f"{os.environ['DAGSTER_HOME']}, {len(samples)} samples")
