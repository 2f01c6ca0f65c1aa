"""What a card reaches on a model's matrix products and nothing else."""

from __future__ import annotations

import logging
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from virnuc_assets.encoders.arithmetic import Config, product_shapes
from virnuc_assets.encoders.token_budget import is_out_of_memory

log = logging.getLogger(__name__)

# Weights of so many layers in turn, so that those of a small model are not all in the cache.
_LAYERS = 4


@torch.inference_mode()
def gemm_ceiling(
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
    token_budget: int,
    seconds: float = 1.0,
) -> float | None:
    """FLOP/s of the products of `config`'s layers on `token_budget` tokens, by PyTorch's library.

    Inputs are random: a card draws less power on zeros and runs faster. It is measured for
    `seconds` from idle; a card that warms up may run slower later. None on the CPU, where nobody
    waits for the figure and measuring it would take longer than small jobs; and where memory does
    not hold the products' operands beside the model.
    """
    if device.type != "cuda":
        return None
    shapes = product_shapes(config) * min(_LAYERS, config.layers)
    try:
        weights = [torch.randn(shape, device=device, dtype=dtype) for shape in shapes]
        inputs = {
            width: torch.randn(token_budget, width, device=device, dtype=dtype)
            for width in {width for _, width in shapes}
        }

        with torch.cuda.device(device):
            taken, passes = _timed(weights, inputs, seconds)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.warning("no ceiling of products is measured: memory does not hold their operands")
        return None
    work = 2.0 * token_budget * sum(n * k for n, k in shapes)
    return passes * work / taken


def _timed(weights: list[Tensor], inputs: dict[int, Tensor], seconds: float) -> tuple[float, int]:
    """How long so many passes over all products took, after one to warm up."""

    def launch() -> torch.cuda.Event:
        for weight in weights:
            F.linear(inputs[weight.shape[1]], weight)
        done = torch.cuda.Event()
        done.record()
        return done

    launch().synchronize()
    began, passes, previous = time.perf_counter(), 1, launch()
    while time.perf_counter() - began < seconds:
        # One pass waits on the device while another runs, so that it is never idle.
        following = launch()
        previous.synchronize()
        previous = following
        passes += 1
    previous.synchronize()
    return time.perf_counter() - began, passes
