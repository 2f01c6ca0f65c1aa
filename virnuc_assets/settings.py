"""A deployment's settings, in one place, each an environment variable.

Dagster's resources and the CLI start from the same `Settings`, so a sample gives the same numbers
whichever way it is run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import SettingsError
from virnuc_assets.runner.job import Encoding

DEMO_DATA = Path(str(files("virnuc_assets") / "demo" / "data"))
_MODEL_VARIABLES = ("VIRNUC_ESM2", "VIRNUC_DNABERT_S", "VIRNUC_HEAD")


@dataclass(frozen=True)
class Models:
    """Which encoders and head are used, and how the encoders run."""

    esm2: str
    """VIRNUC_ESM2: ESM-2 checkpoint file or folder, or a public name."""
    dnabert_s: str
    """VIRNUC_DNABERT_S: DNABERT-S folder, or `DNABERT-S`."""
    head: str
    """VIRNUC_HEAD: name of an imported head, or a head's folder."""
    chunk_length: int = 500
    """VIRNUC_CHUNK_LENGTH: bases in a chunk; the head must have been trained for it."""
    dtype: str = "auto"
    """VIRNUC_DTYPE: auto, float32, float16 or bfloat16."""
    attention: str = "auto"
    """VIRNUC_ATTENTION: auto, or the name of an attention backend."""
    token_budget: int | None = None
    """VIRNUC_TOKEN_BUDGET: tokens in a pack."""
    gpus: tuple[str, ...] = ()
    """VIRNUC_GPUS: physical GPU ids or UUIDs, or `cpu`; empty: every visible GPU, else the CPU."""

    def encoding(self, encoder: EncoderName) -> Encoding:
        """How to embed with one of the two encoders."""
        return Encoding(
            encoder=encoder,
            weights=self.esm2 if encoder == "esm2" else self.dnabert_s,
            dtype=self.dtype,
            attention=self.attention,
            token_budget=self.token_budget,
            devices=tuple(self.gpus),
        )


@dataclass(frozen=True)
class Settings:
    """What a deployment decides."""

    store: Path
    """VIRNUC_STORE: folder of inbox, samples, predictions and reports."""
    n_shards: int
    """VIRNUC_SHARDS: shards a sample is cut into; not the number of GPUs."""
    models: Models


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; what is not set has a default that works on any machine.

    With no model set at all, the bundled untrained demo model is used, and every output says so.

    Raises:
        SettingsError: a value is unusable, or some of the three model settings are given and
            others are not: a demo encoder under a real head would give numbers that look real.
    """
    given = [name for name in _MODEL_VARIABLES if environ.get(name)]
    if given and len(given) < len(_MODEL_VARIABLES):
        missing = ", ".join(name for name in _MODEL_VARIABLES if name not in given)
        raise SettingsError(
            f"{', '.join(given)} set, but not {missing}; set all three, or none for the demo model"
        )
    home = environ.get("DAGSTER_HOME") or "."
    return Settings(
        store=Path(environ.get("VIRNUC_STORE") or Path(home) / "data").absolute(),
        n_shards=_count(environ, "VIRNUC_SHARDS") or 8,
        models=Models(
            esm2=environ.get("VIRNUC_ESM2") or str(DEMO_DATA / "models" / "esm2"),
            dnabert_s=environ.get("VIRNUC_DNABERT_S") or str(DEMO_DATA / "models" / "dnabert_s"),
            head=environ.get("VIRNUC_HEAD") or str(DEMO_DATA / "heads" / "demo"),
            chunk_length=_count(environ, "VIRNUC_CHUNK_LENGTH") or 500,
            dtype=environ.get("VIRNUC_DTYPE") or "auto",
            attention=environ.get("VIRNUC_ATTENTION") or "auto",
            token_budget=_count(environ, "VIRNUC_TOKEN_BUDGET"),
            gpus=device_list(environ.get("VIRNUC_GPUS", "")),
        ),
    )


def device_list(text: str) -> tuple[str, ...]:
    """Devices from a comma-separated list; none named means all GPUs, else the CPU."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _count(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"{name}={text}: is not a whole number above zero; correct or unset it")
    return int(text)
