"""Packed ESM-2 against fair-esm's and transformers' own models, on the same random weights."""

import argparse

import numpy as np
import pytest
import torch

from virnuc_assets.encoders import alphabet
from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def fair_esm_means(fair_esm_model):
    """Mean representations by fair-esm, in padded batches of similar lengths."""
    import esm

    convert = esm.Alphabet.from_architecture("ESM-1b").get_batch_converter()

    def means(sequences: list[str]) -> np.ndarray:
        rows = np.empty((len(sequences), 320), np.float32)
        by_length = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
        for start in range(0, len(sequences), 8):
            batch = by_length[start : start + 8]
            _, _, tokens = convert([("", sequences[row]) for row in batch])
            with torch.no_grad():
                hidden = fair_esm_model(tokens, repr_layers=[6])["representations"][6]
            for row, one in zip(batch, hidden, strict=True):
                rows[row] = one[1 : 1 + len(sequences[row])].mean(0)
        return rows

    return means


def test_200_sequences_in_mixed_packs_equal_fair_esm(
    fair_esm_file, fair_esm_means, sequences, mixed_lengths
):
    proteins = sequences(mixed_lengths(200, 1022))
    encoder = load_encoder(EncoderSettings("esm2", str(fair_esm_file)))

    embedded = encoder.embed(proteins)

    assert embedded.values.dtype == np.float32
    assert embedded.slots > 4096
    assert embedded.tokens == sum(map(len, proteins)) + 2 * 200
    assert np.abs(embedded.values - fair_esm_means(proteins)).max() <= TOLERANCE


def test_hugging_face_weights_equal_transformers_esm(
    esm_folder, transformers_model, sequences, mixed_lengths
):
    proteins = sequences(mixed_lengths(40, 1022, seed=1), seed=1)
    embedded = load_encoder(EncoderSettings("esm2", str(esm_folder))).embed(proteins)

    tokens, offsets = alphabet.tokenise(proteins)
    for row, protein in enumerate(proteins):
        residues = tokens[offsets[row] : offsets[row + 1]]
        ids = torch.tensor([[alphabet.CLS, *residues, alphabet.EOS]])
        with torch.no_grad():
            hidden = transformers_model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        expected = hidden[0, 1 : 1 + len(protein)].mean(0).numpy()
        assert np.abs(embedded.values[row] - expected).max() <= TOLERANCE


def test_both_formats_of_the_same_weights_give_the_same_bits(fair_esm_file, esm_folder, sequences):
    proteins = sequences([5, 80, 31])
    values = [
        load_encoder(EncoderSettings("esm2", str(path))).embed(proteins).values
        for path in (fair_esm_file, esm_folder)
    ]
    assert np.array_equal(*values)


def test_special_letters_and_gaps_equal_fair_esm(fair_esm_file, fair_esm_means):
    proteins = ["MXBUZO.-K", "LLLLLLLL", "A"]
    embedded = load_encoder(EncoderSettings("esm2", str(fair_esm_file))).embed(proteins)
    assert np.abs(embedded.values - fair_esm_means(proteins)).max() <= TOLERANCE


def esm_extract_mean(model_location, fasta_file, truncation_seq_length=1022) -> dict:
    """`esm-extract MODEL FASTA OUT --include mean`, written out with fair-esm's own parts.

    The published wheel holds the library and not the script. Its steps: load the file, batch the
    FASTA by tokens, convert with truncation, run, and average tokens 1 to length.
    """
    from esm import FastaBatchedDataset, pretrained

    with torch.serialization.safe_globals([argparse.Namespace]):
        model, esm_alphabet = pretrained.load_model_and_alphabet(str(model_location))
    model.eval()
    dataset = FastaBatchedDataset.from_file(fasta_file)
    loader = torch.utils.data.DataLoader(
        dataset,
        collate_fn=esm_alphabet.get_batch_converter(truncation_seq_length),
        batch_sampler=dataset.get_batch_indices(4096, extra_toks_per_seq=1),
    )
    means = {}
    with torch.no_grad():
        for labels, strs, tokens in loader:
            hidden = model(tokens, repr_layers=[model.num_layers])["representations"]
            for i, label in enumerate(labels):
                length = min(truncation_seq_length, len(strs[i]))
                means[label] = hidden[model.num_layers][i, 1 : length + 1].mean(0).numpy()
    return means


def test_a_checkpoint_gives_what_esm_extract_gives(
    fair_esm_content, fair_esm_model, sequences, tmp_path
):
    file = tmp_path / "esm2_t6_random.pt"
    torch.save(fair_esm_content, file)
    # esm-extract can't do without the contact regression; here it may be there or not.
    regression = {
        name: tensor
        for name, tensor in fair_esm_model.state_dict().items()
        if name.startswith("contact_head")
    }
    torch.save({"model": regression}, tmp_path / "esm2_t6_random-contact-regression.pt")
    proteins = sequences([30, 1100, 64, 1, 300, 1022])
    fasta = tmp_path / "proteins.fa"
    fasta.write_text("".join(f">p{i}\n{protein}\n" for i, protein in enumerate(proteins)))

    embedded = load_encoder(EncoderSettings("esm2", str(file))).embed(proteins)

    expected = esm_extract_mean(file, fasta)
    assert embedded.truncated == 1
    for row, value in enumerate(embedded.values):
        assert np.abs(value - expected[f"p{row}"]).max() <= TOLERANCE
