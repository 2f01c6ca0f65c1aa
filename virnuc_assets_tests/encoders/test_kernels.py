"""Every kernel against the same function written plainly in float64, on the same rounded inputs.

Attention's kernels are tested as a backend, in `test_attention.py`.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from virnuc_assets.encoders.esm2 import rotary_angles
from virnuc_assets.encoders.folding import interleave_gate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# Rows that are no multiple of a tile, one row alone, and several tiles.
ROWS = [1, 100, 128, 700]
# The same at a small width, and the width of ESM-2 3B with more tiles than a card computes at once.
each_shape = pytest.mark.parametrize(
    ("rows", "width"), [*((rows, 512) for rows in ROWS), (4200, 2560)]
)


@pytest.fixture
def draw():
    generator = torch.Generator(device="cuda" if torch.cuda.is_available() else "cpu")
    generator.manual_seed(0)

    def normal(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float16) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, device=generator.device)
        return (scale * drawn).to(dtype)

    return normal


def assert_half_of(y: Tensor, expected: Tensor) -> None:
    """One rounding to half precision, and float32 sums before it."""
    torch.testing.assert_close(y.double(), expected, rtol=1e-3, atol=1e-4)


def assert_float8_of(y, expected: Tensor) -> None:
    """Three mantissa bits: 2^-4 of a value, or of the smallest normal number of its row's scale."""
    error = (y.values.double() * y.scales - expected).abs()
    smallest = y.scales.double() * 2.0**-6
    assert (error <= 2**-4 * 1.001 * torch.maximum(expected.abs(), smallest)).all()
    largest = expected.abs().amax(1, keepdim=True)
    torch.testing.assert_close(y.scales.double() * 448, largest, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_shape
def test_gelu_linear(rows, width, dtype, draw):
    from virnuc_assets.encoders.kernels.linear import gelu_linear

    columns, scale = {512: 768, 2560: 2560}[width], 2 * width**-0.5
    x, weight = draw(rows, width, dtype=dtype), draw(columns, width, scale=scale, dtype=dtype)
    bias = draw(columns, dtype=torch.float32)
    y = gelu_linear(x, weight, bias)
    expected = F.gelu(F.linear(x.double(), weight.double(), bias.double()))
    if dtype == torch.float16:
        assert_half_of(y, expected)
    else:
        torch.testing.assert_close(y.double(), expected, rtol=8e-3, atol=1e-4)


def test_gelu_keeps_what_is_not_finite(draw):
    from virnuc_assets.encoders.kernels.linear import gelu_linear

    x = torch.zeros(4, 256, device="cuda", dtype=torch.float16)
    x[1, 3], x[2, 3] = float("nan"), float("inf")
    weight = torch.eye(256, device="cuda", dtype=torch.float16)
    y = gelu_linear(x, weight, torch.zeros(256, device="cuda"))
    assert torch.isfinite(y).all(1).tolist() == [True, False, False, True]


@each_shape
def test_geglu_linear(rows, width, draw):
    from virnuc_assets.encoders.kernels.linear import geglu_linear

    columns = {512: 384, 2560: 2560}[width]
    x, weight = draw(rows, width), draw(2 * columns, width, scale=2 * width**-0.5)
    y = geglu_linear(x, interleave_gate(weight))
    gate, value = F.linear(x.double(), weight.double()).chunk(2, dim=1)
    assert_half_of(y, F.gelu(gate) * value)


@each_shape
def test_rotary_linear(rows, width, draw):
    from virnuc_assets.encoders.kernels.linear import Rotary, rotary_linear

    dim, head_dim = width, 64
    x, weight = draw(rows, dim), draw(3 * dim, dim, scale=2 * dim**-0.5)
    bias = draw(3 * dim).float()
    positions = torch.arange(rows, device="cuda", dtype=torch.int32) * 7 % 300
    cos, sin = rotary_angles(torch.arange(300, device="cuda"), head_dim)
    half = head_dim // 2
    tables = (table[:, 0, :half].contiguous() for table in (cos, sin))

    y = rotary_linear(x, weight, bias, Rotary(positions, *tables), torch.float16)

    expected = F.linear(x.double(), weight.double(), bias.double())
    pairs = expected[:, : 2 * dim].unflatten(1, (-1, half, 2))
    c, s = (table[positions.long(), :, :half].double() for table in (cos, sin))
    a, b = pairs.unbind(3)
    turned = torch.stack([a * c - b * s, b * c + a * s], dim=3).flatten(1)
    assert_half_of(y, torch.cat([turned, expected[:, 2 * dim :]], dim=1))


@each_shape
def test_add_linear_float8(rows, width, draw):
    from virnuc_assets.encoders.kernels.float8 import quantise_rows
    from virnuc_assets.encoders.kernels.linear import add_linear_float8_

    columns = {512: 256, 2560: 2560}[width]
    x, weight = quantise_rows(draw(rows, width)), quantise_rows(draw(columns, width))
    stream = draw(rows, columns)
    y = add_linear_float8_(stream.clone(), x, weight)
    product = (x.values.double() * x.scales) @ (weight.values.double() * weight.scales).t()
    # Hopper adds float8 products with about 14 bits, so that the error grows with their number.
    # The worst of ten million sums was seen at 0.68 for a width of 2560.
    tolerance = 0.15 * width / 512
    torch.testing.assert_close(y.double(), stream.double() + product, rtol=2e-3, atol=tolerance)


@pytest.mark.parametrize("width", [768, 2560])
@pytest.mark.parametrize("rows", ROWS)
def test_layer_norm(rows, width, draw):
    from virnuc_assets.encoders.kernels.norm import layer_norm, layer_norm_float8

    x, offset = draw(rows, width, scale=3), draw(width, dtype=torch.float32)
    affine = draw(width, dtype=torch.float32), draw(width, dtype=torch.float32)
    total = x.double() + offset.double()
    bare = F.layer_norm(total, (width,), eps=1e-5)

    assert_half_of(layer_norm(x, offset, 1e-5), bare)
    assert_float8_of(layer_norm_float8(x, offset, 1e-5), bare)
    y = layer_norm(x, offset, 1e-5, affine, out=x)
    assert y is x
    assert_half_of(y, bare * affine[0].double() + affine[1].double())


@pytest.mark.parametrize("rows", ROWS)
def test_a_norm_may_write_the_sum_back(rows, draw):
    from virnuc_assets.encoders.kernels.norm import layer_norm, layer_norm_float8

    x, offset = draw(rows, 2560, scale=3), draw(2560, dtype=torch.float32)
    total = x.double() + offset.double()
    for norm in (layer_norm, layer_norm_float8):
        stream = x.clone()
        norm(stream, offset, 1e-5, write_back=True)
        assert_half_of(stream, total)


@pytest.mark.parametrize("rows", ROWS)
def test_rows_in_float8(rows, draw):
    from virnuc_assets.encoders.kernels.float8 import gelu_float8, quantise_rows

    x = draw(rows, 1280, scale=2)
    x[0] = 0
    assert_float8_of(
        quantise_rows(x[1:] if rows > 1 else x + 1), (x[1:] if rows > 1 else x + 1).double()
    )
    assert_float8_of(gelu_float8(x + 1), F.gelu((x + 1).double()))
    zeros = quantise_rows(torch.zeros_like(x))
    assert (zeros.values.float() == 0).all()


@pytest.mark.parametrize("width", [768, 2560])
def test_means_of_ranges(width, draw):
    from virnuc_assets.encoders.kernels.pooling import segment_means

    hidden = draw(1000, width, scale=3)
    bounds = np.array([0, 1, 1, 9, 10, 17, 20, 900, 999, 1000])
    means = segment_means(hidden, bounds)
    expected = torch.stack([hidden[a:b].double().mean(0) for a, b in bounds.reshape(-1, 2)])
    assert means.dtype == torch.float32
    torch.testing.assert_close(means.double(), expected, rtol=1e-6, atol=1e-6)


def test_a_mean_is_the_same_bits_wherever_its_range_lies(draw):
    from virnuc_assets.encoders.kernels.pooling import segment_means

    content = draw(53, 768)
    hidden = draw(400, 768)
    hidden[7:60] = hidden[200:253] = content
    first, second = segment_means(hidden, np.array([7, 60, 200, 253]))
    assert torch.equal(first, second)
