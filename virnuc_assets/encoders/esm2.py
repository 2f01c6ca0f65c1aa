"""ESM-2 over packed tokens (Lin et al. 2023, Science 379:1123; fair-esm's `ESM2`).

Pre-LN transformer with rotary positions; the representation is the last layer's, after the final
layer norm. No language-model head, no contact head.
"""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from virnuc_assets.encoders import alphabet
from virnuc_assets.encoders.attention import Attention, Segments
from virnuc_assets.encoders.catalog import Weights, read_config
from virnuc_assets.encoders.checkpoints import Checkpoint, read_folder, read_pickle
from virnuc_assets.errors import WeightsError

# Training hid 15 % of the tokens, 80 % of those by a zeroed <mask>; at inference nothing is
# hidden and embeddings are scaled to the mean they had then.
TOKEN_DROPOUT_SCALE = 1 - 0.15 * 0.8


@dataclass(frozen=True)
class ESM2Config:
    """Shape and constants of an ESM-2 model."""

    layers: int
    dim: int
    heads: int
    ffn_dim: int
    norm_eps: float = 1e-5
    token_dropout: bool = True
    vocabulary: int = len(alphabet.TOKENS)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads


class ESM2(nn.Module):
    """Packed ESM-2 encoder."""

    def __init__(self, config: ESM2Config, attention: Attention) -> None:
        super().__init__()
        self.config = config
        # Not nn.Embedding(): drawing initial weights that are replaced costs a second of imports.
        self.embed = nn.Embedding.from_pretrained(torch.empty(config.vocabulary, config.dim))
        self.layers = nn.ModuleList(Layer(config, attention) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)

    def forward(self, tokens: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """Last-layer representations (T, dim) of `tokens` and `positions` (T,), int32."""
        x = self.embed(tokens)
        if self.config.token_dropout:
            x = x * TOKEN_DROPOUT_SCALE
        cos, sin = rotary_angles(positions, self.config.head_dim)
        for layer in self.layers:
            x = layer(x, cos, sin, segments)
        return self.norm(x)


class Layer(nn.Module):
    """One pre-LN transformer layer."""

    def __init__(self, config: ESM2Config, attention: Attention) -> None:
        super().__init__()
        self.heads = config.heads
        self.varlen = attention.varlen
        self.attn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.ffn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.up = nn.Linear(config.dim, config.ffn_dim)
        self.down = nn.Linear(config.ffn_dim, config.dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, segments: Segments) -> Tensor:
        """Map (T, dim) to (T, dim)."""
        q, k, v = self.qkv(self.attn_norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        x = x + self.out(self.varlen(q, k, v, segments, None).flatten(1))
        return x + self.down(F.gelu(self.up(self.ffn_norm(x))))


def rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles (Su et al. 2021), each (T, 1, head_dim), float32."""
    exponent = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    angles = positions.float()[:, None] * (1.0 / 10000**exponent)
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the heads of `x` (T, H, Dh), in float32 whatever its type."""
    first, second = x.float().chunk(2, dim=-1)
    # Both halves of a head turn by the same angles.
    cos, sin = cos.chunk(2, dim=-1)[0], sin.chunk(2, dim=-1)[0]
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.cat(turned, dim=-1).to(x.dtype)


@dataclass(frozen=True)
class _Names:
    """What a checkpoint format calls the parts of the model."""

    embed: str
    layer: str
    query: str
    key: str
    value: str
    out: str
    attn_norm: str
    up: str
    down: str
    ffn_norm: str
    norm: str


_FAIR_ESM = _Names(
    embed="embed_tokens",
    layer="layers",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    out="self_attn.out_proj",
    attn_norm="self_attn_layer_norm",
    up="fc1",
    down="fc2",
    ffn_norm="final_layer_norm",
    norm="emb_layer_norm_after",
)
_HUGGING_FACE = _Names(
    embed="embeddings.word_embeddings",
    layer="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    attn_norm="attention.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    ffn_norm="LayerNorm",
    norm="encoder.emb_layer_norm_after",
)


def read(weights: Weights) -> tuple[ESM2Config, dict[str, Tensor]]:
    """Configuration and state of an ESM-2 checkpoint in either format.

    Raises:
        WeightsError: a file is missing or unsafe, or its tensors are not this architecture's.
    """
    if weights.kind == "fair-esm":
        config, checkpoint = _read_fair_esm(weights)
        return config, _state(checkpoint, config, _FAIR_ESM)
    config = _folder_config(weights)
    return config, _state(read_folder(weights.path).without_prefixes("esm."), config, _HUGGING_FACE)


def _read_fair_esm(weights: Weights) -> tuple[ESM2Config, Checkpoint]:
    content = read_pickle(weights.path)
    wrong = WeightsError(
        f"{weights.path}: is not an ESM-2 checkpoint of fair-esm (it should hold `cfg` or `args` "
        "and `model`); use one of the published esm2_*.pt files"
    )
    settings = content["cfg"].get("model") if isinstance(content.get("cfg"), dict) else None
    settings = settings or content.get("args")
    if not isinstance(settings, Namespace) or not isinstance(content.get("model"), dict):
        raise wrong
    checkpoint = Checkpoint(weights.path, content["model"]).without_prefixes(
        "encoder.sentence_encoder.", "encoder."
    )
    try:
        config = ESM2Config(
            layers=settings.encoder_layers,
            dim=settings.encoder_embed_dim,
            heads=settings.encoder_attention_heads,
            ffn_dim=4 * settings.encoder_embed_dim,
            token_dropout=settings.token_dropout,
        )
    except AttributeError as error:
        raise wrong from error
    if any(name.startswith("embed_positions") for name in checkpoint.tensors):
        raise wrong
    return config, checkpoint


def _folder_config(weights: Weights) -> ESM2Config:
    file, found = weights.path / "config.json", read_config(weights.path)
    expected = {"position_embedding_type": "rotary", "emb_layer_norm_before": False}
    for key, value in expected.items():
        if (found.get(key) or False) != value:
            raise WeightsError(
                f"{file}: {key} is {found.get(key)!r} and ESM-2 has {value!r}; use an ESM-2 model"
            )
    try:
        return ESM2Config(
            layers=found["num_hidden_layers"],
            dim=found["hidden_size"],
            heads=found["num_attention_heads"],
            ffn_dim=found["intermediate_size"],
            norm_eps=found["layer_norm_eps"],
            token_dropout=found["token_dropout"],
        )
    except KeyError as error:
        raise WeightsError(f"{file}: states no {error.args[0]}; copy the model again") from error


def _state(checkpoint: Checkpoint, config: ESM2Config, names: _Names) -> dict[str, Tensor]:
    d, f = config.dim, config.ffn_dim
    state = {"embed.weight": checkpoint.take(f"{names.embed}.weight", config.vocabulary, d)}
    for part in ("weight", "bias"):
        state[f"norm.{part}"] = checkpoint.take(f"{names.norm}.{part}", d)

    def linear(layer: str, name: str, rows: int, columns: int, part: str) -> Tensor:
        shape = (rows, columns) if part == "weight" else (rows,)
        return checkpoint.take(f"{layer}.{name}.{part}", *shape)

    found = {
        int(n[1]) for t in checkpoint.tensors if (n := re.match(rf"{names.layer}\.(\d+)\.", t))
    }
    if len(found) > config.layers:
        raise WeightsError(
            f"{checkpoint.source}: holds {len(found)} layers and its configuration states "
            f"{config.layers}; use weights and a configuration that belong together"
        )
    for number in range(config.layers):
        theirs, ours = f"{names.layer}.{number}", f"layers.{number}"
        for part in ("weight", "bias"):
            qkv = [linear(theirs, n, d, d, part) for n in (names.query, names.key, names.value)]
            state |= {
                f"{ours}.qkv.{part}": torch.cat(qkv),
                f"{ours}.out.{part}": linear(theirs, names.out, d, d, part),
                f"{ours}.up.{part}": linear(theirs, names.up, f, d, part),
                f"{ours}.down.{part}": linear(theirs, names.down, d, f, part),
                f"{ours}.attn_norm.{part}": checkpoint.take(
                    f"{theirs}.{names.attn_norm}.{part}", d
                ),
                f"{ours}.ffn_norm.{part}": checkpoint.take(f"{theirs}.{names.ffn_norm}.{part}", d),
            }
    return state
