"""Model FLOPs against what PyTorch counts on the plain layers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from virnuc_assets.encoders.arithmetic import flops, flops_of_a_token
from virnuc_assets.encoders.attention import Attention, Segments
from virnuc_assets.encoders.ceiling import gemm_ceiling
from virnuc_assets.encoders.dnabert_s import DNABERTS, DNABERTSConfig
from virnuc_assets.encoders.esm2 import ESM2, ESM2Config

CPU = torch.device("cpu")
MODELS = {
    "esm2": (ESM2Config(layers=3, dim=48, heads=4, ffn_dim=192), ESM2),
    "dnabert-s": (DNABERTSConfig(layers=2, dim=24, heads=3, ffn_dim=64, vocabulary=40), DNABERTS),
}


def two_products(q, k, v, segments: Segments, alibi_slopes) -> torch.Tensor:
    """Attention by its two matrix products, one segment after another."""
    bounds = segments.cu_seqlens.tolist()
    out = []
    for start, end in pairwise(bounds):
        qs, ks, vs = (x[start:end].transpose(0, 1) for x in (q, k, v))
        out.append(((qs @ ks.transpose(1, 2)).softmax(-1) @ vs).transpose(0, 1))
    return torch.cat(out)


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_what_pytorch_counts(name):
    config, architecture = MODELS[name]
    lengths = np.array([3, 50, 7, 20])
    attention = Attention("sdpa", "test", two_products)
    model = architecture(config, attention)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    segments = attention.segments(cu_seqlens, 50, CPU)
    tokens = torch.zeros(int(lengths.sum()), dtype=torch.int32)
    with FlopCounterMode(display=False) as counter:
        model(tokens, tokens, segments)
    assert flops(config, lengths) == counter.get_total_flops()


def test_a_token_of_esm2_3b_costs_twice_the_weights_of_its_layers():
    config = ESM2Config(layers=36, dim=2560, heads=40, ffn_dim=10240)
    assert flops_of_a_token(config) == 2 * 36 * 12 * 2560**2
    assert flops(config, np.array([], dtype=int)) == 0


def test_there_is_no_ceiling_on_the_cpu():
    config, _ = MODELS["esm2"]
    assert gemm_ceiling(config, CPU, torch.float32, 1024) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_the_ceiling_is_measured():
    config = ESM2Config(layers=2, dim=1280, heads=20, ffn_dim=5120)
    found = gemm_ceiling(config, torch.device("cuda"), torch.float16, 16896, seconds=0.2)
    assert found is not None
    assert 1e12 < found < 1e16
