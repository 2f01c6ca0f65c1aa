"""Trained encoders → model folders in the published formats, as the engine and others read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from virnuc_assets.encoders.dnabert_s import DNABERTS
from virnuc_assets.encoders.esm2 import ESM2
from virnuc_assets.store.atomic import atomic_path, write_json


def write_esm2(folder: Path, model: ESM2, label: str) -> None:
    """Write an ESM-2 as a Hugging Face folder, weights in float16.

    Raises:
        StoreError: the folder cannot be written.
    """
    config, state = model.config, model.state_dict()
    tensors = {"embeddings.word_embeddings.weight": state["embed.weight"]}
    for part in ("weight", "bias"):
        tensors[f"encoder.emb_layer_norm_after.{part}"] = state[f"norm.{part}"]
        for number in range(config.layers):
            ours, theirs = f"layers.{number}", f"encoder.layer.{number}"
            for name, rows in zip(
                ("query", "key", "value"), state[f"{ours}.qkv.{part}"].chunk(3), strict=True
            ):
                tensors[f"{theirs}.attention.self.{name}.{part}"] = rows
            tensors |= {
                f"{theirs}.attention.output.dense.{part}": state[f"{ours}.out.{part}"],
                f"{theirs}.attention.LayerNorm.{part}": state[f"{ours}.attn_norm.{part}"],
                f"{theirs}.intermediate.dense.{part}": state[f"{ours}.up.{part}"],
                f"{theirs}.output.dense.{part}": state[f"{ours}.down.{part}"],
                f"{theirs}.LayerNorm.{part}": state[f"{ours}.ffn_norm.{part}"],
            }
    described = {
        "architectures": ["EsmModel"],
        "model_type": "esm",
        "hidden_act": "gelu",
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": 1026,
        "position_embedding_type": "rotary",
        "emb_layer_norm_before": False,
        "token_dropout": config.token_dropout,
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": 1,
        "mask_token_id": 32,
    }
    _write(folder, described, tensors, label)


def write_dnabert_s(folder: Path, model: DNABERTS, label: str) -> None:
    """Write a DNABERT-S as a Hugging Face folder, weights in float16, but for its tokeniser.

    Raises:
        StoreError: the folder cannot be written.
    """
    config, state = model.config, model.state_dict()
    types = torch.stack([state["token_type"], torch.zeros_like(state["token_type"])])
    tensors = {
        "embeddings.word_embeddings.weight": state["embed.weight"],
        "embeddings.token_type_embeddings.weight": types,
    }
    for part in ("weight", "bias"):
        tensors[f"embeddings.LayerNorm.{part}"] = state[f"embed_norm.{part}"]
        for number in range(config.layers):
            ours, theirs = f"layers.{number}", f"encoder.layer.{number}"
            tensors |= {
                f"{theirs}.attention.self.Wqkv.{part}": state[f"{ours}.qkv.{part}"],
                f"{theirs}.attention.output.dense.{part}": state[f"{ours}.out.{part}"],
                f"{theirs}.attention.output.LayerNorm.{part}": state[f"{ours}.attn_norm.{part}"],
                f"{theirs}.mlp.wo.{part}": state[f"{ours}.down.{part}"],
                f"{theirs}.mlp.layernorm.{part}": state[f"{ours}.ffn_norm.{part}"],
            }
    for number in range(config.layers):
        gate = state[f"layers.{number}.gated.weight"]
        tensors[f"encoder.layer.{number}.mlp.gated_layers.weight"] = gate
    described = {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "vocab_size": config.vocabulary,
        "type_vocab_size": 2,
        "max_position_embeddings": 512,
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": 3,
    }
    _write(folder, described, tensors, label)


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], label: str) -> None:
    from safetensors.torch import save

    write_json(folder / "config.json", config)
    write_json(folder / "virnuc.json", {"label": label})
    with atomic_path(folder / "model.safetensors") as temporary:
        half = {name: tensor.detach().cpu().half().contiguous() for name, tensor in tensors.items()}
        # save_file would leave a file that only its owner can read.
        temporary.write_bytes(save(half))
