"""A model on its device: one pack in, the means of its items out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from virnuc_assets.encoders import pooling
from virnuc_assets.encoders.attention import Attention, Segments, to_device
from virnuc_assets.encoders.cpu_linear import lay_out_linears
from virnuc_assets.encoders.packing import Pack

Architecture = Callable[[Attention], nn.Module]
Forward = Callable[[Tensor, Tensor, Segments], Tensor]
Pool = Callable[[Tensor, np.ndarray], Tensor]


@dataclass(frozen=True)
class PackedModel:
    """An encoder's layers with their weights and one attention backend.

    `forward` maps tokens (T,), positions (T,) and segments to representations (T, dim).
    `pooling_margin`: tokens left out of the mean at either end of an item. `pool`: as
    `pooling.segment_means`. `products`: what computes the linear layers, and why, in words.
    `any_shape`: a token's bits do not depend on how many rows a product has, so that padding can be
    left out.
    """

    forward: Forward
    attention: Attention
    device: torch.device
    pooling_margin: int
    pool: Pool = pooling.segment_means
    products: str = "products by PyTorch"
    any_shape: bool = False

    def means(self, pack: Pack) -> Tensor:
        """Mean of each item of `pack`, shape (items, dim), float32, on the device."""
        segments = self.attention.segments(pack.cu_seqlens, pack.max_seqlen, self.device)
        hidden = self.forward(
            to_device(pack.tokens, self.device), to_device(pack.positions, self.device), segments
        )
        bounds = pooling.boundaries(pack.cu_seqlens, len(pack.items), self.pooling_margin)
        return self.pool(hidden, bounds)


def load_model(
    architecture: Architecture,
    state: Mapping[str, Tensor],
    attention: Attention,
    device: torch.device,
    dtype: torch.dtype,
    pooling_margin: int,
) -> PackedModel:
    """Build `architecture` on `device` with the tensors of `state` in `dtype`, frozen."""
    with torch.device("meta"):
        module = architecture(attention)
    # The module alone holds what was converted, so that each weight laid out anew frees another.
    module.load_state_dict(
        {name: tensor.to(device, dtype) for name, tensor in state.items()}, assign=True
    )
    module.requires_grad_(False).eval()
    if device.type != "cpu":
        return PackedModel(module, attention, device, pooling_margin)
    obstacle = lay_out_linears(module, dtype)
    products = "products by oneDNN" if obstacle is None else f"products by PyTorch ({obstacle})"
    return PackedModel(
        module,
        attention,
        device,
        pooling_margin,
        products=products,
        any_shape=obstacle is None,
    )
