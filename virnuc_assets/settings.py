"""A deployment's settings, in one place, each an environment variable.

Dagster's resources and the CLI start from the same `Settings`, so a sample gives the same numbers
whichever way it is run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import SettingsError
from virnuc_assets.mini import bundled
from virnuc_assets.runner.devices import CPU, default_devices
from virnuc_assets.runner.job import Encoding, RayCluster

ENCODERS: tuple[EncoderName, ...] = ("dnabert-s", "esm2")
"""Both, in the order a head takes their embeddings."""
Dtype = Literal["auto", "float32", "float16", "bfloat16", "fp8"]
Launcher = Literal["local", "ray"]
RunPer = Literal["sample", "shard"]
_ENCODER_VARIABLES = ("VIRNUC_ESM2", "VIRNUC_DNABERT_S")
_MODEL_VARIABLES = (*_ENCODER_VARIABLES, "VIRNUC_HEAD")
_GPU = re.compile(r"\d+|(GPU|MIG)-[0-9a-fA-F/-]+")


@dataclass(frozen=True)
class Models:
    """Which encoders and head are used, and how the encoders run."""

    esm2: str
    """VIRNUC_ESM2: ESM-2 checkpoint file or folder, a public name, or `virnuc-mini-1`."""
    dnabert_s: str
    """VIRNUC_DNABERT_S: DNABERT-S folder, `DNABERT-S`, or `virnuc-mini-1`."""
    head: str
    """VIRNUC_HEAD: name of an imported head, a head's folder, or `virnuc-mini-1`."""
    chunk_length: int = 500
    """VIRNUC_CHUNK_LENGTH: bases in a chunk; the head must have been trained for it."""
    dtype: str = "auto"
    """VIRNUC_DTYPE: auto, float32, float16, bfloat16 or fp8 (ESM-2; DNABERT-S then in float16)."""
    attention: str = "auto"
    """VIRNUC_ATTENTION: auto, or the name of an attention backend."""
    token_budget: int | None = None
    """VIRNUC_TOKEN_BUDGET: tokens in a pack."""
    gpus: tuple[str, ...] = ()
    """VIRNUC_GPUS, as `device_list` reads it; empty: every visible GPU, else the CPU."""
    launcher: str = "local"
    """VIRNUC_LAUNCHER: local, or ray to embed on a cluster."""
    ray_address: str = "auto"
    """VIRNUC_RAY_ADDRESS: `host:6379`; auto: the cluster that this machine is part of."""
    ray_workers: int = 8
    """VIRNUC_RAY_WORKERS: GPUs of the cluster at most; CPUs with VIRNUC_GPUS=cpu."""
    ray_exchange: str | None = None
    """VIRNUC_RAY_EXCHANGE: URL in an object store, where the cluster's machines share no disk."""

    @property
    def ray(self) -> RayCluster | None:
        """The cluster to embed on, if it is to be one."""
        if self.launcher != "ray":
            return None
        return RayCluster(self.ray_address, self.ray_workers, self.ray_exchange)

    def encoding(self, encoder: EncoderName) -> Encoding:
        """How to embed with one of the two encoders."""
        # ESM-2 alone is slow enough for fp8 to pay, and has it.
        fp8_elsewhere = self.dtype == "fp8" and encoder != "esm2"
        return Encoding(
            encoder=encoder,
            weights=self.esm2 if encoder == "esm2" else self.dnabert_s,
            dtype="float16" if fp8_elsewhere else self.dtype,
            attention=self.attention,
            token_budget=self.token_budget,
            devices=tuple(self.gpus),
            ray=self.ray,
        )


@dataclass(frozen=True)
class Settings:
    """What a deployment decides."""

    store: Path
    """VIRNUC_STORE: folder of inbox, samples, predictions and reports."""
    n_shards: int
    """VIRNUC_SHARDS: shards a sample is cut into; not the number of GPUs."""
    models: Models
    run_per: str = "sample"
    """VIRNUC_RUN_PER: what one of Dagster's runs embeds, a `sample` or a `shard` of one."""


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; what is not set has a default that works on any machine.

    With no model set at all, the bundled one is used, and every output names it.

    Raises:
        SettingsError: a value is unusable.
    """
    home = environ.get("DAGSTER_HOME") or "."
    return Settings(
        store=Path(environ.get("VIRNUC_STORE") or Path(home) / "data").absolute(),
        n_shards=_count(environ, "VIRNUC_SHARDS") or 8,
        run_per=_one_of(environ, "VIRNUC_RUN_PER", RunPer, "unit of runs") or "sample",
        models=Models(
            esm2=_model(environ, "VIRNUC_ESM2", bundled.ESM2),
            dnabert_s=_model(environ, "VIRNUC_DNABERT_S", bundled.DNABERT_S),
            head=_model(environ, "VIRNUC_HEAD", bundled.HEAD),
            chunk_length=_count(environ, "VIRNUC_CHUNK_LENGTH") or 500,
            dtype=_one_of(environ, "VIRNUC_DTYPE", Dtype, "data type") or "auto",
            attention=environ.get("VIRNUC_ATTENTION") or "auto",
            token_budget=_count(environ, "VIRNUC_TOKEN_BUDGET"),
            gpus=device_list(environ.get("VIRNUC_GPUS", "")),
            launcher=_one_of(environ, "VIRNUC_LAUNCHER", Launcher, "launcher") or "local",
            ray_address=environ.get("VIRNUC_RAY_ADDRESS") or "auto",
            ray_workers=_count(environ, "VIRNUC_RAY_WORKERS") or 8,
            ray_exchange=environ.get("VIRNUC_RAY_EXCHANGE") or None,
        ),
    )


def check_models_go_together(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a deployment that calls samples with a model half chosen.

    Raises:
        SettingsError: some of the three model settings are given and others are not: a bundled
            encoder under another's head would give numbers that look right.
    """
    _check_all_or_none(_MODEL_VARIABLES, "all three", environ)


def check_encoders_go_together(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse to train a head on encoders of which one was chosen.

    Raises:
        SettingsError: one of the two encoders is set and the other is not.
    """
    _check_all_or_none(_ENCODER_VARIABLES, "both", environ)


def _check_all_or_none(names: Sequence[str], all_of_them: str, environ: Mapping[str, str]) -> None:
    given = [name for name in names if environ.get(name)]
    if given and len(given) < len(names):
        missing = ", ".join(name for name in names if name not in given)
        raise SettingsError(
            f"{', '.join(given)} set, but not {missing}; set {all_of_them} ({bundled.NAME} is "
            "the bundled model), or none"
        )


def device_list(text: str, setting: str = "VIRNUC_GPUS") -> tuple[str, ...]:
    """Devices named by `text`; none when it leaves the choice to the machine.

    Args:
        setting: where the text comes from, for messages.
        text: `auto` or nothing (every visible GPU, else the CPU), `cuda` (every visible GPU),
            `cpu`, or physical GPU ids or UUIDs separated by commas.

    Raises:
        SettingsError: it names something else, or `cuda` where there is no GPU.
    """
    if text.strip() in ("", "auto"):
        return ()
    if text.strip() == CPU:
        return (CPU,)
    if text.strip() == "cuda":
        found = default_devices()
        if found == (CPU,):
            raise SettingsError(f"{setting}={text}: no GPU is visible here; use auto or cpu")
        return found
    parts = [part.strip() for part in text.split(",")]
    if unknown := [part for part in parts if not _GPU.fullmatch(part)]:
        raise SettingsError(
            f"{setting}={text}: {unknown[0]!r} is no device; use auto, cpu, cuda, or physical GPU "
            "ids such as 0,2"
        )
    return tuple(dict.fromkeys(parts))


def _model(environ: Mapping[str, str], name: str, in_package: Path) -> str:
    """A model setting, as `model_path` reads it."""
    text = environ.get(name)
    if not text or text == bundled.NAME:
        return str(in_package)
    return model_path(text)


def model_path(text: str) -> str:
    """A model's path made absolute, so that it means the same everywhere; a name is left alone."""
    path = Path(text).expanduser()
    return str(path.absolute()) if path.is_file() or len(path.parts) > 1 else text


def _one_of(environ: Mapping[str, str], name: str, choice: object, what: str) -> str | None:
    text = environ.get(name)
    if text and text not in get_args(choice):
        raise SettingsError(
            f"{name}={text}: is not a {what}; use one of {', '.join(get_args(choice))}"
        )
    return text


def _count(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"{name}={text}: is not a whole number above zero; correct or unset it")
    return int(text)
