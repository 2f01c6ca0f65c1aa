"""Two tiny untrained encoders in the real formats, made from a fixed seed.

They are ESM-2 and DNABERT-S in everything but size and training: what they embed is a function of
the sequence and means nothing. The files in `data/models` are this module's output.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from virnuc_assets.store.atomic import atomic_path, write_json

LABEL = "demo (untrained)"
MODELS = Path(__file__).parent / "data" / "models"
"""The bundled models: folders `esm2` and `dnabert_s`."""

_SEED = 20_240
_SPECIAL_TOKENS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
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


def write_demo_models(directory: Path) -> None:
    """Write the folders `esm2` and `dnabert_s` to `directory`, the same on every machine."""
    _write_folder(directory / "esm2", _ESM2, _esm2_weights(np.random.PCG64(_SEED)))
    _write_folder(
        directory / "dnabert_s", _DNABERT_S, _dnabert_s_weights(np.random.PCG64(_SEED + 1))
    )
    _write_tokeniser(directory / "dnabert_s" / "tokenizer.json", np.random.PCG64(_SEED + 2))


def _write_folder(folder: Path, config: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    write_json(folder / "config.json", config)
    write_json(folder / "virnuc.json", {"label": LABEL})
    with atomic_path(folder / "model.safetensors") as temporary:
        # Half precision, like published checkpoints, keeps the files small.
        save_file({name: w.astype(np.float16) for name, w in weights.items()}, temporary)


def _esm2_weights(bits: np.random.PCG64) -> dict[str, np.ndarray]:
    d, f = _ESM2["hidden_size"], _ESM2["intermediate_size"]
    weights = {"embeddings.word_embeddings.weight": _embedding(bits, _ESM2["vocab_size"], d)}
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
        "embeddings.word_embeddings.weight": _embedding(bits, _DNABERT_S["vocab_size"], d),
        "embeddings.token_type_embeddings.weight": _embedding(bits, 2, d),
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


def _embedding(bits: np.random.PCG64, rows: int, dim: int) -> np.ndarray:
    return _uniform(bits, rows, dim)


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


def _write_tokeniser(path: Path, bits: np.random.PCG64) -> None:
    texts = (
        "".join("ACGT"[base & 3] for base in bits.random_raw(300).tolist()) for _ in range(300)
    )
    write_tokeniser(path, texts, _DNA_VOCABULARY)


def write_tokeniser(path: Path, texts: Iterable[str], vocabulary: int) -> None:
    """A byte-pair tokeniser like DNABERT-2's and DNABERT-S's, trained on `texts` of DNA."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=list("ACGTN"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    with atomic_path(path) as temporary:
        temporary.write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
