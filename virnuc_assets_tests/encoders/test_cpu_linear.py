"""Linear layers by oneDNN against PyTorch's, and against themselves with other rows beside."""

import pytest
import torch
from torch import nn

from virnuc_assets.encoders import cpu_linear
from virnuc_assets.encoders.cpu_linear import LaidOutLinear, lay_out_linears

WIDTHS = [(480, 1440), (480, 480), (1920, 480), (100, 77)]
each_width = pytest.mark.parametrize(("width", "columns"), WIDTHS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture
def linear():
    """A random linear layer, without gradients."""

    def make(width: int, columns: int, dtype: torch.dtype, bias: bool = True) -> nn.Linear:
        torch.manual_seed(width + columns)
        return nn.Linear(width, columns, bias=bias, dtype=dtype).requires_grad_(False)

    return make


@each_dtype
@each_width
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_that_of_the_plain_layer(width, columns, bias, dtype, linear):
    plain = linear(width, columns, dtype, bias)
    x = torch.randn(300, width).to(dtype)
    expected = nn.functional.linear(
        x.double(), plain.weight.double(), plain.bias.double() if bias else None
    )
    # Sums in float32 of products below 1, rounded to the result's type once.
    tolerance = {torch.float32: 2e-6, torch.bfloat16: 2**-8}[dtype]
    found = LaidOutLinear(plain)(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@each_dtype
@each_width
def test_a_row_is_the_same_bits_whatever_is_beside_it(width, columns, dtype, linear):
    laid_out = LaidOutLinear(linear(width, columns, dtype))
    x = torch.randn(1100, width).to(dtype)
    whole = laid_out(x)
    for rows in (1, 2, 3, 15, 16, 17, 100, 512, 1024):
        assert torch.equal(laid_out(x[:rows]), whole[:rows])
        assert torch.equal(laid_out(x[7 : 7 + rows]), whole[7 : 7 + rows])


def test_every_linear_layer_of_a_module_is_replaced_and_nothing_else(linear):
    module = nn.Sequential(linear(64, 32, torch.float32), nn.LayerNorm(32), nn.Sequential())
    module[2].append(linear(32, 16, torch.float32, bias=False))
    module.requires_grad_(False)
    x = torch.randn(20, 64)
    expected = module(x)

    assert lay_out_linears(module, torch.float32) is None

    kinds = [type(layer) for layer in module.modules() if not list(layer.children())]
    assert kinds == [LaidOutLinear, nn.LayerNorm, LaidOutLinear]
    torch.testing.assert_close(module(x), expected, rtol=0, atol=2e-6)


def broken(*_: object) -> torch.Tensor:
    raise RuntimeError("could not create a primitive\nand more")


def wrong(linear: LaidOutLinear, x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(x), 48)


@pytest.mark.parametrize(
    ("name", "stand_in", "reason"),
    [
        ("forward", broken, "oneDNN fails here with 'could not create a primitive'"),
        ("forward", wrong, "oneDNN's products differ from PyTorch's here"),
    ],
)
def test_where_onednn_cannot_serve_the_plain_layers_stay_and_the_reason_is_logged(
    name, stand_in, reason, linear, monkeypatch, caplog
):
    monkeypatch.setattr(cpu_linear.LaidOutLinear, name, stand_in)
    module = nn.Sequential(linear(64, 32, torch.float32))
    assert lay_out_linears(module, torch.float32) == reason
    assert type(module[0]) is nn.Linear
    assert reason in caplog.text


def test_float16_stays_with_the_plain_layers(linear):
    module = nn.Sequential(linear(64, 32, torch.float16))
    assert lay_out_linears(module, torch.float16) == (
        "oneDNN serves float32 and bfloat16, not float16"
    )
    assert type(module[0]) is nn.Linear
