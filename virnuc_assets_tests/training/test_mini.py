"""The mini model's recipe, on encoders and a corpus that take seconds."""

import json
import sys
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from virnuc_assets.classifier.head import load_head
from virnuc_assets.encoders.dnabert_s import DNABERTSConfig
from virnuc_assets.encoders.encoder import load_encoder
from virnuc_assets.encoders.esm2 import ESM2Config
from virnuc_assets.encoders.settings import EncoderSettings
from virnuc_assets.errors import InputError
from virnuc_assets.mini.bundled import NAME
from virnuc_assets.training import mini, mini_files, relatives, validation
from virnuc_assets.training.__main__ import main
from virnuc_assets.training.batches import Plan, Tokens, batches
from virnuc_assets.training.corpus import write_corpus
from virnuc_assets.training.fragments import Draw
from virnuc_assets.training.mini import SHARES, VOCABULARY, Mini, Recipe, head_card
from virnuc_assets.training.mini_files import facts_of, save, write_dna_tokeniser
from virnuc_assets.training.mini_training import follow, score, train
from virnuc_assets.training.validation import KINDS, Validation

CPU = torch.device("cpu")
QUICK = Recipe(
    frames=32, lengths={160: 0.7, 90: 0.3}, peak_rate=1e-2, warm_up=2, most_steps=10, look_every=5
)


@pytest.fixture
def small(monkeypatch):
    """Small encoders, and few windows for codon usage, validation and byte pairs."""
    dna = DNABERTSConfig(layers=1, dim=32, heads=2, ffn_dim=32, vocabulary=VOCABULARY)
    monkeypatch.setattr(mini, "DNA", dna)
    monkeypatch.setattr(mini, "PROTEIN", ESM2Config(layers=1, dim=24, heads=2, ffn_dim=32))
    monkeypatch.setattr(relatives, "_USAGE_WINDOWS", 300)
    monkeypatch.setattr(validation, "_WINDOWS", 12)
    monkeypatch.setattr(validation, "_SPANS", 3)
    monkeypatch.setattr(mini_files, "_WINDOWS", 200)


@pytest.fixture
def corpus(small, make_corpus):
    return make_corpus()


@pytest.fixture
def tokeniser(corpus, tmp_path):
    folder = tmp_path / "models" / "dnabert_s"
    write_dna_tokeniser(folder, corpus, 1)
    return folder


def weights(module):
    return [tensor.numpy() for tensor in module.state_dict().values()]


def test_groups_that_are_drawn_are_those_that_are_measured():
    assert set(SHARES) == set(KINDS)
    viruses = {"phage", "RNA virus", "eukaryotic DNA virus"}
    for is_virus in (True, False):
        total = sum(share for name, share in SHARES.items() if (KINDS[name] in viruses) == is_virus)
        assert total == pytest.approx(1)


def test_what_is_plain_is_learnt_in_a_few_steps(corpus, tokeniser):
    trained = train(corpus, tokeniser, QUICK, CPU, 0)
    assert [look["step"] for look in trained.looks] == [5, 10]
    assert trained.best in trained.looks
    assert trained.best["mean"] == max(look["mean"] for look in trained.looks)
    assert trained.best["auroc_500"] > 0.9
    assert trained.best["auroc_3kb"] > 0.9
    # The weights that are kept are those of the best look.
    tokens = Tokens(tokeniser)
    held_out = Validation(corpus.chosen(corpus.split == "validation"))
    again = held_out.measure(lambda fragments: score(trained.model, tokens, fragments))
    assert again == {name: trained.best[name] for name in again}


def test_the_same_seed_gives_the_same_weights(corpus, tokeniser):
    quick = replace(QUICK, most_steps=3, look_every=3)
    one, again = (train(corpus, tokeniser, quick, CPU, 0).model for _ in range(2))
    for tensor, same in zip(weights(one), weights(again), strict=True):
        np.testing.assert_array_equal(tensor, same)
    other = train(corpus, tokeniser, replace(quick, seed=2), CPU, 0).model
    assert any((a != b).any() for a, b in zip(weights(one), weights(other), strict=True))


def test_training_ends_without_a_better_look(corpus, tokeniser, monkeypatch):
    means = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    monkeypatch.setattr(Validation, "measure", lambda self, score: {"mean": next(means)})
    trained = train(corpus, tokeniser, replace(QUICK, look_every=1, patience=2), CPU, 0)
    assert [look["mean"] for look in trained.looks] == [0.5, 0.7, 0.6, 0.7]
    assert trained.best["step"] == 2


def test_a_corpus_of_other_groups_is_refused(corpus, tokeniser):
    renamed = replace(corpus, group=np.char.add("my ", corpus.group))
    with pytest.raises(InputError, match="in the groups that are drawn"):
        train(renamed, tokeniser, QUICK, CPU, 0)


def test_batches_are_the_same_for_a_seed_and_number_of_processes(corpus, tokeniser):
    plan = Plan(16, QUICK.lengths, SHARES, 0.5, 3)

    def drawn(workers, seed=3):
        source = batches(corpus, tokeniser, replace(plan, seed=seed), workers)
        return [batch.dna.tokens.tolist() for batch in islice(source, 4)]

    assert drawn(0) == drawn(0)
    assert drawn(2) == drawn(2)
    assert drawn(0) != drawn(0, seed=4)
    assert all(len(batch) == 16 for batch in drawn(0))


def test_the_average_follows_the_weights(small):
    model, average = Mini(0.0, 2), Mini(0.0, 2)
    before = [tensor.copy() for tensor in weights(average)]
    average.head.bn1.num_batches_tracked.fill_(5)
    follow(average, model, 0.75)
    for kept, new, old in zip(weights(average), weights(model), before, strict=True):
        if kept.dtype == np.float32:
            np.testing.assert_allclose(kept, 0.75 * old + 0.25 * new, atol=1e-6)
        else:
            assert kept == 5
    follow(average, model, 0.0)
    for kept, new in zip(weights(average), weights(model), strict=True):
        if kept.dtype == np.float32:
            np.testing.assert_allclose(kept, new, atol=1e-7)


def test_validation_leaves_masked_stretches_out(small, make_corpus):
    corpus = make_corpus(genomes=4)
    masked = replace(corpus, masked=np.arange(8) % 4 == 0)
    seen = []

    def lean(fragments):
        seen.append(fragments.stretch)
        margin = corpus.is_virus[fragments.stretch]
        return np.stack([~margin, margin], axis=1).astype(np.float32)

    found = Validation(masked).measure(lean)
    assert found == {"auroc_500": 1.0, "auroc_300": 1.0, "auroc_3kb": 1.0, "mean": 1.0}
    assert set(np.concatenate(seen).tolist()) == {1, 2, 3, 5, 6, 7}


def test_what_is_saved_scores_as_what_was_trained(corpus, tokeniser, tmp_path):
    """The folder's encoders and head, through the engine, and the module: a softmax apart."""
    recipe = replace(QUICK, most_steps=5)
    trained = replace(train(corpus, tokeniser, recipe, CPU, 0), temperature=2.5)
    tokens = Tokens(tokeniser)
    save(tmp_path, trained, facts_of(corpus, recipe))

    fragments = Draw(corpus, SHARES, 160).exactly(np.random.default_rng(9), 40)
    means = [
        load_encoder(
            EncoderSettings(
                encoder=name, weights=str(tmp_path / "models" / folder), dtype="float32"
            )
        )
        .embed(sequences)
        .values
        for name, folder, sequences in (
            ("dnabert-s", "dnabert_s", fragments.nucleotides),
            ("esm2", "esm2", fragments.proteins),
        )
    ]
    head = load_head(tmp_path / "heads" / NAME)
    logits = torch.from_numpy(score(trained.model, tokens, fragments))
    expected = torch.softmax(logits / 2.5, dim=1).numpy()
    # The encoders' weights were rounded to float16.
    np.testing.assert_allclose(head.score(*means), expected, atol=5e-3)
    assert np.ptp(expected[:, 1]) > 0.1


def test_what_is_known_is_saved_beside(corpus, tokeniser, tmp_path):
    recipe = replace(QUICK, most_steps=2)
    trained = train(corpus, tokeniser, recipe, CPU, 0)
    assert trained.temperature > 0
    save(tmp_path, replace(trained, temperature=1.5), facts_of(corpus, recipe))
    known = json.loads((tmp_path / "training.json").read_text())
    assert known["name"] == NAME
    assert known["genomes"] == 12
    assert known["validation_genomes"] == 4
    assert known["bases"] == 12 * 3600
    assert known["temperature"] == 1.5
    assert known["recipe"]["most_steps"] == 2
    assert known["looks"] == trained.looks
    assert load_head(tmp_path / "heads" / NAME).card == head_card(
        "Trained with both encoders on 12 genomes; see the model card."
    )


def test_the_command_writes_a_folder_that_is_ready_to_use(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "Recipe", lambda: replace(QUICK, most_steps=2))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    write_corpus(tmp_path / "corpus.npz", corpus)
    arguments = ["mini", tmp_path / "corpus.npz", tmp_path / "out", "--seed", 5, "--genomes", 0.5]
    monkeypatch.setattr(sys, "argv", ["training", *map(str, [*arguments, "--workers", 0])])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    known = json.loads((tmp_path / "out" / "training.json").read_text())
    assert known["genomes"] == 6
    assert known["recipe"]["seed"] == 5
    head = load_head(tmp_path / "out" / "heads" / NAME)
    for name, folder, dim in (("dnabert-s", "dnabert_s", 32), ("esm2", "esm2", 24)):
        path = str(tmp_path / "out" / "models" / folder)
        encoder = load_encoder(EncoderSettings(encoder=name, weights=path, dtype="float32"))
        assert encoder.description.label == NAME
        assert encoder.description.dim == dim
    assert (head.card.dna_dim, head.card.protein_dim) == (32, 24)
