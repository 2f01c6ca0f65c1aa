"""DNABERT-S for Hopper GPUs in half precision: the function of `dnabert_s.DNABERTS`, fewer passes.

The gated GELU is computed where its product is; the residual sums are the products' own
accumulators; a layer norm adds the bias of the product before it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from virnuc_assets.encoders.attention import Attention, Segments
from virnuc_assets.encoders.dnabert_s import DNABERTSConfig, alibi_slopes
from virnuc_assets.encoders.folding import interleave_gate
from virnuc_assets.encoders.kernels.linear import geglu_linear
from virnuc_assets.encoders.kernels.norm import layer_norm


class FusedDNABERTS:
    """Packed MosaicBERT encoder on one GPU, from the state of `dnabert_s.DNABERTS`."""

    def __init__(
        self,
        config: DNABERTSConfig,
        state: Mapping[str, Tensor],
        attention: Attention,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        on_device = {name: tensor.to(device).float() for name, tensor in state.items()}
        # What a token's embedding comes out as depends on the token alone.
        self.embed = F.layer_norm(
            on_device["embed.weight"] + on_device["token_type"],
            (config.dim,),
            on_device["embed_norm.weight"],
            on_device["embed_norm.bias"],
            config.norm_eps,
        ).to(dtype)
        self.slopes = alibi_slopes(config.heads, device)
        self.layers = []
        for number in range(config.layers):
            prefix = f"layers.{number}."
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in on_device.items()
                if name.startswith(prefix)
            }
            self.layers.append(Layer(config, own, attention, dtype))

    def __call__(self, tokens: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """Last-layer representations (T, dim) of `tokens` (T,), int32.

        `positions` is not read: ALiBi sees distances alone.
        """
        x = self.embed[tokens]
        for layer in self.layers:
            layer.replace(x, self.slopes, segments)
        return x


class Layer:
    """One post-LN transformer layer. `state`: its tensors, float32."""

    def __init__(
        self,
        config: DNABERTSConfig,
        state: Mapping[str, Tensor],
        attention: Attention,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.attention = config, attention
        names = ("qkv.weight", "qkv.bias", "out.weight", "down.weight")
        self.qkv, self.qkv_bias, self.out, self.down = (state[name].to(dtype) for name in names)
        self.gated = interleave_gate(state["gated.weight"]).to(dtype)
        self.out_bias, self.down_bias = state["out.bias"], state["down.bias"]
        self.attn_norm = state["attn_norm.weight"], state["attn_norm.bias"]
        self.ffn_norm = state["ffn_norm.weight"], state["ffn_norm.bias"]

    def replace(self, x: Tensor, slopes: Tensor, segments: Segments) -> None:
        """Map `x` (T, dim) in place."""
        eps = self.config.norm_eps
        q, k, v = F.linear(x, self.qkv, self.qkv_bias).unflatten(-1, (3, len(slopes), -1)).unbind(1)
        x.addmm_(self.attention.varlen(q, k, v, segments, slopes).flatten(1), self.out.t())
        layer_norm(x, self.out_bias, eps, self.attn_norm, out=x)
        x.addmm_(geglu_linear(x, self.gated), self.down.t())
        layer_norm(x, self.down_bias, eps, self.ffn_norm, out=x)
