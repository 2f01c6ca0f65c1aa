from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from virnuc_assets.classifier.head import Head, HeadCard, load_head, save_head
from virnuc_assets.errors import WeightsError

FULL_SIZE = HeadCard(name="full", label="full", dna_dim=768, protein_dim=2560, hidden_dim=512)


def embeddings(card: HeadCard, n: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, card.dna_dim)).astype(np.float32),
        rng.normal(size=(n, card.protein_dim)).astype(np.float32),
    )


def plain_score(head: Head, dna: np.ndarray, protein: np.ndarray) -> np.ndarray:
    """The head's formula in float64, layer by layer."""
    w = {name: t.numpy().astype(np.float64) for name, t in head.module.state_dict().items()}
    x = np.concatenate([dna, protein], axis=1).astype(np.float64)
    x = x @ w["hidden_layer.weight"].T + w["hidden_layer.bias"]
    x = (x - w["bn1.running_mean"]) / np.sqrt(w["bn1.running_var"] + 1e-5)
    x = np.maximum(x * w["bn1.weight"] + w["bn1.bias"], 0)
    x = x @ w["output_layer.weight"].T + w["output_layer.bias"]
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def test_scores_are_the_formula_with_dna_first(make_head: Callable[..., Head]) -> None:
    head = make_head()
    dna, protein = embeddings(head.card, 300)
    scores = head.score(dna, protein)
    assert scores.shape == (300, 2)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, plain_score(head, dna, protein), atol=2e-6)


@pytest.mark.parametrize("card", [FULL_SIZE, replace(FULL_SIZE, dna_dim=48, protein_dim=64)])
def test_a_score_does_not_depend_on_what_it_is_scored_with(
    make_head: Callable[..., Head], card: HeadCard
) -> None:
    head = make_head(card)
    dna, protein = embeddings(card, 700)
    together = head.score(dna, protein)
    order = np.random.default_rng(0).permutation(700)
    assert np.array_equal(head.score(dna[order], protein[order]), together[order])
    for row in (0, 1, 255, 256, 511, 699):
        alone = head.score(dna[row : row + 1], protein[row : row + 1])
        assert np.array_equal(alone[0], together[row])


def test_no_frames_give_no_scores(make_head: Callable[..., Head]) -> None:
    head = make_head()
    assert head.score(*embeddings(head.card, 0)).shape == (0, 2)


def test_embeddings_of_another_encoder_are_refused(make_head: Callable[..., Head]) -> None:
    head = make_head()
    dna, protein = embeddings(head.card, 4)
    with pytest.raises(WeightsError, match="takes ESM-2 embeddings of 10 dimensions, not 9"):
        head.score(dna, protein[:, :9])
    with pytest.raises(WeightsError, match="takes DNABERT-S embeddings of 6 dimensions, not 5"):
        head.score(dna[:, :5], protein)


def test_the_digest_follows_card_and_weights(make_head: Callable[..., Head]) -> None:
    head = make_head()
    assert head.digest == make_head().digest
    assert head.digest != make_head(seed=1).digest
    assert head.digest != make_head(replace(head.card, label="other")).digest


def test_the_card_round_trips(make_head: Callable[..., Head], tmp_path: Path) -> None:
    card = HeadCard("a", "b", 3, 4, 5, chunk_length=500, source_sha256="0" * 64, notes="é")
    assert make_head(card).card == card
    written = json.loads((tmp_path / "heads/a-0/head.json").read_text())
    assert written["labels"] == {"0": "others", "1": "virus"}


def test_a_head_that_cannot_be_read_is_named_in_one_sentence(
    make_head: Callable[..., Head], tmp_path: Path
) -> None:
    make_head()
    good = tmp_path / "heads" / "toy-0"

    def refused(change: Callable[[Path], object]) -> str:
        directory = tmp_path / "broken"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(good, directory)
        change(directory)
        with pytest.raises(WeightsError) as caught:
            load_head(directory)
        assert str(directory) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def edit_card(**values: object) -> Callable[[Path], object]:
        def edit(directory: Path) -> None:
            path = directory / "head.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | values))

        return edit

    def edit_weights(edit: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], object]:
        def apply(directory: Path) -> None:
            weights = load_file(directory / "head.safetensors")
            edit(weights)
            save_file(weights, directory / "head.safetensors")

        return apply

    assert "holds no head" in refused(lambda d: (d / "head.json").unlink())
    assert "no such file" in refused(lambda d: (d / "head.safetensors").unlink())
    assert "not a safetensors file" in refused(
        lambda d: (d / "head.safetensors").write_bytes(b"not weights")
    )
    assert "hidden_layer.weight has shape (8, 16)" in refused(edit_card(protein_dim=11))
    assert "dna_dim is 'six'" in refused(edit_card(dna_dim="six"))
    assert "labels must be" in refused(edit_card(labels={"0": "virus", "1": "others"}))
    assert "is not the card of a head" in refused(edit_card(colour="red"))
    assert "tensor bn1.bias is missing" in refused(edit_weights(lambda w: w.pop("bn1.bias")))
    assert "tensor extra does not belong" in refused(
        edit_weights(lambda w: w.update(extra=np.zeros(1, np.float32)))
    )
    assert "has NaN or infinity" in refused(
        edit_weights(lambda w: w["bn1.bias"].__setitem__(0, np.nan))
    )


def test_nothing_wrong_is_saved(tmp_path: Path) -> None:
    card = HeadCard("a", "a", 3, 4, 5)
    with pytest.raises(WeightsError, match="is missing"):
        save_head(tmp_path / "a", card, {})
    assert not (tmp_path / "a").exists()


def test_only_the_head_and_the_converter_need_torch() -> None:
    code = (
        "import sys\n"
        "from virnuc_assets.classifier import calls, head_files, predict, report, result_files\n"
        "from virnuc_assets.demo import compare, sample\n"
        "heavy = {'torch', 'matplotlib', 'dagster', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
