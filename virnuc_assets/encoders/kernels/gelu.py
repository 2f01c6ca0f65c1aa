"""GELU with the error function, for other kernels to call."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gelu(x):
    """x·Φ(x) of float32 values.

    x·Φ(x) = max(x, 0) − |x|·Φ(−|x|), and log2 Φ(−t) is so nearly quadratic that a polynomial of
    degree six (least squares on [0, 6]) gives the product within 5e-7 of float64, closer than
    torch's own float32 GELU (1.2e-6), in a third of erf's instructions. Beyond 6 what is left of
    the second term is below half precision's smallest number. NaN stays NaN, so that an overflow
    is seen.
    """
    t = tl.minimum(tl.abs(x), 6.0, propagate_nan=tl.PropagateNan.ALL)
    log_phi = 3.291043685749173e-05 * t - 0.0007622028351761401
    log_phi = log_phi * t + 0.008038905449211597
    log_phi = log_phi * t - 0.05331529304385185
    log_phi = log_phi * t - 0.4588716924190521
    log_phi = log_phi * t - 1.1511566638946533
    log_phi = log_phi * t - 0.9999996423721313
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL) - t * tl.exp2(log_phi)
