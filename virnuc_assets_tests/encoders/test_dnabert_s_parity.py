"""Packed DNABERT-S against a plain padded MosaicBERT written from the published architecture."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from virnuc_assets.encoders import attention, loading
from virnuc_assets.encoders.attention import Attention
from virnuc_assets.encoders.byte_pairs import load_tokeniser
from virnuc_assets.encoders.dnabert_s import alibi_slopes
from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder

TOLERANCE = 1e-5
LAYERS, DIM, HEADS, FFN, EPS = 3, 96, 12, 256, 1e-12


def twelve_slopes() -> torch.Tensor:
    first = [2.0**-i for i in range(1, 9)]
    return torch.tensor([*first, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def padded_mosaic_bert(
    state: dict[str, torch.Tensor], ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Hidden states (B, L, DIM) for `ids` (B, L); `mask` (B, L) is 1 where a token is real."""

    def weight(name: str) -> torch.Tensor:
        return state[f"bert.{name}"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (DIM,), weight(f"{name}.weight"), weight(f"{name}.bias"), EPS)

    batch, length = ids.shape
    x = weight("embeddings.word_embeddings.weight")[ids]
    x = norm(x + weight("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
    place = torch.arange(length)
    bias = -twelve_slopes()[:, None, None] * (place[None, :] - place[:, None]).abs()
    bias = bias + (1.0 - mask[:, None, None, :]) * -10000.0
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        qkv = F.linear(
            x,
            weight(f"{layer}.attention.self.Wqkv.weight"),
            weight(f"{layer}.attention.self.Wqkv.bias"),
        )
        q, k, v = qkv.view(batch, length, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(DIM // HEADS) + bias
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, DIM)
        attended = F.linear(
            attended,
            weight(f"{layer}.attention.output.dense.weight"),
            weight(f"{layer}.attention.output.dense.bias"),
        )
        x = norm(attended + x, f"{layer}.attention.output.LayerNorm")
        both = x @ weight(f"{layer}.mlp.gated_layers.weight").T
        gated = both[..., :FFN] * 0.5 * (1 + torch.erf(both[..., :FFN] / math.sqrt(2)))
        y = F.linear(
            gated * both[..., FFN:],
            weight(f"{layer}.mlp.wo.weight"),
            weight(f"{layer}.mlp.wo.bias"),
        )
        x = norm(y + x, f"{layer}.mlp.layernorm")
    return x


@pytest.fixture(scope="module")
def token_ids(dnabert_s_folder):
    """Token ids as the file's own post-processor frames them."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(dnabert_s_folder / "tokenizer.json"))
    return lambda sequence: tokenizer.encode(sequence).ids


def test_200_sequences_in_mixed_packs_equal_the_padded_reference(
    dnabert_s_folder, dnabert_s_state, token_ids, sequences, mixed_lengths
):
    reads = sequences(mixed_lengths(200, 1300), alphabet="ACGT")
    encoder = load_encoder(EncoderSettings("dnabert-s", str(dnabert_s_folder), token_budget=2048))

    embedded = encoder.embed(reads)

    ids = [token_ids(read) for read in reads]
    assert max(map(len, ids)) <= 512
    assert embedded.slots > 2048
    assert embedded.tokens == sum(map(len, ids))
    by_length = sorted(range(200), key=lambda row: len(ids[row]))
    for start in range(0, 200, 20):
        rows = by_length[start : start + 20]
        batch = [ids[row] for row in rows]
        length = max(map(len, batch))
        padded = torch.tensor([one + [3] * (length - len(one)) for one in batch])
        mask = torch.tensor([[1.0] * len(one) + [0.0] * (length - len(one)) for one in batch])
        hidden = padded_mosaic_bert(dnabert_s_state, padded, mask)
        means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        difference = np.abs(embedded.values[rows] - means.numpy()).max()
        assert difference <= TOLERANCE


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_serves_it_with_the_same_embeddings(
    dnabert_s_folder, sequences, mixed_lengths, monkeypatch
):
    # Uncompiled, FlexAttention runs on the CPU too, and holds all scores of a pack.
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr(attention, "_flex_attention", lambda: flex_attention)
    reads = sequences(mixed_lengths(40, 1500), alphabet="ACGT")
    settings = EncoderSettings("dnabert-s", str(dnabert_s_folder), token_budget=512)
    expected = load_encoder(settings).embed(reads)

    flex = Attention("flex", "test", attention._flex)
    monkeypatch.setattr(loading, "choose_backend", lambda *_, **__: flex)
    encoder = load_encoder(settings)
    embedded = encoder.embed(reads)

    assert encoder.description.attention == "flex (test)"
    assert embedded.slots > 512
    assert np.abs(embedded.values - expected.values).max() <= TOLERANCE


def test_slopes_of_twelve_heads_and_of_powers_of_two():
    cpu = torch.device("cpu")
    torch.testing.assert_close(alibi_slopes(12, cpu), twelve_slopes())
    torch.testing.assert_close(alibi_slopes(4, cpu), torch.tensor([2.0**-2, 2**-4, 2**-6, 2**-8]))
    assert alibi_slopes(1, cpu).tolist() == [2.0**-8]


@pytest.mark.parametrize("post_processor", ["published", "none", "bare BERT"])
def test_one_cls_and_one_sep_frame_a_sequence_whatever_the_file_adds(
    post_processor, dnabert_s_folder, tmp_path
):
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(dnabert_s_folder / "tokenizer.json"))
    expected = tokenizer.encode("ACGTACGTNACGT").ids
    if post_processor == "none":
        tokenizer.post_processor = processors.Sequence([])
    elif post_processor == "bare BERT":
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=99)
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    tokenise, frame = load_tokeniser(tmp_path)
    tokens, offsets = tokenise(["ACGTACGTNACGT", "acgtacgtnacgt"])

    assert [frame.first, *tokens[: offsets[1]], frame.last] == expected
    assert tokens[: offsets[1]].tolist() == tokens[offsets[1] :].tolist()
    assert frame.padding == 3
