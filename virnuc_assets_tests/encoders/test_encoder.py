"""What an embedding may depend on: the sequence and the settings, and nothing around it."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from virnuc_assets.demo.models import LABEL, MODELS
from virnuc_assets.encoders.attention import BACKENDS
from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.errors import BackendError, SequenceError

ENCODERS = {"esm2": "ACDEFGHIKLMNPQRSTVWY", "dnabert-s": "ACGT"}
BUDGETS = [1024, 2048, 4096, 5000]
each_encoder = pytest.mark.parametrize("name", ENCODERS)


@pytest.fixture
def batch(sequences, mixed_lengths):
    """80 sequences of mixed lengths, some over the encoder's limit."""

    def make(name: str) -> list[str]:
        lengths = mixed_lengths(80, 2600 if name == "dnabert-s" else 1400, seed=3)
        return sequences(lengths, alphabet=ENCODERS[name], seed=4)

    return make


def test_the_encoders_import_with_torch_and_numpy_alone():
    extras = "esm tokenizers safetensors transformers huggingface_hub flash_attn dagster polars"
    code = (
        "import sys; import virnuc_assets.encoders.encoder; "
        f"print([name for name in '{extras}'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@each_encoder
def test_neighbours_order_and_budget_change_no_bit_of_a_sequence(name, demo_encoder, batch):
    inputs = batch(name)
    reference = demo_encoder(name, token_budget=4096).embed(inputs).values
    shuffled = np.random.default_rng(5).permutation(len(inputs))
    for budget in BUDGETS:
        encoder = demo_encoder(name, token_budget=budget)
        assert np.array_equal(encoder.embed(inputs).values, reference)
        again = encoder.embed([inputs[row] for row in shuffled]).values
        assert np.array_equal(again, reference[shuffled])
    encoder = demo_encoder(name, token_budget=1024)
    for row in (0, 1, 40, 79):
        assert np.array_equal(encoder.embed([inputs[row]]).values[0], reference[row])


def test_a_wider_model_keeps_its_bits_too(fair_esm_file, sequences, mixed_lengths):
    proteins = sequences(mixed_lengths(30, 500, seed=6))

    def embed(inputs: list[str], budget: int) -> np.ndarray:
        settings = EncoderSettings("esm2", str(fair_esm_file), token_budget=budget)
        return load_encoder(settings, weights_digest="known").embed(inputs).values

    reference = embed(proteins, 2048)
    assert np.array_equal(embed(proteins[::-1], 1024)[::-1], reference)
    assert np.array_equal(embed(proteins[:3], 4096), reference[:3])


@each_encoder
def test_equal_sequences_are_equal_and_different_ones_differ(name, demo_encoder, sequences):
    one, other = sequences([60, 60], alphabet=ENCODERS[name])
    values = demo_encoder(name).embed([one, other, one]).values
    assert np.array_equal(values[0], values[2])
    assert np.abs(values[0] - values[1]).max() > 0.01


@each_encoder
def test_no_sequences_give_no_rows(name, demo_encoder):
    embedded = demo_encoder(name).embed([])
    assert embedded.values.shape == (0, {"esm2": 64, "dnabert-s": 48}[name])
    assert (embedded.packs, embedded.tokens, embedded.slots) == (0, 0, 0)


@each_encoder
def test_an_empty_sequence_is_named_by_its_row(name, demo_encoder):
    with pytest.raises(SequenceError, match="row 2 cannot be embedded: it has no letters"):
        demo_encoder(name).embed(["ACGT", "AC", "", "A"])


def test_truncating_embeds_the_first_1022_residues(demo_encoder, sequences):
    (protein,) = sequences([1500])
    embedded = demo_encoder("esm2").embed([protein, protein[:1022], protein[:1023]])
    assert np.array_equal(embedded.values[0], embedded.values[1])
    assert np.array_equal(embedded.values[2], embedded.values[1])
    assert (embedded.truncated, embedded.windowed) == (2, 0)


def test_windowing_averages_windows_by_their_residues(demo_encoder, sequences):
    protein, short = sequences([2045, 30])
    encoder = demo_encoder("esm2", long_sequences="window")

    embedded = encoder.embed([protein, short])

    # 2045 residues need three windows: 682, 682 and 681 of them.
    parts = [protein[:682], protein[682:1364], protein[1364:]]
    values = encoder.embed([*parts, short]).values
    expected = np.average(values[:3].astype(float), axis=0, weights=[682, 682, 681])
    np.testing.assert_allclose(embedded.values[0], expected, rtol=1e-6, atol=1e-7)
    assert np.array_equal(embedded.values[1], values[3])
    assert (embedded.truncated, embedded.windowed) == (0, 1)


def test_dna_is_cut_to_512_tokens_with_its_special_tokens(demo_encoder, sequences):
    (read,) = sequences([4000], alphabet="ACGT")
    truncated = demo_encoder("dnabert-s").embed([read])
    assert (truncated.tokens, truncated.truncated) == (512, 1)
    windowed = demo_encoder("dnabert-s", long_sequences="window").embed([read])
    assert (windowed.truncated, windowed.windowed) == (0, 1)
    assert windowed.tokens > 1024


@each_encoder
def test_counts_add_up(name, demo_encoder, batch):
    embedded = demo_encoder(name, token_budget=1024).embed(batch(name))
    assert embedded.slots == 1024 * embedded.packs
    assert 0.5 < embedded.tokens / embedded.slots <= 1
    assert embedded.redone_in_float32 == 0
    assert embedded.values.dtype == np.float32


@each_encoder
def test_half_precision_stays_close_to_float32(name, demo_encoder, batch):
    inputs = batch(name)[:20]
    full = demo_encoder(name, token_budget=1024).embed(inputs).values
    for dtype, cosine in (("float16", 0.99999), ("bfloat16", 0.999)):
        half = demo_encoder(name, dtype=dtype, token_budget=1024).embed(inputs).values
        assert half.dtype == np.float32
        assert cosines(half, full).min() > cosine


@pytest.fixture
def demo_with(tmp_path):
    """A copy of the demo ESM-2; each call changes one more of its tensors."""
    source = MODELS / "esm2"
    tensors = load_file(source / "model.safetensors")

    def write(name: str, change) -> str:
        tensors[name] = change(tensors[name].float())
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text((source / "config.json").read_text())
        return str(tmp_path)

    return write


def test_a_pack_that_overflows_float16_is_redone_in_float32_and_counted(
    demo_with, sequences, caplog
):
    # The residual stream passes 65 504 in the second layer; the final norm takes the offset off.
    demo_with("encoder.layer.0.output.dense.bias", lambda bias: torch.full_like(bias, 4e4))
    folder = demo_with("encoder.layer.1.output.dense.bias", lambda b: torch.full_like(b, 4e4))
    proteins = sequences([50, 60, 1000, 900])
    settings = EncoderSettings("esm2", folder, token_budget=1024)
    full = load_encoder(settings).embed(proteins)

    half = load_encoder(dataclasses.replace(settings, dtype="float16")).embed(proteins)

    assert half.redone_in_float32 == len(proteins)
    assert "computed again in float32" in caplog.text
    assert np.array_equal(half.values, full.values)


def test_a_neighbour_that_overflows_changes_no_bit_of_the_others(demo_with, sequences):
    from virnuc_assets.encoders import alphabet

    tryptophan = alphabet.TOKENS.index("W")

    def enlarge(embedding: torch.Tensor) -> torch.Tensor:
        # Finite in float32, infinite in half precision.
        embedding[tryptophan] *= 1e6
        return embedding

    folder = demo_with("embeddings.word_embeddings.weight", enlarge)
    encoder = load_encoder(EncoderSettings("esm2", folder, dtype="float16", token_budget=1024))
    proteins = sequences([40, 50, 60], alphabet="ACDEFG")
    alone = encoder.embed(proteins)
    beside = encoder.embed([*proteins, "ACWCA"])
    assert alone.redone_in_float32 == 0
    assert beside.redone_in_float32 == 1
    assert np.isfinite(beside.values).all()
    assert np.array_equal(beside.values[:3], alone.values)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_sequence_that_is_not_finite_in_float32_is_named_by_its_row(dtype, demo_with, sequences):
    from virnuc_assets.encoders import alphabet

    tryptophan = alphabet.TOKENS.index("W")

    def poison(embedding: torch.Tensor) -> torch.Tensor:
        embedding[tryptophan] = float("inf")
        return embedding

    folder = demo_with("embeddings.word_embeddings.weight", poison)
    encoder = load_encoder(EncoderSettings("esm2", folder, dtype=dtype))
    proteins = sequences([40, 50, 60], alphabet="ACDEFG")
    with pytest.raises(SequenceError, match=r"row 1 cannot .* is not finite"):
        encoder.embed([proteins[0], proteins[1] + "W", proteins[2]])


def test_an_encoder_describes_itself(demo_encoder):
    description = demo_encoder("esm2", dtype="bfloat16", long_sequences="window").description
    assert description.label == LABEL
    assert (description.dim, description.layers, description.device) == (64, 2, "CPU")
    assert description.attention.startswith("sdpa (auto")
    assert description.engine == "plain (attention is sdpa)"
    assert description.token_budget == 4096
    assert len(description.weights_digest) == len(description.encoder_digest) == 64
    state = load_file(MODELS / "esm2" / "model.safetensors")
    assert description.parameters == sum(tensor.numel() for tensor in state.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda:99"}, "device=cuda:99: this machine has"),
        ({"device": "gpu"}, "device=gpu: no such device"),
        ({"device": "meta"}, "device=meta: can't serve"),
        ({"dtype": "float8"}, "dtype=float8: no such data type"),
        ({"dtype": "fp8"}, r"dtype=fp8: can't serve here \(attention is sdpa\); use dtype=float16"),
        ({"attention": "flash-attn"}, "attention=flash-attn: can't serve here"),
        ({"token_budget": 1000}, "token_budget=1000: .* use 1024 or more for esm2"),
    ],
)
def test_settings_that_cannot_serve_are_named(settings, message, demo_encoder):
    with pytest.raises(BackendError, match=message):
        demo_encoder("esm2", **settings)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_encoder
@pytest.mark.parametrize("attention", BACKENDS)
def test_on_the_gpu_float16_points_where_float32_on_the_cpu_does(
    attention, name, wide_models, batch
):
    settings = EncoderSettings(name, str(wide_models[name]), token_budget=4096)
    inputs = batch(name)
    full = load_encoder(settings).embed(inputs).values
    on_gpu = dataclasses.replace(settings, device="cuda", dtype="float16", attention=attention)
    try:
        encoder = load_encoder(on_gpu)
    except BackendError as error:
        pytest.skip(str(error))
    half = encoder.embed(inputs)
    assert half.redone_in_float32 == 0
    assert cosines(half.values, full).min() > 0.9999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_encoder
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "fp8"])
def test_on_the_gpu_neighbours_and_order_change_no_bit(dtype, name, wide_models, batch):
    if (name, dtype) == ("dnabert-s", "fp8"):
        pytest.skip("only ESM-2 has fp8")
    settings = EncoderSettings(
        name, str(wide_models[name]), "cuda", dtype, token_budget=4096, float16_ends=0
    )
    encoder, inputs = load_encoder(settings), batch(name)
    reference = encoder.embed(inputs).values
    shuffled = np.random.default_rng(5).permutation(len(inputs))
    assert np.array_equal(
        encoder.embed([inputs[row] for row in shuffled]).values, reference[shuffled]
    )
    assert np.array_equal(encoder.embed(inputs[:7]).values, reference[:7])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_encoder
def test_float32_on_the_gpu_equals_float32_on_the_cpu(name, wide_models, batch):
    settings = EncoderSettings(name, str(wide_models[name]), token_budget=4096)
    inputs = batch(name)
    full = load_encoder(settings).embed(inputs).values
    on_gpu = load_encoder(dataclasses.replace(settings, device="cuda")).embed(inputs).values
    np.testing.assert_allclose(on_gpu, full, atol=2e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_encoder
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_on_the_gpu_fused_layers_serve_and_agree_with_plain_ones_in_float32(
    dtype, name, wide_models, batch
):
    settings = EncoderSettings(name, str(wide_models[name]), "cuda", dtype, token_budget=4096)
    encoder, inputs = load_encoder(settings), batch(name)
    assert encoder.description.engine == "fused"
    full = load_encoder(dataclasses.replace(settings, dtype="float32"))
    assert full.description.engine == "plain (attention is sdpa)"
    found = cosines(encoder.embed(inputs).values, full.embed(inputs).values)
    assert found.min() > {"float16": 0.9999, "bfloat16": 0.999}[dtype]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("lengths", [[1] * 1300, [1022], [1, 1022, 1, 30, 31, 62, 63, 126, 127]])
def test_on_the_gpu_packs_of_any_kind_agree_with_float32(lengths, wide_models, sequences):
    settings = EncoderSettings("esm2", str(wide_models["esm2"]), "cuda", "float16")
    inputs = sequences(lengths)
    full = load_encoder(dataclasses.replace(settings, device="cpu", dtype="float32"))
    expected = full.embed(inputs).values
    assert cosines(load_encoder(settings).embed(inputs).values, expected).min() > 0.9999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_fp8_says_how_far_it_is_from_float32_and_stops_if_too_far(wide_models, batch):
    settings = EncoderSettings(
        "esm2", str(wide_models["esm2"]), "cuda", "fp8", token_budget=4096, float16_ends=0
    )
    inputs = batch("esm2")
    embedded = load_encoder(settings).embed(inputs)
    full = load_encoder(dataclasses.replace(settings, dtype="float32")).embed(inputs)
    found = cosines(embedded.values, full.values)
    assert found.min() > 0.99
    assert embedded.agreement is not None
    assert len(embedded.agreement.cosines) == 32
    assert found.min() - 1e-6 <= embedded.agreement.minimum < embedded.agreement.quantile(0.5) < 1
    with pytest.raises(BackendError, match=r"cosine to float32 is 0\.99\d+, under 1.0; use"):
        load_encoder(dataclasses.replace(settings, min_cosine=1.0)).embed(inputs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_fp8_is_for_esm2_alone(wide_models):
    settings = EncoderSettings("dnabert-s", str(wide_models["dnabert-s"]), "cuda", "fp8")
    with pytest.raises(BackendError, match="only ESM-2 has it"):
        load_encoder(settings)
