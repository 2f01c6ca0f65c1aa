"""Random weights of the public models' shapes, in the real formats, for runs that start on disk."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from virnuc_assets.encoders.catalog import DNABERT_S_SHAPE, ESM2_SHAPES
from virnuc_assets.training.tokeniser import write_tokeniser

_DNA_VOCABULARY = 4096


def write_esm2(folder: Path, name: str) -> None:
    """A Hugging Face folder of the public ESM-2 `name`, float16."""
    from transformers import EsmConfig, EsmModel

    shape = ESM2_SHAPES[name]
    config = EsmConfig(
        vocab_size=33,
        hidden_size=shape.dim,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.dim,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        mask_token_id=32,
    )
    torch.manual_seed(0)
    with _device():
        model = EsmModel(config, add_pooling_layer=False)
    model.half().save_pretrained(folder)


def write_dnabert_s(folder: Path) -> None:
    """A folder of DNABERT-S's shape, float16, with a byte-pair tokeniser trained on random DNA."""
    from safetensors.torch import save_file

    shape = DNABERT_S_SHAPE
    dim, width = shape.dim, 4 * shape.dim
    folder.mkdir(parents=True)
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": dim,
        "intermediate_size": width,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "vocab_size": _DNA_VOCABULARY,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 3,
    }
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    weights = {
        "embeddings.word_embeddings.weight": _normal(_DNA_VOCABULARY, dim),
        "embeddings.token_type_embeddings.weight": _normal(2, dim),
        **_norm("embeddings.LayerNorm", dim),
    }
    for number in range(shape.layers):
        layer = f"encoder.layer.{number}"
        for name, rows, columns in (
            ("attention.self.Wqkv", 3 * dim, dim),
            ("attention.output.dense", dim, dim),
            ("mlp.gated_layers", 2 * width, dim),
            ("mlp.wo", dim, width),
        ):
            weights[f"{layer}.{name}.weight"] = _normal(rows, columns) * columns**-0.5
            if name != "mlp.gated_layers":
                weights[f"{layer}.{name}.bias"] = 0.05 * _normal(rows)
        weights |= _norm(f"{layer}.attention.output.LayerNorm", dim)
        weights |= _norm(f"{layer}.mlp.layernorm", dim)
    save_file({name: w.half() for name, w in weights.items()}, folder / "model.safetensors")
    generator = torch.Generator().manual_seed(2)
    bases = torch.randint(4, (5000, 500), generator=generator).tolist()
    texts = ("".join("ACGT"[base] for base in row) for row in bases)
    write_tokeniser(folder / "tokenizer.json", texts, _DNA_VOCABULARY)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape)


def _norm(name: str, dim: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(dim), f"{name}.bias": torch.zeros(dim)}
