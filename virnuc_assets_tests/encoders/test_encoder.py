"""What an embedding may depend on: the sequence and the settings, and nothing around it."""

import dataclasses
import gc
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from virnuc_assets.encoders.attention import BACKENDS
from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.encoders.loading import full_pack
from virnuc_assets.errors import BackendError, DeviceMemoryError, SequenceError
from virnuc_assets_tests import untrained

ENCODERS = {"esm2": "ACDEFGHIKLMNPQRSTVWY", "dnabert-s": "ACGT"}
BUDGETS = [1024, 2048, 4096, 5000]
each_encoder = pytest.mark.parametrize("name", ENCODERS)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Token budgets are remembered for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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
def test_neighbours_order_and_budget_change_no_bit_of_a_sequence(name, small_encoder, batch):
    inputs = batch(name)
    reference = small_encoder(name, token_budget=4096).embed(inputs).values
    shuffled = np.random.default_rng(5).permutation(len(inputs))
    for budget in BUDGETS:
        encoder = small_encoder(name, token_budget=budget)
        assert np.array_equal(encoder.embed(inputs).values, reference)
        again = encoder.embed([inputs[row] for row in shuffled]).values
        assert np.array_equal(again, reference[shuffled])
    encoder = small_encoder(name, token_budget=1024)
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
def test_equal_sequences_are_equal_and_different_ones_differ(name, small_encoder, sequences):
    one, other = sequences([60, 60], alphabet=ENCODERS[name])
    values = small_encoder(name).embed([one, other, one]).values
    assert np.array_equal(values[0], values[2])
    assert np.abs(values[0] - values[1]).max() > 0.01


@each_encoder
def test_no_sequences_give_no_rows(name, small_encoder):
    embedded = small_encoder(name).embed([])
    assert embedded.values.shape == (0, {"esm2": 64, "dnabert-s": 48}[name])
    assert (embedded.tokens, embedded.slots) == (0, 0)


@each_encoder
def test_an_empty_sequence_is_named_by_its_row(name, small_encoder):
    with pytest.raises(SequenceError, match="row 2 cannot be embedded: it has no letters"):
        small_encoder(name).embed(["ACGT", "AC", "", "A"])


def test_truncating_embeds_the_first_1022_residues(small_encoder, sequences):
    (protein,) = sequences([1500])
    embedded = small_encoder("esm2").embed([protein, protein[:1022], protein[:1023]])
    assert np.array_equal(embedded.values[0], embedded.values[1])
    assert np.array_equal(embedded.values[2], embedded.values[1])
    assert (embedded.truncated, embedded.windowed) == (2, 0)


def test_windowing_averages_windows_by_their_residues(small_encoder, sequences):
    protein, short = sequences([2045, 30])
    encoder = small_encoder("esm2", long_sequences="window")

    embedded = encoder.embed([protein, short])

    # 2045 residues need three windows: 682, 682 and 681 of them.
    parts = [protein[:682], protein[682:1364], protein[1364:]]
    values = encoder.embed([*parts, short]).values
    expected = np.average(values[:3].astype(float), axis=0, weights=[682, 682, 681])
    np.testing.assert_allclose(embedded.values[0], expected, rtol=1e-6, atol=1e-7)
    assert np.array_equal(embedded.values[1], values[3])
    assert (embedded.truncated, embedded.windowed) == (0, 1)


def test_dna_is_cut_to_512_tokens_with_its_special_tokens(small_encoder, sequences):
    (read,) = sequences([4000], alphabet="ACGT")
    truncated = small_encoder("dnabert-s").embed([read])
    assert (truncated.tokens, truncated.truncated) == (512, 1)
    windowed = small_encoder("dnabert-s", long_sequences="window").embed([read])
    assert (windowed.truncated, windowed.windowed) == (0, 1)
    assert windowed.tokens > 1024


@each_encoder
def test_counts_add_up(name, small_encoder, batch):
    embedded = small_encoder(name, token_budget=1024).embed(batch(name))
    # Products by oneDNN need no padding.
    assert embedded.tokens == embedded.slots
    assert embedded.redone_in_float32 == 0
    assert embedded.values.dtype == np.float32
    assert (embedded.busy_seconds, embedded.peak_memory_bytes) == (0, 0)


@each_encoder
def test_batches_share_packs_and_change_no_bit(name, small_encoder, batch):
    encoder, inputs = small_encoder(name, token_budget=1024), batch(name)
    model = Recording(encoder._loaded.model)
    encoder._loaded = dataclasses.replace(encoder._loaded, model=model)
    whole = encoder.embed(inputs)
    packs_of_the_whole = len(model.packs)
    model.packs.clear()
    batches = [inputs[start : start + 7] for start in range(0, len(inputs), 7)]

    parts = list(encoder.compute(encoder.prepare(part) for part in batches))

    assert np.array_equal(np.concatenate([part.values for part in parts]), whole.values)
    assert len(model.packs) <= packs_of_the_whole + 2
    assert sum(part.tokens for part in parts) == whole.tokens
    assert all(part.tokens <= part.slots for part in parts)


def test_what_is_under_way_is_finished_while_the_next_batch_is_not_ready(small_encoder, sequences):
    encoder = small_encoder("esm2")
    done: list[int] = []

    def batches():
        yield encoder.prepare(sequences([30]))
        yield None
        done.append(len(embedded))
        yield encoder.prepare(sequences([30]))

    embedded: list = []
    for one in encoder.compute(batches()):
        embedded.append(one)
    assert done == [1]
    assert len(embedded) == 2


def test_a_bad_sequence_in_a_shared_pack_spares_the_batch_before(small_with, sequences):
    from virnuc_assets.encoders import alphabet

    def spoil(embedding: torch.Tensor) -> torch.Tensor:
        embedding[alphabet.TOKENS.index("W")] = torch.inf
        return embedding

    folder = small_with("embeddings.word_embeddings.weight", spoil)
    encoder = load_encoder(EncoderSettings("esm2", folder))
    batches = [sequences([40], alphabet="ACDEFG"), ["ACDEFG", "ACWCA"], ["ACD"]]
    results = encoder.compute(encoder.prepare(batch) for batch in batches)

    assert np.isfinite(next(results).values).all()
    with pytest.raises(SequenceError, match="row 1 cannot be embedded"):
        next(results)


@each_encoder
def test_flops_are_those_of_the_sequences_whatever_the_packs(name, small_encoder, batch):
    encoder, inputs = small_encoder(name, token_budget=1024), batch(name)
    together = encoder.embed(inputs).flops
    assert together == pytest.approx(
        sum(encoder.embed([one]).flops for one in inputs[:40]) + encoder.embed(inputs[40:]).flops
    )


@each_encoder
def test_half_precision_stays_close_to_float32(name, small_encoder, batch):
    inputs = batch(name)[:20]
    full = small_encoder(name, token_budget=1024).embed(inputs).values
    for dtype, cosine in (("float16", 0.99999), ("bfloat16", 0.999)):
        half = small_encoder(name, dtype=dtype, token_budget=1024).embed(inputs).values
        assert half.dtype == np.float32
        assert cosines(half, full).min() > cosine


@pytest.fixture
def small_with(tmp_path):
    """A copy of the untrained ESM-2; each call changes one more of its tensors."""
    source = untrained.folder() / "esm2"
    tensors = load_file(source / "model.safetensors")

    def write(name: str, change) -> str:
        tensors[name] = change(tensors[name].float())
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text((source / "config.json").read_text())
        return str(tmp_path)

    return write


def test_a_pack_that_overflows_float16_is_redone_in_float32_and_counted(
    small_with, sequences, caplog
):
    # The residual stream passes 65 504 in the second layer; the final norm takes the offset off.
    small_with("encoder.layer.0.output.dense.bias", lambda bias: torch.full_like(bias, 4e4))
    folder = small_with("encoder.layer.1.output.dense.bias", lambda b: torch.full_like(b, 4e4))
    proteins = sequences([50, 60, 1000, 900])
    settings = EncoderSettings("esm2", folder, token_budget=1024)
    full = load_encoder(settings).embed(proteins)

    half = load_encoder(dataclasses.replace(settings, dtype="float16")).embed(proteins)

    assert half.redone_in_float32 == len(proteins)
    assert "computed again in float32" in caplog.text
    assert np.array_equal(half.values, full.values)


def test_a_neighbour_that_overflows_changes_no_bit_of_the_others(small_with, sequences):
    from virnuc_assets.encoders import alphabet

    tryptophan = alphabet.TOKENS.index("W")

    def enlarge(embedding: torch.Tensor) -> torch.Tensor:
        # Finite in float32, infinite in half precision.
        embedding[tryptophan] *= 1e6
        return embedding

    folder = small_with("embeddings.word_embeddings.weight", enlarge)
    encoder = load_encoder(EncoderSettings("esm2", folder, dtype="float16", token_budget=1024))
    proteins = sequences([40, 50, 60], alphabet="ACDEFG")
    alone = encoder.embed(proteins)
    beside = encoder.embed([*proteins, "ACWCA"])
    assert alone.redone_in_float32 == 0
    assert beside.redone_in_float32 == 1
    assert np.isfinite(beside.values).all()
    assert np.array_equal(beside.values[:3], alone.values)


class Recording:
    """A model that keeps the packs it is given."""

    def __init__(self, model) -> None:
        self.model, self.device, self.any_shape = model, model.device, False
        self.packs: list = []

    def means(self, pack) -> torch.Tensor:
        self.packs.append(pack)
        return self.model.means(pack)


def test_only_what_overflowed_is_computed_again_in_packs_of_one_shape(small_with, sequences):
    from virnuc_assets.encoders import alphabet

    def enlarge(embedding: torch.Tensor) -> torch.Tensor:
        embedding[alphabet.TOKENS.index("W")] *= 1e6
        return embedding

    folder = small_with("embeddings.word_embeddings.weight", enlarge)
    settings = EncoderSettings("esm2", folder, dtype="float16", token_budget=4096)
    encoder = load_encoder(settings)
    in_float32 = Recording(encoder._loaded.in_float32())
    encoder._loaded = dataclasses.replace(encoder._loaded, in_float32=lambda: in_float32)
    proteins = sequences([40, 50, 60, 70] * 8, alphabet="ACDEFG")
    proteins[5], proteins[20] = "ACWCA", proteins[20] + "W"

    embedded = encoder.embed(proteins)

    assert embedded.redone_in_float32 == 2
    (pack,) = in_float32.packs
    assert (len(pack.items), pack.real_tokens) == (2, 7 + len(proteins[20]) + 2)
    assert len(pack.tokens) == 1024
    full = load_encoder(dataclasses.replace(settings, dtype="float32")).embed(proteins).values
    assert np.array_equal(embedded.values[[5, 20]], full[[5, 20]])


def test_a_full_memory_while_computing_names_the_device_the_budget_and_the_remedy(small_encoder):
    def full(*_: object) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    encoder = small_encoder("esm2")
    model = dataclasses.replace(encoder._loaded.model, forward=full)
    encoder._loaded = dataclasses.replace(encoder._loaded, model=model)
    with pytest.raises(
        DeviceMemoryError, match=r"CPU: ran out of memory at a token budget of 4096; set a smaller"
    ):
        encoder.embed(["ACDE"])


def test_other_errors_of_the_device_keep_their_trace(small_encoder):
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    encoder = small_encoder("esm2")
    model = dataclasses.replace(encoder._loaded.model, forward=broken)
    encoder._loaded = dataclasses.replace(encoder._loaded, model=model)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        encoder.embed(["ACDE"])


@pytest.mark.parametrize("budget", [1024, 1056, 4096])
def test_the_pack_that_memory_is_tried_with_is_full_of_longest_sequences(budget, small_encoder):
    loaded = small_encoder("esm2")._loaded
    pack = full_pack(loaded.config, loaded.frame, budget, 1024)
    assert pack.real_tokens == len(pack.tokens) == budget
    assert pack.max_seqlen == 1024
    assert torch.isfinite(loaded.model.means(pack)).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_sequence_that_is_not_finite_in_float32_is_named_by_its_row(dtype, small_with, sequences):
    from virnuc_assets.encoders import alphabet

    tryptophan = alphabet.TOKENS.index("W")

    def poison(embedding: torch.Tensor) -> torch.Tensor:
        embedding[tryptophan] = float("inf")
        return embedding

    folder = small_with("embeddings.word_embeddings.weight", poison)
    encoder = load_encoder(EncoderSettings("esm2", folder, dtype=dtype))
    proteins = sequences([40, 50, 60], alphabet="ACDEFG")
    with pytest.raises(SequenceError, match=r"row 1 cannot .* is not finite"):
        encoder.embed([proteins[0], proteins[1] + "W", proteins[2]])


def test_an_encoder_describes_itself(small_encoder):
    description = small_encoder("esm2", dtype="bfloat16", long_sequences="window").description
    assert description.label == untrained.LABEL
    assert (description.dim, description.device) == (64, "CPU")
    assert description.attention.startswith("sdpa (auto")
    assert description.engine == "plain (attention is sdpa), products by oneDNN"
    assert (description.token_budget, description.token_budget_reason) == (4096, "the default")
    assert description.gemm_flops_per_second is None
    assert len(description.weights_digest) == len(description.encoder_digest) == 64


def test_products_by_pytorch_on_the_cpu_are_recorded_with_the_reason(
    small_encoder, sequences, monkeypatch
):
    proteins = sequences([30, 200])
    expected = small_encoder("esm2").embed(proteins).values
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    encoder = small_encoder("esm2")
    reason = "products by PyTorch (this build of PyTorch has no oneDNN)"
    assert encoder.description.engine == f"plain (attention is sdpa), {reason}"
    np.testing.assert_allclose(encoder.embed(proteins).values, expected, atol=2e-6, rtol=0)


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
def test_settings_that_cannot_serve_are_named(settings, message, small_encoder):
    with pytest.raises(BackendError, match=message):
        small_encoder("esm2", **settings)


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
    assert full.description.engine == "plain (attention is sdpa), products by PyTorch"
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
    assert embedded.agreement.centred_median is not None
    assert embedded.agreement.centred_median < embedded.agreement.quantile(0.5)
    # 4096 tokens hold 4 sequences as long as the longest; a centre takes 8.
    assert len(embedded.agreement.cosines) == 8
    assert found.min() - 1e-6 <= embedded.agreement.minimum < embedded.agreement.quantile(0.5) < 1
    with pytest.raises(BackendError, match=r"cosine to float32 is 0\.99\d+, under 1.0; use"):
        load_encoder(dataclasses.replace(settings, min_cosine=1.0)).embed(inputs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_fp8_is_for_esm2_alone(wide_models):
    settings = EncoderSettings("dnabert-s", str(wide_models["dnabert-s"]), "cuda", "fp8")
    with pytest.raises(BackendError, match="only ESM-2 has it"):
        load_encoder(settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_a_budget_that_memory_does_not_hold_is_halved_said_and_remembered(
    wide_models, sequences, tmp_path, caplog
):
    settings = EncoderSettings("esm2", str(wide_models["esm2"]), "cuda", "float16")
    inputs = sequences([500] * 34)
    encoder = load_encoder(settings)
    assert (encoder.description.token_budget, encoder.description.token_budget_reason) == (
        16896,
        "the default",
    )
    assert encoder.description.gemm_flops_per_second > 1e12
    expected = encoder.embed(inputs)
    assert expected.peak_memory_bytes > 16896 * 1024 * 2
    (tmp_path / "cache" / "virnuc" / "token-budgets.json").unlink()
    del encoder
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(0.75 * expected.peak_memory_bytes / total)
    try:
        with pytest.raises(DeviceMemoryError, match="out of memory at a token budget of 16896"):
            load_encoder(dataclasses.replace(settings, token_budget=16896)).embed(inputs)
        gc.collect()  # the trace holds on to what was computed
        fitted = load_encoder(settings)
        assert fitted.description.token_budget in (8448, 4224, 2112)
        assert fitted.description.token_budget_reason.startswith("16896 did not fit in ")
        assert f"token budget {fitted.description.token_budget} (16896 did not" in caplog.text
        assert cosines(fitted.embed(inputs).values, expected.values).min() > 0.9999
        again = load_encoder(settings)
        assert again.description.token_budget == fitted.description.token_budget
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
