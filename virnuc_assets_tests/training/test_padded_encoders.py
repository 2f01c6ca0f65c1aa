"""What is trained is what the engine runs: padded rows and packs give the same means."""

import numpy as np
import pytest
import torch

from virnuc_assets.encoders.dnabert_s import DNABERTSConfig
from virnuc_assets.encoders.encoder import load_encoder
from virnuc_assets.encoders.esm2 import ESM2Config
from virnuc_assets.encoders.settings import EncoderSettings
from virnuc_assets.training.batches import Tokens
from virnuc_assets.training.checkpoint_files import write_dnabert_s, write_esm2
from virnuc_assets.training.encoders import new_dnabert_s, new_esm2, pad_rows
from virnuc_assets.training.fragments import Fragments
from virnuc_assets.training.tokeniser import write_tokeniser

VOCABULARY = 160
DNA = DNABERTSConfig(layers=2, dim=48, heads=6, ffn_dim=96, vocabulary=VOCABULARY)
PROTEIN = ESM2Config(layers=2, dim=48, heads=3, ffn_dim=96)
LENGTHS = (1, 2, 7, 33, 34, 60, 166, 300)


def test_rows_are_framed_and_padded():
    tokens = np.array([10, 11, 12, 13, 14], np.int32)
    offsets = np.array([0, 1, 1, 5])
    rows = pad_rows(tokens, offsets, 1, 2, 0, count_special=False, multiple=4)
    assert rows.tokens.dtype == torch.int32
    assert rows.tokens.tolist() == [
        [1, 10, 2, 0, 0, 0, 0, 0],
        [1, 2, 0, 0, 0, 0, 0, 0],
        [1, 11, 12, 13, 14, 2, 0, 0],
    ]
    assert rows.real.sum(1).tolist() == [3, 2, 6]
    assert rows.counted.sum(1).tolist() == [1, 0, 4]
    assert rows.tokens[rows.counted].tolist() == tokens.tolist()
    special = pad_rows(tokens, offsets, 1, 2, 0, count_special=True, multiple=4)
    torch.testing.assert_close(special.counted, special.real)


@pytest.mark.parametrize(("longest", "width"), [(6, 8), (7, 16), (14, 16)])
def test_rows_are_a_multiple_long(longest, width):
    tokens = np.zeros(longest, np.int32)
    rows = pad_rows(tokens, np.array([0, longest]), 1, 2, 3, count_special=True, multiple=8)
    assert rows.tokens.shape == (1, width)


@pytest.fixture
def fragments():
    """Frames of mixed lengths, in no order."""
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.repeat(LENGTHS, 2))
    return Fragments(
        ["".join(rng.choice(list("ACGT"), 3 * length + 1)) for length in lengths],
        ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length)) for length in lengths],
        np.arange(len(lengths)),
        np.zeros(len(lengths), np.int64),
    )


@pytest.fixture
def tokens(fragments, tmp_path):
    write_tokeniser(tmp_path / "dna" / "tokenizer.json", fragments.nucleotides, VOCABULARY)
    return Tokens(tmp_path / "dna")


def far_from_fresh(module):
    """Every weight moved, so that none is without effect, to what float16 holds."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
            weight.copy_(weight.half().float())
    return module.eval()


def engine_means(name, folder, sequences):
    settings = EncoderSettings(encoder=name, weights=str(folder), device="cpu", dtype="float32")
    return load_encoder(settings).embed(sequences).values


# Float32 rounds differently in packs and in rows; means are of the order of 1.
TOLERANCE = 2e-5


def test_an_esm2_means_the_same_in_the_engine(fragments, tokens, tmp_path):
    padded = far_from_fresh(new_esm2(PROTEIN))
    write_esm2(tmp_path / "protein", padded.encoder, "a test")
    with torch.inference_mode():
        means = padded(tokens.batch(fragments).protein, torch.float32).numpy()
    expected = engine_means("esm2", tmp_path / "protein", fragments.proteins)
    assert expected.std(axis=0).min() > 0.01
    np.testing.assert_allclose(means, expected, atol=TOLERANCE)


def test_a_dnabert_s_means_the_same_in_the_engine(fragments, tokens, tmp_path):
    padded = far_from_fresh(new_dnabert_s(DNA))
    write_dnabert_s(tmp_path / "dna", padded.encoder, "a test")
    with torch.inference_mode():
        means = padded(tokens.batch(fragments).dna, torch.float32).numpy()
    expected = engine_means("dnabert-s", tmp_path / "dna", fragments.nucleotides)
    assert expected.std(axis=0).min() > 0.01
    np.testing.assert_allclose(means, expected, atol=TOLERANCE)


def test_padding_and_neighbours_do_not_matter(fragments, tokens):
    dna, protein = far_from_fresh(new_dnabert_s(DNA)), far_from_fresh(new_esm2(PROTEIN))
    together = tokens.batch(fragments)
    with torch.inference_mode():
        for one in range(0, len(fragments), 5):
            alone = tokens.batch(fragments.part(slice(one, one + 1)))
            for encoder, row, rows in (
                (dna, alone.dna, together.dna),
                (protein, alone.protein, together.protein),
            ):
                torch.testing.assert_close(
                    encoder(row, torch.float32)[0],
                    encoder(rows, torch.float32)[one],
                    atol=TOLERANCE,
                    rtol=0,
                )


def test_every_weight_learns(fragments, tokens):
    batch = tokens.batch(fragments)
    for encoder, rows in (
        (far_from_fresh(new_dnabert_s(DNA)), batch.dna),
        (far_from_fresh(new_esm2(PROTEIN)), batch.protein),
    ):
        encoder(rows, torch.float32).square().sum().backward()
        for name, weight in encoder.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.abs().max() > 0, name


def test_fresh_weights_come_from_the_seed():
    def fresh():
        torch.manual_seed(7)
        return [*new_esm2(PROTEIN).parameters(), *new_dnabert_s(DNA).parameters()]

    for one, again in zip(fresh(), fresh(), strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, again, rtol=0, atol=0)
