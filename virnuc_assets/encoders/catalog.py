"""Which weights a setting means, and what identifies them. Imports no torch.

A weights setting is a fair-esm checkpoint (`.pt`), a model folder in Hugging Face layout, or a
public name, which is looked for where the usual tools keep their downloads.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from virnuc_assets.errors import WeightsError
from virnuc_assets.store.digests import sha256_file, sha256_json

log = logging.getLogger(__name__)

EncoderName = Literal["esm2", "dnabert-s"]
LongSequences = Literal["truncate", "window"]


@dataclass(frozen=True)
class Shape:
    """Size of a transformer: number of layers, width of a token vector, attention heads."""

    layers: int
    dim: int
    heads: int


ESM2_SHAPES: dict[str, Shape] = {
    "esm2_t6_8M_UR50D": Shape(6, 320, 20),
    "esm2_t12_35M_UR50D": Shape(12, 480, 20),
    "esm2_t30_150M_UR50D": Shape(30, 640, 20),
    "esm2_t33_650M_UR50D": Shape(33, 1280, 20),
    "esm2_t36_3B_UR50D": Shape(36, 2560, 40),
    "esm2_t48_15B_UR50D": Shape(48, 5120, 40),
}
"""The public ESM-2 checkpoints (Lin et al. 2023, Science 379:1123), smallest first."""

DNABERT_S = "DNABERT-S"
DNABERT_S_SHAPE = Shape(12, 768, 12)
"""DNABERT-S (Zhou et al. 2024, arXiv:2402.08777)."""

MAX_TOKENS: dict[EncoderName, int] = {"esm2": 1024, "dnabert-s": 512}
"""Longest sequence of each encoder in tokens, its two special tokens included."""

_HUB_REPOSITORIES = {name: f"facebook/{name}" for name in ESM2_SHAPES} | {
    DNABERT_S: "zhihan1996/DNABERT-S"
}
_FAIR_ESM_URL = "https://dl.fbaipublicfiles.com/fair-esm/models/{name}.pt"
_HUB_FILES = ("config.json", "tokenizer.json", "*.safetensors", "*.safetensors.index.json")
_HUB_PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
VALUES_REVISION = 2
"""Raised when the same weights and sequence give another value than before."""
PREFIXES: dict[EncoderName, str] = {"dnabert-s": "dnabert_s", "esm2": "esm2"}
"""What keys of provenance that are of an encoder begin with."""


@dataclass(frozen=True)
class Weights:
    """Weights found on disk: a `fair-esm` file or a `folder` in Hugging Face layout."""

    encoder: EncoderName
    label: str
    path: Path
    kind: Literal["fair-esm", "folder"]


def public_names() -> list[str]:
    """Names that `resolve_weights` and `download` understand."""
    return [*ESM2_SHAPES, DNABERT_S]


def encoder_of(name: str) -> EncoderName:
    """The encoder that a public name belongs to.

    Raises:
        WeightsError: it is no public name.
    """
    if name in ESM2_SHAPES:
        return "esm2"
    if name == DNABERT_S:
        return "dnabert-s"
    raise WeightsError(
        f"{name}: is neither a file nor a known model; use one of {', '.join(public_names())}, "
        "a .pt file or a model folder"
    )


def resolve_weights(encoder: EncoderName, setting: str) -> Weights:
    """Find the weights that `setting` (a path or a public name) means for `encoder`.

    Raises:
        WeightsError: nothing is there, or it belongs to another encoder.
    """
    path = Path(setting).expanduser()
    if path.exists():
        return _at_path(encoder, path)
    if path.suffix or len(path.parts) > 1:
        raise WeightsError(
            f"{setting}: no such weights file or folder; correct the path or use a public name "
            f"({', '.join(public_names())})"
        )
    if encoder_of(setting) != encoder:
        raise WeightsError(
            f"{setting}: is a model for the encoder {encoder_of(setting)}, not {encoder}; "
            "set the weights of the other encoder to it"
        )
    for place in _places(setting):
        if place.exists():
            return _at_path(encoder, place, label=setting)
    raise WeightsError(
        f"{setting}: is not on this machine; fetch it with `virnuc models download {setting}` "
        "or set VIRNUC_MODELS to the folder that holds it"
    )


def is_available(name: str) -> bool:
    """Whether the public model `name` is on this machine, whole."""
    try:
        resolve_weights(encoder_of(name), name)
    except WeightsError:
        return False
    return True


def download(name: str) -> Weights:
    """Fetch the public model `name` to the cache of the tool it comes from; nothing is executed.

    ESM-2 comes from where fair-esm's own loader fetches it, to where that loader looks for it,
    or else from the Hugging Face Hub; DNABERT-S from the Hub, its code files left out.

    Raises:
        WeightsError: the name is unknown or no source could be reached.
    """
    encoder = encoder_of(name)
    failures = []
    for fetch in (_fetch_fair_esm, _fetch_hub) if encoder == "esm2" else (_fetch_hub,):
        try:
            return _at_path(encoder, fetch(name), label=name)
        except (OSError, ValueError, ImportError) as error:
            log.warning("%s: %s failed: %s", name, fetch.__name__.removeprefix("_fetch_"), error)
            failures.append(f"{type(error).__name__}: {error}".splitlines()[0])
    raise WeightsError(
        f"{name}: could not be downloaded ({'; '.join(failures)}); check the network, or copy the "
        "model from another machine to the folder that VIRNUC_MODELS names"
    )


def weights_digest(weights: Weights) -> str:
    """SHA-256 that identifies the weights.

    Of a single file what `sha256sum` prints; of a folder the digest of its files' digests.
    """
    if weights.kind == "fair-esm":
        return sha256_file(weights.path)
    return sha256_json({path.name: sha256_file(path) for path in value_files(weights)})


def encoder_digest(encoder: EncoderName, weights_sha256: str, long_sequences: LongSequences) -> str:
    """SHA-256 of all that determines an embedding's value.

    Data type, device, attention backend and token budget are left out: they change rounding,
    not meaning.
    """
    return sha256_json(
        {
            "encoder": encoder,
            "weights": weights_sha256,
            "pooling": "mean over residues" if encoder == "esm2" else "mean over tokens",
            "layer": "last",
            "max_tokens": MAX_TOKENS[encoder],
            "long_sequences": long_sequences,
            "revision": VALUES_REVISION,
        }
    )


def value_files(weights: Weights) -> list[Path]:
    """The files of a model folder that its embeddings depend on: config, weights, tokeniser."""
    files = [weights.path / "config.json", *weight_files(weights.path)]
    if weights.encoder == "dnabert-s":
        files.append(weights.path / "tokenizer.json")
    return files


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a model folder, safetensors before pickles, an index before its shards.

    Raises:
        WeightsError: there are none, or an index names a shard that is missing.
    """
    for name in _WEIGHT_FILES:
        if not (folder / name).exists():
            continue
        if not name.endswith(".index.json"):
            return [folder / name]
        shards = sorted(set(_read_json(folder / name).get("weight_map", {}).values()))
        for shard in shards:
            if Path(shard).name != shard or not (folder / shard).exists():
                raise WeightsError(
                    f"{folder / name}: names the shard {shard}, which is not in the folder; "
                    "copy the model again, whole"
                )
        return [folder / name, *(folder / shard for shard in shards)]
    raise WeightsError(
        f"{folder}: holds no weights ({' or '.join(_WEIGHT_FILES[::2])}); copy the model again, "
        "whole"
    )


def embedding_dim(weights: Weights) -> int | None:
    """Dimensions of an embedding, where that is known without reading the weights."""
    if weights.kind == "folder":
        return int(read_config(weights.path)["hidden_size"])
    shape = ESM2_SHAPES.get(weights.label)
    return shape.dim if shape else None


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's `config.json`.

    Raises:
        WeightsError: it is missing or not a JSON object.
    """
    return _read_json(folder / "config.json")


def _at_path(encoder: EncoderName, path: Path, label: str | None = None) -> Weights:
    if path.is_file():
        if encoder != "esm2" or path.suffix != ".pt":
            raise WeightsError(
                f"{path}: is no weights file for the encoder {encoder}; use "
                + (
                    "a fair-esm .pt file or a model folder"
                    if encoder == "esm2"
                    else "a model folder"
                )
            )
        return Weights(encoder, label or path.stem, path, "fair-esm")
    found = "esm2" if read_config(path).get("model_type") == "esm" else "dnabert-s"
    if found != encoder:
        raise WeightsError(
            f"{path}: its config.json describes a model for the encoder {found}, not {encoder}; "
            f"use a folder with {encoder} weights"
        )
    weights = Weights(encoder, label or _label(path), path, "folder")
    for file in value_files(weights):
        if not file.exists():
            raise WeightsError(f"{file}: no such file; copy the model again, whole")
    return weights


def _label(folder: Path) -> str:
    card = folder / "virnuc.json"
    return _read_json(card)["label"] if card.exists() else folder.resolve().name


def _places(name: str) -> Iterator[Path]:
    """Where the public model `name` may lie, most explicit first."""
    if models := os.environ.get("VIRNUC_MODELS"):
        yield Path(models).expanduser() / f"{name}.pt"
        yield Path(models).expanduser() / name
    yield _torch_hub_checkpoints() / f"{name}.pt"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        log.debug("huggingface_hub is not installed: its cache is not searched for %s", name)
        return
    try:
        yield Path(snapshot_download(_HUB_REPOSITORIES[name], local_files_only=True))
    except LocalEntryNotFoundError:
        return


def _torch_hub_checkpoints() -> Path:
    """torch.hub's download folder, by its documented rule."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(os.environ.get("TORCH_HOME", cache)).expanduser() / "hub" / "checkpoints"


def _fetch_fair_esm(name: str) -> Path:
    from torch.hub import download_url_to_file

    path = _torch_hub_checkpoints() / f"{name}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    download_url_to_file(_FAIR_ESM_URL.format(name=name), str(path), progress=False)
    return path


def _fetch_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository = _HUB_REPOSITORIES[name]
    folder = Path(snapshot_download(repository, allow_patterns=list(_HUB_FILES)))
    if not any(folder.glob("*.safetensors")):
        snapshot_download(repository, allow_patterns=[*_HUB_FILES, *_HUB_PICKLES])
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path}: no such file; name a folder that holds a whole model"
        ) from error
    except ValueError as error:
        raise WeightsError(f"{path}: is not valid JSON; copy the model again") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: is not a JSON object; copy the model again")
    return value
