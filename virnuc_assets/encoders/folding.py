"""Weights rewritten so that fewer passes over the activations are needed; the same function."""

from __future__ import annotations

from torch import Tensor


def fold_norm(
    weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Weight and bias, float32, of a linear layer that takes a layer norm's bare result.

    (x·w + c)·Wᵀ + b = x·(W·diag(w))ᵀ + (b + W·c).
    """
    weight = weight.float()
    return weight * norm_weight.float(), bias.float() + weight @ norm_bias.float()


def interleave_pairs(rows: Tensor, head_dim: int) -> Tensor:
    """Rows of a query or key projection, those side by side that a rotation pairs.

    A rotary embedding turns element i of a head with element i + Dh/2. Queries and keys whose
    elements are in the same new order have the products they had.
    """
    heads = rows.unflatten(0, (-1, 2, head_dim // 2))
    return heads.transpose(1, 2).flatten(0, 2).contiguous()


def interleave_gate(rows: Tensor) -> Tensor:
    """Rows of a gated layer, gate and value in turn where the first half was gates."""
    return rows.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1).contiguous()
