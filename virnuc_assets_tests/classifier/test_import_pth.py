from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from virnuc_assets.classifier.head import load_head
from virnuc_assets.classifier.import_pth import import_pth
from virnuc_assets.errors import WeightsError
from virnuc_assets.store.digests import sha256_file


@pytest.mark.parametrize("name", ["module", "legacy", "state", "checkpoint"])
def test_a_converted_head_scores_like_the_original(
    original: Path, tmp_path: Path, name: str
) -> None:
    source = original / f"{name}.pth"
    card = import_pth(source, tmp_path / "head", "lab", chunk_length=500, notes="from the lab")
    head = load_head(tmp_path / "head")
    expected = np.load(original / "scores.npz")
    features = expected["features"]
    np.testing.assert_allclose(
        head.score(features[:, :768], features[:, 768:]), expected["scores"], atol=1e-6
    )
    assert card == head.card
    assert (card.dna_dim, card.protein_dim, card.hidden_dim) == (768, 2560, 512)
    assert (card.name, card.label, card.chunk_length) == ("lab", "lab", 500)
    assert card.source_sha256 == sha256_file(source)


def test_all_four_formats_give_the_same_weights(original: Path, tmp_path: Path) -> None:
    names = ("module", "legacy", "state", "checkpoint")
    for name in names:
        import_pth(original / f"{name}.pth", tmp_path / name, "lab")
    assert len({(tmp_path / name / "head.safetensors").read_bytes() for name in names}) == 1


class Attack:
    """Unpickled the usual way, makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, (f"touch {self.target}",)


def write_zip(path: Path, value: object) -> None:
    torch.save(value, path)


def write_legacy(path: Path, value: object) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def write_pickle(path: Path, value: object) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("write", [write_zip, write_legacy, write_pickle])
@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_that_names_anything_else_is_refused_and_not_run(
    tmp_path: Path, write: object, nested: bool
) -> None:
    assert callable(write)
    marker, source = tmp_path / "owned", tmp_path / "head.pth"
    attack = Attack(marker)
    write(source, {"model_state_dict": {"bn1.bias": attack}} if nested else attack)
    with pytest.raises(WeightsError, match=r"head\.pth: names (posix|nt)\.system"):
        import_pth(source, tmp_path / "head", "bad")
    assert not marker.exists()
    assert not (tmp_path / "head").exists()
    # The attack is a real one: without the restriction it runs.
    torch.load(source, weights_only=False) if write is not write_pickle else pickle.loads(
        source.read_bytes()
    )
    assert marker.exists()


def test_torchscript_is_not_handed_to_the_compiler(original: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="TorchScript"):
        import_pth(original / "torchscript.pth", tmp_path / "head", "script")


def test_another_model_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(4, 2), source)
    with pytest.raises(WeightsError, match="no layer hidden_layer"):
        import_pth(source, tmp_path / "head", "x")
    torch.save(torch.nn.Conv1d(4, 2, 1), source)
    with pytest.raises(WeightsError, match=r"names torch\.nn\.modules\.conv\.Conv1d"):
        import_pth(source, tmp_path / "head", "x")
    torch.save({"weight": torch.zeros(2, 2)}, source)
    with pytest.raises(WeightsError, match=r"no two-dimensional hidden_layer\.weight"):
        import_pth(source, tmp_path / "head", "x")
    torch.save([1, 2], source)
    with pytest.raises(WeightsError, match="neither an MLPClassifier nor its state dict"):
        import_pth(source, tmp_path / "head", "x")


def test_the_dna_dimension_must_leave_some_for_the_protein(original: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="takes 3328 inputs"):
        import_pth(original / "state.pth", tmp_path / "head", "x", dna_dim=3328)


def test_missing_cut_and_foreign_files_are_named(original: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth: cannot be read"):
        import_pth(tmp_path / "absent.pth", tmp_path / "head", "x")
    source = tmp_path / "broken.pth"
    for content in (
        b"",
        b"hello",
        (original / "module.pth").read_bytes()[:5000],
        (original / "legacy.pth").read_bytes()[:5000],
    ):
        source.write_bytes(content)
        with pytest.raises(WeightsError, match=r"broken\.pth: is not a file torch.save wrote"):
            import_pth(source, tmp_path / "head", "x")
