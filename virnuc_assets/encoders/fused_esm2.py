"""ESM-2 for Hopper GPUs in half precision or float8: the function of `esm2.ESM2`, fewer passes.

A layer is four products, one attention and two bare layer norms. The norms' weights are folded
into the products that follow them; rotary positions and GELU are computed where the product is;
the residual sum is the product's own accumulator. The biases of the two products that add to the
residual stream enter it together, once a layer: the next layer's first norm writes the sum back as
it reads the stream, and the norm between them adds the first alone, in float32. (They could be
carried to the end and never written; but where a bias cancels a large product the stream would grow
from layer to layer, and lose precision.)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from virnuc_assets.encoders.attention import Attention, Segments
from virnuc_assets.encoders.catalog import MAX_TOKENS
from virnuc_assets.encoders.esm2 import TOKEN_DROPOUT_SCALE, ESM2Config, rotary_angles
from virnuc_assets.encoders.folding import fold_norm, interleave_pairs
from virnuc_assets.encoders.kernels.float8 import Float8, gelu_float8, quantise_rows
from virnuc_assets.encoders.kernels.linear import (
    Rotary,
    add_linear_float8_,
    gelu_linear,
    rotary_linear,
)
from virnuc_assets.encoders.kernels.norm import layer_norm, layer_norm_float8


class FusedESM2:
    """Packed ESM-2 encoder on one GPU, from the state of `esm2.ESM2`.

    `float8_layers`: layers whose products are in float8; the others are in `dtype`.
    """

    def __init__(
        self,
        config: ESM2Config,
        state: Mapping[str, Tensor],
        attention: Attention,
        device: torch.device,
        dtype: torch.dtype,
        float8_layers: range,
    ) -> None:
        self.config = config
        scale = TOKEN_DROPOUT_SCALE if config.token_dropout else 1.0
        self.embed = (state["embed.weight"].to(device).float() * scale).to(dtype)
        angles = rotary_angles(torch.arange(MAX_TOKENS["esm2"], device=device), config.head_dim)
        self.cos, self.sin = (table[:, 0, : config.head_dim // 2].contiguous() for table in angles)
        self.layers: list[Layer | Float8Layer] = []
        pending = torch.zeros(config.dim, device=device)
        for number in range(config.layers):
            prefix = f"layers.{number}."
            own = {
                name.removeprefix(prefix): tensor.to(device).float()
                for name, tensor in state.items()
                if name.startswith(prefix)
            }
            kind = Float8Layer if number in float8_layers else Layer
            self.layers.append(kind(config, own, pending, attention, dtype))
            pending = own["out.bias"] + own["down.bias"]
        self.pending = pending
        norm = (state[f"norm.{part}"].to(device).float() for part in ("weight", "bias"))
        self.norm_weight, self.norm_bias = norm

    def __call__(self, tokens: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """Last-layer representations (T, dim) of `tokens` and `positions` (T,), int32."""
        x = self.embed[tokens]
        rotary = Rotary(positions, self.cos, self.sin)
        for layer in self.layers:
            layer.add_to(x, rotary, segments)
        affine = self.norm_weight, self.norm_bias
        return layer_norm(x, self.pending, self.config.norm_eps, affine, out=x)


class Layer:
    """One layer in half precision.

    `state`: its tensors, float32. `pending`: biases of the layer before (dim,), float32, which the
    stream does not hold yet.
    """

    def __init__(
        self,
        config: ESM2Config,
        state: Mapping[str, Tensor],
        pending: Tensor,
        attention: Attention,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.attention = config, attention
        self.offsets = pending, state["out.bias"]
        weights, self.qkv_bias, self.up_bias = _fold(config, state)
        self.qkv, self.out, self.up, self.down = (weight.to(dtype) for weight in weights)

    def add_to(self, x: Tensor, rotary: Rotary, segments: Segments) -> None:
        """Add to the stream `x` (T, dim), in place, what is pending and what the layer adds.

        The layer's own biases are left pending.
        """
        eps = self.config.norm_eps
        normed = layer_norm(x, self.offsets[0], eps, write_back=True)
        qkv = rotary_linear(normed, self.qkv, self.qkv_bias, rotary, x.dtype)
        q, k, v = qkv.unflatten(-1, (3, self.config.heads, -1)).unbind(1)
        mixed = self.attention.varlen(q, k, v, segments, None).flatten(1)
        x.addmm_(mixed, self.out.t())
        normed = layer_norm(x, self.offsets[1], eps, out=normed)
        x.addmm_(gelu_linear(normed, self.up, self.up_bias), self.down.t())


class Float8Layer:
    """One layer with e4m3 products: weights by row, activations by token (Micikevicius 2022)."""

    def __init__(
        self,
        config: ESM2Config,
        state: Mapping[str, Tensor],
        pending: Tensor,
        attention: Attention,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.attention = config, attention
        self.offsets = pending, state["out.bias"]
        weights, self.qkv_bias, up_bias = _fold(config, state)
        self.up_bias = up_bias.to(dtype)
        self.qkv, self.out, self.up, self.down = (quantise_rows(weight) for weight in weights)

    def add_to(self, x: Tensor, rotary: Rotary, segments: Segments) -> None:
        """Add to the stream `x` (T, dim), in place, what is pending and what the layer adds.

        The layer's own biases are left pending.
        """
        eps = self.config.norm_eps
        normed = layer_norm_float8(x, self.offsets[0], eps, write_back=True)
        qkv = rotary_linear(normed, self.qkv, self.qkv_bias, rotary, x.dtype)
        q, k, v = qkv.unflatten(-1, (3, self.config.heads, -1)).unbind(1)
        mixed = self.attention.varlen(q, k, v, segments, None).flatten(1)
        add_linear_float8_(x, quantise_rows(mixed), self.out)
        normed = layer_norm_float8(x, self.offsets[1], eps)
        up = _scaled_product(normed, self.up, self.up_bias)
        add_linear_float8_(x, gelu_float8(up), self.down)


def _scaled_product(x: Float8, weight: Float8, bias: Tensor) -> Tensor:
    return torch._scaled_mm(
        x.values,
        weight.values.t(),
        scale_a=x.scales,
        scale_b=weight.scales.t(),
        bias=bias,
        out_dtype=bias.dtype,
        use_fast_accum=True,
    )


def _fold(
    config: ESM2Config, state: Mapping[str, Tensor]
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor, Tensor]:
    """Weights of the four products and the biases of `qkv` and `up`, norms folded in, float32."""

    def norm(name: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    qkv = fold_norm(state["qkv.weight"], state["qkv.bias"], *norm("attn_norm"))
    weight, bias = (
        torch.cat([interleave_pairs(q, config.head_dim), interleave_pairs(k, config.head_dim), v])
        for q, k, v in (part.chunk(3) for part in qkv)
    )
    up, up_bias = fold_norm(state["up.weight"], state["up.bias"], *norm("ffn_norm"))
    return (weight, state["out.weight"], up, state["down.weight"]), bias, up_bias
