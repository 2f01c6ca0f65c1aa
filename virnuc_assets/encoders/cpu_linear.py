"""Linear layers on the CPU whose weights are laid out for the processor once, at load.

PyTorch's own linear layer has its library lay the weights out again in every call, or does without.
oneDNN takes weights that lie as it wants them; torch.compile's CPU backend calls it the same way.
"""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger(__name__)

# Products of fewer rows are computed as ones of so many: one row alone would be a product of a
# matrix and a vector, whose sums run in another order.
_LEAST_ROWS = 16
_TRIAL = (_LEAST_ROWS, 64, 48)


class LaidOutLinear(nn.Module):
    """x·Wᵀ + b for x (T, k), by oneDNN, from a plain linear layer of float32 or bfloat16.

    A row's result does not depend on the other rows, nor on how many there are.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # An opaque layout: no parameter that could be moved, cast or saved.
        self.laid_out = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, k) to (T, n)."""
        rows = x.shape[0]
        if rows < _LEAST_ROWS:
            x = F.pad(x, (0, 0, 0, _LEAST_ROWS - rows))
        y = torch.ops.mkldnn._linear_pointwise(x, self.laid_out, self.bias, "none", [], "")
        assert isinstance(y, Tensor)
        return y[:rows]


def lay_out_linears(module: nn.Module, dtype: torch.dtype) -> str | None:
    """Replace the linear layers in `module`, on the CPU; why they stay, or None if replaced."""
    obstacle = _obstacle(dtype)
    if obstacle is not None:
        log.warning("products on the CPU are PyTorch's own (%s)", obstacle)
        return obstacle
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, LaidOutLinear(child))
    return None


def _obstacle(dtype: torch.dtype) -> str | None:
    """Why oneDNN can't serve, or None if it computed one small product as PyTorch does."""
    if dtype not in (torch.float32, torch.bfloat16):
        return f"oneDNN serves float32 and bfloat16, not {str(dtype).removeprefix('torch.')}"
    if not torch.backends.mkldnn.is_available():
        return "this build of PyTorch has no oneDNN"
    rows, width, columns = _TRIAL
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, width, generator=generator).to(dtype)
    linear = nn.Linear(width, columns, dtype=dtype, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        try:
            found = LaidOutLinear(linear)(x)
        except (AttributeError, NotImplementedError, RuntimeError) as error:
            return f"oneDNN fails here with {(str(error).splitlines() or [repr(error)])[0]!r}"
        expected = linear(x)
    # A few roundings of sums of 64 products.
    tolerance = 64 * torch.finfo(dtype).eps
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
        return "oneDNN's products differ from PyTorch's here"
    return None
