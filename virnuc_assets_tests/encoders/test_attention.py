"""Every backend against attention written out, one segment at a time, in float64."""

import math

import numpy as np
import pytest
import torch

from virnuc_assets.encoders import attention
from virnuc_assets.encoders.attention import BACKENDS, SDPA, Attention, choose_backend
from virnuc_assets.encoders.tiles import PLANS, make_tiles
from virnuc_assets.errors import BackendError

CPU = torch.device("cpu")
NO_CUDA = not torch.cuda.is_available()
# Segments of a pack, in order: mixed, with one-token ones; one alone; nothing but the shortest.
PACKS = {
    "mixed": [200, 129, 128, 127, 64, 64, 64, 3, 1, 1, 1],
    "one sequence": [384],
    "all shortest": [1] * 96,
    "any order": [5, 90, 5, 5, 1, 150],
    "ragged end": [300, 129, 90],
    "longest": [777, 1022, 1],
}


def plain_attention(q, k, v, lengths, slopes) -> torch.Tensor:
    out = torch.empty_like(q, dtype=torch.float64)
    start = 0
    for length in lengths:
        here = slice(start, start + length)
        qs, ks, vs = (x[here].double().transpose(0, 1) for x in (q, k, v))
        scores = qs @ ks.transpose(1, 2) / math.sqrt(q.shape[-1])
        if slopes is not None:
            place = torch.arange(length, device=q.device)
            scores = scores - slopes.double()[:, None, None] * (place[:, None] - place).abs()
        out[here] = (scores.softmax(-1) @ vs).transpose(0, 1)
        start += length
    return out


def difference(backend: Attention, lengths, device, dtype, heads=4, head_dim=32, alibi=False):
    """Largest difference from the reference, on the same (already rounded) inputs."""
    generator = torch.Generator().manual_seed(len(lengths))
    shape = (3, sum(lengths), heads, head_dim)
    q, k, v = torch.randn(shape, generator=generator).to(device, dtype)
    slopes = torch.rand(heads, generator=generator).to(device) if alibi else None
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    segments = backend.segments(cu_seqlens, max(lengths), device)
    out = backend.varlen(q, k, v, segments, slopes)
    assert out.shape == q.shape
    assert out.dtype == dtype
    return (out.double() - plain_attention(q, k, v, lengths, slopes)).abs().max().item()


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("pack", PACKS)
def test_sdpa_on_the_cpu_equals_the_reference(pack, alibi):
    backend = choose_backend("sdpa", CPU, torch.float32, needs_alibi=alibi, head_dim=32)
    assert difference(backend, PACKS[pack], CPU, torch.float32, alibi=alibi) <= 2e-6


@pytest.mark.parametrize(("heads", "width"), [(12, 4), (12, 64), (20, 16)])
@pytest.mark.parametrize("alibi", [False, True])
def test_sdpa_on_the_cpu_has_the_same_bits_for_a_segment_beside_others_of_its_length(
    heads, width, alibi
):
    cpu = torch.device("cpu")
    slopes = torch.linspace(0.1, 1, heads) if alibi else None
    generator = torch.Generator().manual_seed(0)
    for length in range(2, 40):
        q, k, v = torch.randn(4 * length, 3, heads, width, generator=generator).unbind(1)

        def attend(first: int, last: int, length: int = length, qkv=(q, k, v)) -> torch.Tensor:
            boundaries = np.arange(last - first + 1, dtype=np.int32) * length
            parts = (x[first * length : last * length] for x in qkv)
            return SDPA.varlen(*parts, SDPA.segments(boundaries, length, cpu), slopes)

        alone = torch.cat([attend(number, number + 1) for number in range(4)])
        assert torch.equal(attend(0, 4), alone), length


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("pack", PACKS)
def test_flex_attention_masks_blocks_as_the_reference_does(pack, alibi, monkeypatch):
    # Uncompiled, FlexAttention runs on the CPU too: what is tested is our mask and our bias.
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr(attention, "_flex_attention", lambda: flex_attention)
    backend = Attention("flex", "test", attention._flex)
    assert difference(backend, PACKS[pack], CPU, torch.float32, alibi=alibi) <= 2e-6


@pytest.mark.parametrize("pack", PACKS)
def test_flex_attention_visits_every_block_with_a_pair_in_one_segment_and_no_other(pack):
    lengths = PACKS[pack]
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    segment = np.repeat(np.arange(len(lengths)), lengths)
    blocks = -(-len(segment) // 128)
    needed = np.zeros((blocks, blocks), dtype=bool)
    for i, j in np.argwhere(segment[:, None] == segment[None, :]):
        needed[i // 128, j // 128] = True

    visited = attention._block_mask(cu_seqlens, CPU).to_dense()[0, 0].numpy().astype(bool)

    assert np.array_equal(visited, needed)


def test_auto_takes_sdpa_on_the_cpu_and_says_why(caplog):
    with caplog.at_level("INFO"):
        backend = choose_backend("auto", CPU, torch.float32, needs_alibi=True, head_dim=64)
    assert backend.name == "sdpa"
    assert backend.reason == "auto; not triton, flash-attn, torch-varlen, flex: needs a CUDA device"
    assert "attention backend sdpa" in caplog.text


@pytest.mark.parametrize("name", ["triton", "flash-attn", "torch-varlen", "flex"])
def test_a_forced_backend_that_cannot_serve_says_why(name):
    with pytest.raises(BackendError, match=f"attention={name}: can't serve .*needs a CUDA device"):
        choose_backend(name, CPU, torch.float32, needs_alibi=False, head_dim=64)


def test_a_trial_finds_a_build_without_the_kernel():
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("no kernel for heads of 48\nand a long trace")

    settings = (CPU, torch.float32, True, 48)
    found = attention.trial(Attention("flash-attn", "test", broken), *settings)
    assert found == "fails here with 'no kernel for heads of 48'"
    assert attention.trial(Attention("sdpa", "test", attention._sdpa), *settings) is None


def test_the_trial_has_a_segment_for_each_plan_of_our_own_kernels():
    boundaries = np.cumsum([0, *attention._TRIAL_LENGTHS]).astype(np.int32)
    assert [len(tiles) > 0 for tiles in make_tiles(boundaries)] == [True] * len(PLANS)


def test_a_backend_that_fails_its_trial_is_passed_over_and_the_failure_recorded(monkeypatch):
    failures = dict.fromkeys(("triton", "flash-attn"), "fails here with 'no kernel'")
    monkeypatch.setattr(attention, "find_spec", lambda _: True)
    monkeypatch.setattr(attention, "trial", lambda backend, *_: failures.get(backend.name))
    gpu = torch.device("cuda")

    backend = choose_backend("auto", gpu, torch.float16, needs_alibi=False, head_dim=64)

    assert backend.name == "torch-varlen"
    assert backend.reason == "auto; not triton, flash-attn: fails here with 'no kernel'"
    with pytest.raises(BackendError, match="fails here with 'no kernel'"):
        choose_backend("flash-attn", gpu, torch.float16, needs_alibi=False, head_dim=64)


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(BackendError, match=r"no such backend; use auto or one of triton, "):
        choose_backend("xformers", CPU, torch.float32, needs_alibi=False, head_dim=64)


@pytest.mark.gpu
@pytest.mark.skipif(NO_CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", BACKENDS)
def test_each_backend_on_the_gpu_equals_the_reference(name, dtype, pack, alibi):
    torch.compiler.reset()  # each pack is a shape of its own, and flex keeps eight of them
    device = torch.device("cuda")
    try:
        backend = choose_backend(name, device, dtype, needs_alibi=alibi, head_dim=64)
    except BackendError as error:
        pytest.skip(str(error))
    # Half an ulp of values up to 4 in the output, and the rounding of probabilities and bias.
    tolerance = {torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    worst = difference(backend, PACKS[pack], device, dtype, heads=12, head_dim=64, alibi=alibi)
    assert worst <= tolerance


@pytest.mark.gpu
@pytest.mark.skipif(NO_CUDA, reason="needs a CUDA device")
def test_on_the_gpu_half_precision_takes_our_kernels_and_float32_takes_sdpa():
    device = torch.device("cuda")
    for alibi in (False, True):
        half = choose_backend("auto", device, torch.float16, needs_alibi=alibi, head_dim=64)
        assert half.name == "triton"
    odd = choose_backend("auto", device, torch.float16, needs_alibi=False, head_dim=24)
    assert "not triton: has no heads of 24" in odd.reason
    single = choose_backend("auto", device, torch.float32, needs_alibi=True, head_dim=64)
    assert single.name == "sdpa"
    with pytest.raises(BackendError, match="has no ALiBi"):
        choose_backend("torch-varlen", device, torch.float16, needs_alibi=True, head_dim=64)
    with pytest.raises(BackendError, match="needs float16 or bfloat16"):
        choose_backend("flex", device, torch.float32, needs_alibi=True, head_dim=64)
