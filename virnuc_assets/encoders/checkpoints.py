"""Tensors out of checkpoint files, without running anything that a file says."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from virnuc_assets.encoders.catalog import weight_files
from virnuc_assets.errors import WeightsError


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors of one model and the file (or folder of shards) that they came from."""

    source: Path
    tensors: Mapping[str, Tensor]

    def without_prefixes(self, *prefixes: str) -> Checkpoint:
        """The same tensors with the first of `prefixes` that a name starts with taken off it."""

        def strip(name: str) -> str:
            found = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
            return name.removeprefix(found)

        return Checkpoint(self.source, {strip(name): t for name, t in self.tensors.items()})

    def take(self, name: str, *shape: int) -> Tensor:
        """Tensor `name`.

        Raises:
            WeightsError: it is missing or not of `shape`.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise WeightsError(
                f"{self.source}: holds no tensor {name}; use a checkpoint of this architecture"
            )
        if tensor.shape != shape:
            raise WeightsError(
                f"{self.source}: {name} should have shape {shape} and has {tuple(tensor.shape)}; "
                "use weights and a config.json that belong together"
            )
        return tensor


def read_pickle(path: Path) -> dict[str, Any]:
    """A torch checkpoint that holds tensors, plain containers and `argparse.Namespace` only.

    Raises:
        WeightsError: the file is missing, no checkpoint, damaged, or would run code.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Files of the format before torch 1.6 are no zip archives and cannot be mapped.
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; correct the weights setting") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: is no checkpoint that can be read without running code from it; use a "
            "published fair-esm or Hugging Face checkpoint"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise WeightsError(
            f"{path}: is not a readable torch checkpoint ({_first_line(error)}); copy it again"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds no model weights; use a published checkpoint")
    return content


def read_folder(folder: Path) -> Checkpoint:
    """All tensors of a model folder, from one file or from shards.

    Raises:
        WeightsError: a file is missing, damaged, or would run code.
    """
    files = weight_files(folder)
    shards = [file for file in files if not file.name.endswith(".index.json")]
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= read_pickle(shard) if shard.suffix == ".bin" else _read_safetensors(shard)
    named = {_canonical(name): tensor for name, tensor in tensors.items()}
    return Checkpoint(files[0] if len(shards) == 1 else folder, named)


def _canonical(name: str) -> str:
    """`name` with a layer norm's parts called weight and bias.

    The first BERT checkpoints call them gamma and beta, and transformers 5 does again on saving.
    """
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: is not a readable safetensors file ({_first_line(error)}); copy it again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
