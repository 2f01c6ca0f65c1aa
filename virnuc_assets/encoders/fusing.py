"""Whether the fused layers can serve, and loading them: the only door to Triton's modules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from virnuc_assets.encoders.attention import Attention
from virnuc_assets.encoders.dnabert_s import DNABERTSConfig
from virnuc_assets.encoders.esm2 import ESM2Config
from virnuc_assets.encoders.packed_model import Forward, PackedModel


def obstacle_to_fusing(
    attention: Attention, device: torch.device, dim: int, ffn_dim: int, head_dim: int
) -> str | None:
    """Why the plain layers must serve, or None if the fused ones can."""
    if attention.name != "triton":
        return f"attention is {attention.name}"
    if torch.cuda.get_device_capability(device)[0] != 9:
        return "fused layers are made for compute capability 9"
    if dim % 256 or ffn_dim % 256:
        return f"fused layers have widths of multiples of 256, not {dim} and {ffn_dim}"
    if head_dim != 64:
        return f"fused layers have heads of 64, not {head_dim}"
    return None


def load_fused(
    config: ESM2Config | DNABERTSConfig,
    state: Mapping[str, Tensor],
    attention: Attention,
    device: torch.device,
    dtype: torch.dtype,
    pooling_margin: int,
    float8_layers: range = range(0),
) -> PackedModel:
    """The fused layers of `config`'s architecture on `device`, from the plain ones' state.

    `dtype`: of activations. `float8_layers`: layers of ESM-2 whose products are in float8.
    """
    from virnuc_assets.encoders.fused_dnabert_s import FusedDNABERTS
    from virnuc_assets.encoders.fused_esm2 import FusedESM2
    from virnuc_assets.encoders.kernels.pooling import segment_means

    forward: Forward
    if isinstance(config, ESM2Config):
        forward = FusedESM2(config, state, attention, device, dtype, float8_layers)
    else:
        forward = FusedDNABERTS(config, state, attention, device, dtype)
    return PackedModel(forward, attention, device, pooling_margin, segment_means)
