"""Random weights in the published file formats, and sequences of mixed lengths."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from virnuc_assets.encoders.encoder import Encoder, EncoderSettings, load_encoder
from virnuc_assets_tests import untrained

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"

Sequences = Callable[..., list[str]]


@pytest.fixture
def sequences() -> Sequences:
    """Random sequences: letters of `alphabet`, one for each of `lengths`."""

    def make(lengths, alphabet: str = AMINO_ACIDS, seed: int = 0) -> list[str]:
        rng = np.random.default_rng(seed)
        return ["".join(rng.choice(list(alphabet), int(length))) for length in lengths]

    return make


@pytest.fixture
def mixed_lengths() -> Callable[..., np.ndarray]:
    """`n` lengths from 1 to `longest`, both included, most of them short, in random order."""

    def make(n: int, longest: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        lengths = np.exp(rng.uniform(0, 1, n) ** 3 * np.log(longest)).astype(int).clip(1, longest)
        lengths[:2] = 1, longest
        return rng.permutation(lengths)

    return make


@pytest.fixture(scope="session")
def transformers_model(fair_esm_model):
    """transformers' EsmModel with the same weights as `fair_esm_model`."""
    from transformers import EsmConfig, EsmModel

    config = EsmConfig(
        vocab_size=33,
        mask_token_id=32,
        pad_token_id=1,
        hidden_size=320,
        num_hidden_layers=6,
        num_attention_heads=20,
        intermediate_size=1280,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=1026,
    )
    names = {
        "self_attn.q_proj": "attention.self.query",
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.out_proj": "attention.output.dense",
        "self_attn_layer_norm": "attention.LayerNorm",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
        "final_layer_norm": "LayerNorm",
        "emb_layer_norm_after": "encoder.emb_layer_norm_after",
        "embed_tokens": "embeddings.word_embeddings",
    }
    state = {}
    for name, tensor in fair_esm_model.state_dict().items():
        if "head" in name or "inv_freq" in name:
            continue
        *layer, part = name.rsplit(".", 1)
        path = layer[0]
        if path.startswith("layers."):
            _, number, inner = path.split(".", 2)
            path = f"encoder.layer.{number}.{names[inner]}"
        else:
            path = names[path]
        state[f"{path}.{part}"] = tensor.clone()
    model = EsmModel(config, add_pooling_layer=False).eval()
    report = model.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert all("inv_freq" in key or "contact_head" in key for key in report.missing_keys)
    return model


@pytest.fixture(scope="session")
def esm_folder(transformers_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hugging-face") / "esm2_random"
    transformers_model.save_pretrained(folder)
    return folder


def random_mosaic_bert(layers: int, d: int, f: int) -> dict[str, Tensor]:
    """Random weights by DNABERT-S's published names."""
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int, scale: float = 0.2) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    state = {
        "bert.embeddings.word_embeddings.weight": draw(160, d, scale=1.0),
        "bert.embeddings.token_type_embeddings.weight": draw(2, d, scale=1.0),
        "bert.embeddings.LayerNorm.weight": 1 + draw(d),
        "bert.embeddings.LayerNorm.bias": draw(d),
        "cls.predictions.bias": draw(160),
    }
    for number in range(layers):
        layer = f"bert.encoder.layer.{number}"
        state |= {
            f"{layer}.attention.self.Wqkv.weight": draw(3 * d, d),
            f"{layer}.attention.self.Wqkv.bias": draw(3 * d),
            f"{layer}.attention.output.dense.weight": draw(d, d),
            f"{layer}.attention.output.dense.bias": draw(d),
            f"{layer}.attention.output.LayerNorm.weight": 1 + draw(d),
            f"{layer}.attention.output.LayerNorm.bias": draw(d),
            f"{layer}.mlp.gated_layers.weight": draw(2 * f, d),
            f"{layer}.mlp.wo.weight": draw(d, f),
            f"{layer}.mlp.wo.bias": draw(d),
            f"{layer}.mlp.layernorm.weight": 1 + draw(d),
            f"{layer}.mlp.layernorm.bias": draw(d),
        }
    return state


@pytest.fixture(scope="session")
def dnabert_s_state() -> dict[str, Tensor]:
    """The weights of `dnabert_s_folder`: 3 layers × 96, 12 heads."""
    return random_mosaic_bert(layers=3, d=96, f=256)


DNABERT_S_CONFIG = {
    "model_type": "bert",
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 12,
    "vocab_size": 160,
    "layer_norm_eps": 1e-12,
}


def write_dnabert_s(folder: Path, config: dict, state: dict[str, Tensor]) -> Path:
    """A DNABERT-S folder as published: config.json, pytorch_model.bin, tokenizer.json."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "pytorch_model.bin")
    shutil.copy(untrained.folder() / "dnabert_s" / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="session")
def dnabert_s_folder(dnabert_s_state, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dnabert-s") / "dnabert_s_random"
    return write_dnabert_s(folder, DNABERT_S_CONFIG, dnabert_s_state)


@pytest.fixture(scope="session")
def wide_models(tmp_path_factory) -> dict[str, Path]:
    """Two random layers of each encoder with heads 64 wide, as ESM-2 3B and DNABERT-S have."""
    from esm.model.esm2 import ESM2

    directory = tmp_path_factory.mktemp("wide")
    torch.manual_seed(3)
    state = ESM2(num_layers=2, embed_dim=256, attention_heads=4).state_dict()
    settings = Namespace(
        encoder_layers=2, encoder_embed_dim=256, encoder_attention_heads=4, token_dropout=True
    )
    torch.save({"cfg": {"model": settings}, "model": state}, directory / "esm2.pt")
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 2}
    state = random_mosaic_bert(layers=2, d=768, f=3072)
    small = {name: t * 0.2 if t.dim() == 2 else t for name, t in state.items()}
    folder = write_dnabert_s(directory / "dnabert_s", DNABERT_S_CONFIG | sizes, small)
    return {"esm2": directory / "esm2.pt", "dnabert-s": folder}


@pytest.fixture(scope="session")
def small_encoder() -> Callable[..., Encoder]:
    """An untrained encoder (`esm2` or `dnabert-s`) with the settings given."""

    def load(encoder: str, **settings) -> Encoder:
        folder = untrained.folder() / encoder.replace("-", "_")
        return load_encoder(EncoderSettings(encoder, str(folder), **settings))

    return load
