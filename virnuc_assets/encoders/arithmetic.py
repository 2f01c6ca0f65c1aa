"""How much arithmetic a model is, in floating-point operations."""

from __future__ import annotations

import numpy as np

from virnuc_assets.encoders.dnabert_s import DNABERTSConfig
from virnuc_assets.encoders.esm2 import ESM2Config

Config = ESM2Config | DNABERTSConfig


def product_shapes(config: Config) -> list[tuple[int, int]]:
    """Shapes (n, k) of the weights of one layer's products x·Wᵀ, in order."""
    d, f = config.dim, config.ffn_dim
    gates = 2 if isinstance(config, DNABERTSConfig) else 1
    return [(3 * d, d), (d, d), (gates * f, d), (d, f)]


def flops_of_a_token(config: Config) -> float:
    """Of all layers' products: a multiplication and an addition for each weight."""
    return 2.0 * config.layers * sum(n * k for n, k in product_shapes(config))


def flops(config: Config, lengths: np.ndarray) -> float:
    """Of embedding sequences of `lengths` tokens each, special tokens included.

    2·N·T of the products (N their weights, T tokens) and 4·L²·d of attention a layer: 2·L²·d each
    for queries by keys and for probabilities by values (Kaplan et al. 2020, arXiv:2001.08361,
    table 1, with attention to both sides). Norms, GELU and the like are left out, as is usual.
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    attention = 4.0 * config.layers * config.dim * float((tokens**2).sum())
    return flops_of_a_token(config) * float(tokens.sum()) + attention
