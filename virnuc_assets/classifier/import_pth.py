"""Converts a pickled head of the original tool without running what a pickle may hold.

The original saves its whole module with `torch.save(model, path)`, and such a file can name any
function to call while it is read. Here every name in it is looked up in a short list: modules
become inert records that only keep their attributes, tensors are rebuilt by torch, and any other
name ends the import.
"""

from __future__ import annotations

import pickle
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import _utils

from virnuc_assets.classifier.head_files import HeadCard, save_head
from virnuc_assets.errors import WeightsError
from virnuc_assets.store.digests import sha256_file

_BATCH_NORM_EPS = 1e-5
_LAYERS = ("hidden_layer", "bn1", "output_layer")
_ORIGINAL_CLASS = "MLPClassifier"
_MODULES = {
    "torch.nn.modules.linear.Linear",
    "torch.nn.modules.batchnorm.BatchNorm1d",
    "torch.nn.modules.dropout.Dropout",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.activation.Softmax",
}
_CALLABLES: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "__builtin__.set": set,
    "torch._utils._rebuild_tensor_v2": _utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": _utils._rebuild_parameter,
}
# What torch and pickle raise on files that are cut, foreign or forged.
_DAMAGE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
)


def import_pth(
    source: Path,
    directory: Path,
    name: str,
    *,
    dna_dim: int = 768,
    chunk_length: int | None = None,
    notes: str = "",
) -> HeadCard:
    """Convert `source` to a head in `directory`.

    `source` is a pickled `MLPClassifier`, its state dict, or a checkpoint dict with the latter
    under `model_state_dict`. `dna_dim` says how many of the inputs are DNABERT-S's; ESM-2 has the
    rest. Weights are kept as float32.

    Raises:
        WeightsError: the file is missing or damaged, names anything outside the known classes
            (nothing of it is run), or holds another model.
    """
    state = _read_state(source)
    weights = {
        key: tensor.detach().to(torch.float32).numpy()
        for key, tensor in state.items()
        if key != "bn1.num_batches_tracked"
    }
    hidden = weights.get("hidden_layer.weight", np.empty(0))
    if hidden.ndim != 2:
        raise WeightsError(
            f"{source}: has no two-dimensional hidden_layer.weight, so it is not an "
            f"{_ORIGINAL_CLASS}; give a head that VirNucPro trained"
        )
    hidden_dim, width = hidden.shape
    if not 0 < dna_dim < width:
        raise WeightsError(
            f"{source}: takes {width} inputs, which leaves none for ESM-2 beside {dna_dim} of "
            "DNABERT-S; correct the DNA dimension"
        )
    card = HeadCard(
        name=name,
        label=name,
        dna_dim=dna_dim,
        protein_dim=width - dna_dim,
        hidden_dim=hidden_dim,
        chunk_length=chunk_length,
        source_sha256=sha256_file(source),
        notes=notes,
    )
    save_head(directory, card, weights)
    return card


class _Record:
    """Stands in for a pickled module: keeps its attributes and can do nothing."""


def _read_state(source: Path) -> dict[str, torch.Tensor]:
    value = _read(source)
    if isinstance(value, _Record):
        state = _module_state(value, source)
    elif isinstance(value, Mapping):
        inner = value.get("model_state_dict", value)
        state = dict(inner) if isinstance(inner, Mapping) else {}
    else:
        state = {}
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError(
            f"{source}: holds neither an {_ORIGINAL_CLASS} nor its state dict; "
            "give a head that VirNucPro trained"
        )
    return state


def _module_state(module: _Record, source: Path) -> dict[str, torch.Tensor]:
    layers = vars(module).get("_modules", {})
    state: dict[str, torch.Tensor] = {}
    for layer in _LAYERS:
        if not isinstance(layers.get(layer), _Record):
            raise WeightsError(
                f"{source}: its module has no layer {layer}, so it is not VirNucPro's "
                f"{_ORIGINAL_CLASS}; give a head that VirNucPro trained"
            )
        attributes = vars(layers[layer])
        for tensors in (attributes.get("_parameters", {}), attributes.get("_buffers", {})):
            state |= {f"{layer}.{key}": tensor for key, tensor in tensors.items()}
    eps = vars(layers["bn1"]).get("eps")
    if eps != _BATCH_NORM_EPS:
        raise WeightsError(
            f"{source}: its batch norm has eps {eps!r} where heads have {_BATCH_NORM_EPS}; "
            "train it again with torch's default"
        )
    return state


def _read(source: Path) -> Any:
    restricted = _restricted_pickle(source)
    try:
        if _is_torchscript(source):
            raise WeightsError(
                f"{source}: is a TorchScript program, which is not read; save the model itself "
                "with torch.save(model, path)"
            )
        with warnings.catch_warnings():
            # Legacy files carry the class's source text; torch warns that it cannot compare it.
            warnings.simplefilter("ignore")
            return torch.load(
                source, map_location="cpu", pickle_module=restricted, weights_only=False
            )
    except OSError as error:
        raise WeightsError(
            f"{source}: cannot be read ({error.strerror or error}); check the path"
        ) from error
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(
            f"{source}: is not a file torch.save wrote, or is damaged ({reason}); copy it again"
        ) from error


def _is_torchscript(source: Path) -> bool:
    """Whether torch.load would hand the file to torch.jit.load, decided as torch decides it."""
    with source.open("rb") as handle:
        if handle.read(4) != b"PK\x03\x04":
            return False
    return "constants.pkl" in torch._C.PyTorchFileReader(str(source)).get_all_records()


def _restricted_pickle(source: Path) -> types.ModuleType:
    """A pickle module for torch.load that resolves the known names and refuses all others."""
    stand_ins: dict[str, type[_Record]] = {}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            path = f"{module}.{name}"
            if path in _CALLABLES:
                return _CALLABLES[path]
            if path in _MODULES or name == _ORIGINAL_CLASS:
                # One class per file and name, so that no file can leave a mark on the next.
                return stand_ins.setdefault(path, type(name, (_Record,), {}))
            raise WeightsError(
                f"{source}: names {path}, which is no part of a head, so nothing of it was run; "
                "give a file that holds only the model or its state dict"
            )

    def load(file: IO[bytes], **options: Any) -> Any:
        return Unpickler(file, **options).load()

    module = types.ModuleType("restricted_pickle")
    vars(module).update(Unpickler=Unpickler, load=load, UnpicklingError=pickle.UnpicklingError)
    return module
