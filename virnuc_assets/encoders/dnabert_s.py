"""DNABERT-S over packed tokens: a MosaicBERT (Portes et al. 2023; Zhou et al. 2024).

Post-LN transformer with ALiBi in place of position embeddings and gated feed-forward layers. The
published model's own code is not run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from virnuc_assets.encoders.attention import Attention, Segments
from virnuc_assets.encoders.catalog import Weights, read_config
from virnuc_assets.encoders.checkpoints import Checkpoint, read_folder
from virnuc_assets.errors import WeightsError


@dataclass(frozen=True)
class DNABERTSConfig:
    """Shape and constants of a MosaicBERT."""

    layers: int
    dim: int
    heads: int
    ffn_dim: int
    vocabulary: int
    norm_eps: float = 1e-12

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads


class DNABERTS(nn.Module):
    """Packed MosaicBERT encoder."""

    def __init__(self, config: DNABERTSConfig, attention: Attention) -> None:
        super().__init__()
        self.config = config
        # Not nn.Embedding(): drawing initial weights that are replaced costs a second of imports.
        self.embed = nn.Embedding.from_pretrained(torch.empty(config.vocabulary, config.dim))
        self.token_type = nn.Parameter(torch.empty(config.dim))
        self.embed_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.layers = nn.ModuleList(Layer(config, attention) for _ in range(config.layers))

    def forward(self, tokens: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """Last-layer representations (T, dim) of `tokens` (T,), int32.

        `positions` is not read: ALiBi sees distances alone.
        """
        slopes = alibi_slopes(self.config.heads, tokens.device)
        x = self.embed_norm(self.embed(tokens) + self.token_type)
        for layer in self.layers:
            x = layer(x, slopes, segments)
        return x


class Layer(nn.Module):
    """One post-LN transformer layer."""

    def __init__(self, config: DNABERTSConfig, attention: Attention) -> None:
        super().__init__()
        self.heads = config.heads
        self.varlen = attention.varlen
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.attn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.gated = nn.Linear(config.dim, 2 * config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.dim)
        self.ffn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)

    def forward(self, x: Tensor, slopes: Tensor, segments: Segments) -> Tensor:
        """Map (T, dim) to (T, dim)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        x = self.attn_norm(x + self.out(self.varlen(q, k, v, segments, slopes).flatten(1)))
        gate, value = self.gated(x).chunk(2, dim=-1)
        return self.ffn_norm(x + self.down(F.gelu(gate) * value))


def alibi_slopes(heads: int, device: torch.device) -> Tensor:
    """ALiBi slopes (Press et al. 2022), shape (heads,), float32.

    For a power of two n: 2^(−8/n), 2^(−16/n), … 2^−8. For another number of heads, those of the
    power of two below it, then every second one of the power of two above it.
    """
    below = 2 ** math.floor(math.log2(heads))
    regular = torch.arange(1, below + 1, device=device) * (8 / below)
    between = (2 * torch.arange(heads - below, device=device) + 1) * (4 / below)
    return torch.exp2(-torch.cat([regular, between]))


def read(weights: Weights) -> tuple[DNABERTSConfig, dict[str, Tensor]]:
    """Configuration and state of a DNABERT-S folder.

    Raises:
        WeightsError: a file is missing or unsafe, or its tensors are not this architecture's.
    """
    file, found = weights.path / "config.json", read_config(weights.path)
    try:
        config = DNABERTSConfig(
            layers=found["num_hidden_layers"],
            dim=found["hidden_size"],
            heads=found["num_attention_heads"],
            ffn_dim=found["intermediate_size"],
            vocabulary=found["vocab_size"],
            norm_eps=found.get("layer_norm_eps", DNABERTSConfig.norm_eps),
        )
    except KeyError as error:
        raise WeightsError(f"{file}: states no {error.args[0]}; copy the model again") from error
    return config, _state(read_folder(weights.path).without_prefixes("bert."), config)


def _state(checkpoint: Checkpoint, config: DNABERTSConfig) -> dict[str, Tensor]:
    d, f, take = config.dim, config.ffn_dim, checkpoint.take
    types = checkpoint.tensors.get("embeddings.token_type_embeddings.weight", torch.empty(2, d))
    state = {
        "embed.weight": take("embeddings.word_embeddings.weight", config.vocabulary, d),
        # Every token is of the first type.
        "token_type": take("embeddings.token_type_embeddings.weight", len(types), d)[0],
        "embed_norm.weight": take("embeddings.LayerNorm.weight", d),
        "embed_norm.bias": take("embeddings.LayerNorm.bias", d),
    }
    for number in range(config.layers):
        theirs, ours = f"encoder.layer.{number}", f"layers.{number}"
        state |= {
            f"{ours}.qkv.weight": take(f"{theirs}.attention.self.Wqkv.weight", 3 * d, d),
            f"{ours}.qkv.bias": take(f"{theirs}.attention.self.Wqkv.bias", 3 * d),
            f"{ours}.out.weight": take(f"{theirs}.attention.output.dense.weight", d, d),
            f"{ours}.out.bias": take(f"{theirs}.attention.output.dense.bias", d),
            f"{ours}.gated.weight": take(f"{theirs}.mlp.gated_layers.weight", 2 * f, d),
            f"{ours}.down.weight": take(f"{theirs}.mlp.wo.weight", d, f),
            f"{ours}.down.bias": take(f"{theirs}.mlp.wo.bias", d),
        }
        for part in ("weight", "bias"):
            norm = take(f"{theirs}.attention.output.LayerNorm.{part}", d)
            state[f"{ours}.attn_norm.{part}"] = norm
            state[f"{ours}.ffn_norm.{part}"] = take(f"{theirs}.mlp.layernorm.{part}", d)
    return state
