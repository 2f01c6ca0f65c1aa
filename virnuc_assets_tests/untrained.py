"""Two tiny untrained encoders and a head in the real formats, made from fixed seeds.

They are ESM-2 and DNABERT-S in everything but size and training: what they embed is a function of
the sequence and means nothing. Tests, the faults harness and benchmarks run on them because they
cost no time. A process that asks for them first makes them in a temporary folder; processes that it
starts find them there.
"""

from __future__ import annotations

import os
import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from virnuc_assets.classifier.head_files import HeadCard, save_head
from virnuc_assets.store.atomic import atomic_path, write_json
from virnuc_assets.training.tokeniser import write_tokeniser

LABEL = "untrained"
FOLDER_VARIABLE = "UNTRAINED_MODELS"
"""Where a process that started this one has made them."""

_SEED = 20_240
_DNA_VOCABULARY = 160
_ESM2: dict[str, Any] = {
    "architectures": ["EsmModel"],
    "model_type": "esm",
    "hidden_act": "gelu",
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 33,
    "max_position_embeddings": 1026,
    "position_embedding_type": "rotary",
    "emb_layer_norm_before": False,
    "token_dropout": True,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "mask_token_id": 32,
}
_DNABERT_S: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 48,
    "intermediate_size": 192,
    "num_attention_heads": 12,
    "num_hidden_layers": 2,
    "vocab_size": _DNA_VOCABULARY,
    "type_vocab_size": 2,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 3,
}
HEAD_CARD = HeadCard(
    name=LABEL,
    label=LABEL,
    dna_dim=48,
    protein_dim=64,
    hidden_dim=32,
    notes="Random weights from a fixed seed; its calls mean nothing.",
)
# Wide enough that scores spread over (0, 1) instead of gathering at one half.
_SPREAD = {"hidden_layer.weight": 0.4, "output_layer.weight": 0.8}


@cache
def folder() -> Path:
    """The folder of the models: `esm2`, `dnabert_s` and `head`."""
    if made := os.environ.get(FOLDER_VARIABLE):
        return Path(made)
    path = Path(_temporary().name)
    write_models(path)
    os.environ[FOLDER_VARIABLE] = str(path)
    return path


def settings() -> dict[str, str]:
    """The environment variables that choose the models."""
    return {
        "VIRNUC_ESM2": str(folder() / "esm2"),
        "VIRNUC_DNABERT_S": str(folder() / "dnabert_s"),
        "VIRNUC_HEAD": str(folder() / "head"),
    }


def write_models(directory: Path) -> None:
    """Write `esm2`, `dnabert_s` and `head` to `directory`, the same on every machine."""
    _write_folder(directory / "esm2", _ESM2, _esm2_weights(np.random.PCG64(_SEED)))
    _write_folder(
        directory / "dnabert_s", _DNABERT_S, _dnabert_s_weights(np.random.PCG64(_SEED + 1))
    )
    bits = np.random.PCG64(_SEED + 2)
    texts = (
        "".join("ACGT"[base & 3] for base in bits.random_raw(300).tolist()) for _ in range(300)
    )
    write_tokeniser(directory / "dnabert_s" / "tokenizer.json", texts, _DNA_VOCABULARY)
    save_head(directory / "head", HEAD_CARD, _head_weights())


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    # Held until the process ends, which removes the folder.
    return tempfile.TemporaryDirectory(prefix="virnuc-untrained-")


def _write_folder(directory: Path, config: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    write_json(directory / "config.json", config)
    write_json(directory / "virnuc.json", {"label": LABEL})
    with atomic_path(directory / "model.safetensors") as temporary:
        # Half precision, like published checkpoints.
        save_file({name: w.astype(np.float16) for name, w in weights.items()}, temporary)


def _esm2_weights(bits: np.random.PCG64) -> dict[str, np.ndarray]:
    d, f = _ESM2["hidden_size"], _ESM2["intermediate_size"]
    weights = {"embeddings.word_embeddings.weight": _uniform(bits, _ESM2["vocab_size"], d)}
    for number in range(_ESM2["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for name in ("query", "key", "value"):
            weights |= _linear(bits, f"{layer}.attention.self.{name}", d, d)
        weights |= _linear(bits, f"{layer}.attention.output.dense", d, d)
        weights |= _norm(f"{layer}.attention.LayerNorm", d)
        weights |= _linear(bits, f"{layer}.intermediate.dense", f, d)
        weights |= _linear(bits, f"{layer}.output.dense", d, f)
        weights |= _norm(f"{layer}.LayerNorm", d)
    return weights | _norm("encoder.emb_layer_norm_after", d)


def _dnabert_s_weights(bits: np.random.PCG64) -> dict[str, np.ndarray]:
    d, f = _DNABERT_S["hidden_size"], _DNABERT_S["intermediate_size"]
    weights = {
        "embeddings.word_embeddings.weight": _uniform(bits, _DNABERT_S["vocab_size"], d),
        "embeddings.token_type_embeddings.weight": _uniform(bits, 2, d),
        **_norm("embeddings.LayerNorm", d),
    }
    for number in range(_DNABERT_S["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        weights |= _linear(bits, f"{layer}.attention.self.Wqkv", 3 * d, d)
        weights |= _linear(bits, f"{layer}.attention.output.dense", d, d)
        weights |= _norm(f"{layer}.attention.output.LayerNorm", d)
        gate = _linear(bits, f"{layer}.mlp.gated_layers", 2 * f, d)
        weights[f"{layer}.mlp.gated_layers.weight"] = gate[f"{layer}.mlp.gated_layers.weight"]
        weights |= _linear(bits, f"{layer}.mlp.wo", d, f)
        weights |= _norm(f"{layer}.mlp.layernorm", d)
    return weights


def _head_weights() -> dict[str, np.ndarray]:
    # Python keeps the stream of random() for a seed from version to version; NumPy does not
    # promise it for a Generator.
    rng = random.Random(_SEED)
    weights: dict[str, np.ndarray] = {}
    for name, shape in HEAD_CARD.shapes().items():
        spread = _SPREAD.get(name, 0.1)
        values = [spread * (2 * rng.random() - 1) for _ in range(int(np.prod(shape)))]
        weights[name] = np.array(values, np.float32).reshape(shape)
    for name in ("bn1.weight", "bn1.running_var"):
        weights[name] += np.float32(1)
    # Half of the hidden units speak for each class, so that neither wins by the draw.
    output = np.abs(weights["output_layer.weight"])
    output[0, ::2] *= -1
    output[1, 1::2] *= -1
    weights["output_layer.weight"] = output
    return weights


def _linear(bits: np.random.PCG64, name: str, rows: int, columns: int) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": _uniform(bits, rows, columns) / np.sqrt(columns),
        f"{name}.bias": 0.1 * _uniform(bits, rows),
    }


def _uniform(bits: np.random.PCG64, *shape: int) -> np.ndarray:
    """Values of mean 0 and variance 1.

    From the raw bits, which NumPy keeps from version to version; it does not promise that for
    what a Generator draws.
    """
    raw = bits.random_raw(int(np.prod(shape))) >> np.uint64(11)
    return np.sqrt(3) * (raw * 2.0**-52 - 1).reshape(shape)


def _norm(name: str, dim: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ones(dim), f"{name}.bias": np.zeros(dim)}
