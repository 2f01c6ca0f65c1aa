"""Versions of what a sample's chain starts from: its file, its head, and the encoders' weights.

A version changes whenever what it stands for may have changed. It is taken from names, sizes and
times, because a checkpoint of gigabytes cannot be hashed every half minute; what is computed is
identified by digests of contents, so a version that changed for nothing costs a look and no GPU.
"""

from __future__ import annotations

from pathlib import Path

from virnuc_assets import pipeline
from virnuc_assets.classifier.head_files import CARD_FILE, WEIGHTS_FILE
from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import WeightsError
from virnuc_assets.settings import Models
from virnuc_assets.store.digests import sha256_json
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import Sample

MISSING = "missing"
"""Version of a model that is not there: what needs it then fails, and says so."""


def file_version(sample: Sample, models: Models) -> str | None:
    """Version of a sample's file and of how it is cut; None if the file is not there any more."""
    stamp = file_stamp(Path(sample.source))
    if stamp is None:
        return None
    return f"{stamp}-{pipeline.sample_models(sample, models).chunk_length}"


def head_version(layout: Layout, head: str) -> str:
    """Version of a head given by name or path."""
    try:
        folder = pipeline.head_folder(layout, head)
    except WeightsError:
        return MISSING
    return _version([folder / CARD_FILE, folder / WEIGHTS_FILE])


def weights_version(encoder: EncoderName, models: Models) -> str:
    """Version of an encoder's weights and of the precision they are used in."""
    encoding = models.encoding(encoder)
    try:
        weights = catalog.resolve_weights(encoder, encoding.weights)
        files = [weights.path] if weights.kind == "fair-esm" else catalog.value_files(weights)
    except WeightsError:
        return MISSING
    return f"{_version(files)}-{encoding.dtype}"


def file_stamp(path: Path) -> str | None:
    """Size and time of change of a file; None if it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a name that no file can have
        return None
    return f"{status.st_size}-{status.st_mtime_ns}"


def _version(files: list[Path]) -> str:
    return sha256_json({file.name: file_stamp(file) for file in files})[:16]
