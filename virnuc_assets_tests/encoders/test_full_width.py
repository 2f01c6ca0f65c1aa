"""The fused layers at the widths and the token budget that they run at, two layers deep."""

from functools import partial

import numpy as np
import pytest
import torch

from virnuc_assets.encoders.attention import SDPA, choose_backend
from virnuc_assets.encoders.dnabert_s import DNABERTS, DNABERTSConfig
from virnuc_assets.encoders.esm2 import ESM2, ESM2Config
from virnuc_assets.encoders.fusing import load_fused, obstacle_to_fusing
from virnuc_assets.encoders.in_flight import launch
from virnuc_assets.encoders.packed_model import PackedModel, load_model
from virnuc_assets.encoders.packing import Frame, Items, make_packs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TOKEN_BUDGET = 16896
FRAME = Frame(first=0, last=2, padding=1)
CONFIGS = {
    "esm2": ESM2Config(layers=2, dim=2560, heads=40, ffn_dim=10240),
    "dnabert-s": DNABERTSConfig(layers=2, dim=768, heads=12, ffn_dim=3072, vocabulary=4096),
}
# Encoder, what its activations are in, and which of its layers are in float8.
ENGINES = {
    "esm2, float16": ("esm2", torch.float16, range(0)),
    "esm2, bfloat16": ("esm2", torch.bfloat16, range(0)),
    "esm2, fp8": ("esm2", torch.float16, range(2)),
    "dnabert-s, float16": ("dnabert-s", torch.float16, range(0)),
}


def random_state(name: str) -> dict[str, torch.Tensor]:
    """Random weights whose products keep their input's scale, on the GPU."""
    generator = torch.Generator(device="cuda").manual_seed(5)
    with torch.device("meta"):
        module = (ESM2 if name == "esm2" else DNABERTS)(CONFIGS[name], SDPA)
    state = {}
    for key, tensor in module.state_dict().items():
        drawn = torch.randn(tensor.shape, generator=generator, device="cuda")
        if tensor.dim() == 2:
            state[key] = drawn * (0.5 if key == "embed.weight" else tensor.shape[1] ** -0.5)
        else:
            state[key] = 0.1 * drawn + ("norm.weight" in key)
    return state


@pytest.fixture(scope="module", params=ENGINES)
def engine(request) -> tuple[str, PackedModel, PackedModel]:
    """The encoder's name, its fused layers and its plain ones in float32."""
    name, dtype, float8_layers = ENGINES[request.param]
    config, state, device = CONFIGS[name], random_state(name), torch.device("cuda")
    attention = choose_backend(
        "auto", device, dtype, needs_alibi=name == "dnabert-s", head_dim=config.head_dim
    )
    obstacle = obstacle_to_fusing(attention, device, config.dim, config.ffn_dim, config.head_dim)
    if obstacle is not None:
        pytest.skip(obstacle)
    margin = 1 if name == "esm2" else 0
    fused = load_fused(config, state, attention, device, dtype, margin, float8_layers)
    architecture = partial(ESM2 if name == "esm2" else DNABERTS, config)
    plain = load_model(architecture, state, SDPA, device, torch.float32, margin)
    return request.param, fused, plain


@pytest.fixture(scope="module")
def proteins() -> list[np.ndarray]:
    """Contents of all lengths, in random order, for about three packs; ids that both know."""
    rng = np.random.default_rng(7)
    lengths = np.concatenate([[1, 2, 30, 31, 62, 126, 254, 510], rng.integers(1, 511, 180)])
    return [rng.integers(4, 24, int(n)).astype(np.int32) for n in rng.permutation(lengths)]


def embed(model: PackedModel, contents: list[np.ndarray]) -> np.ndarray:
    lengths = np.array([len(content) for content in contents])
    ends = np.cumsum(lengths)
    rows = np.arange(len(contents))
    items = Items(np.concatenate(contents), ends - lengths, lengths, rows, 0, 0)
    means: list[np.ndarray | None] = [None] * len(contents)
    for pack in make_packs(items, FRAME, TOKEN_BUDGET):
        for item, mean in zip(pack.items, launch(model, pack).wait(), strict=True):
            means[item] = mean
    return np.stack(means)


def test_a_sequence_is_the_same_bits_in_any_pack(engine, proteins):
    _, fused, _ = engine
    reference = embed(fused, proteins)
    assert np.isfinite(reference).all()
    shuffled = np.random.default_rng(8).permutation(len(proteins))
    assert np.array_equal(embed(fused, [proteins[i] for i in shuffled]), reference[shuffled])
    for some in (slice(0, 1), slice(5, 12), slice(90, 188)):
        assert np.array_equal(embed(fused, proteins[some]), reference[some])
    # Beside sequences of one length alone, and again: nothing is left over from the pack before.
    beside = [*proteins[:3], *(proteins[20][:1] for _ in range(500))]
    assert np.array_equal(embed(fused, beside)[:3], reference[:3])
    assert np.array_equal(embed(fused, proteins), reference)


def test_embeddings_point_where_plain_layers_in_float32_do(engine, proteins):
    name, fused, plain = engine
    a, b = (embed(model, proteins[:60]).astype(np.float64) for model in (fused, plain))
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    least = {"esm2, bfloat16": 0.999, "esm2, fp8": 0.99}.get(name, 0.99999)
    assert cosines.min() > least
