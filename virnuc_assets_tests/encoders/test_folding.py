"""Folded weights against the layers they replace."""

import torch
import torch.nn.functional as F

from virnuc_assets.encoders.esm2 import rotary_angles, rotate
from virnuc_assets.encoders.folding import fold_norm, interleave_gate, interleave_pairs


def test_a_folded_norm_is_the_norm_and_the_layer():
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, norm_weight, norm_bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).float()
        for shape in ((7, 48), (20, 48), (20,), (48,), (48,))
    )
    folded, offset = fold_norm(weight, bias, norm_weight, norm_bias)
    expected = F.linear(F.layer_norm(x, (48,), norm_weight, norm_bias), weight, bias)
    torch.testing.assert_close(
        F.linear(F.layer_norm(x, (48,)), folded, offset), expected, atol=2e-5, rtol=0
    )


def test_pairs_of_a_rotation_lie_side_by_side():
    heads, width, tokens, dim = 3, 8, 5, 16
    rows = torch.randn(heads * width, dim, generator=torch.Generator().manual_seed(0))
    x = torch.randn(tokens, dim, generator=torch.Generator().manual_seed(1))
    cos, sin = rotary_angles(torch.arange(tokens), width)
    rotated = rotate(F.linear(x, rows).unflatten(1, (heads, width)), cos, sin)

    a, b = F.linear(x, interleave_pairs(rows, width)).unflatten(1, (heads, width // 2, 2)).unbind(3)
    cos, sin = cos[..., : width // 2], sin[..., : width // 2]

    first, second = rotated.chunk(2, dim=2)
    torch.testing.assert_close(a * cos - b * sin, first)
    torch.testing.assert_close(b * cos + a * sin, second)


def test_gates_and_values_alternate():
    rows = torch.arange(8).float()[:, None].expand(8, 2)
    assert interleave_gate(rows)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
