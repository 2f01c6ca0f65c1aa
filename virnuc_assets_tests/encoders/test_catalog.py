"""A weights setting means the same files everywhere, or one sentence says what to do."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from virnuc_assets.encoders import catalog
from virnuc_assets.errors import WeightsError
from virnuc_assets_tests import untrained

MODELS = untrained.folder()


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    """Caches of the usual tools, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("VIRNUC_MODELS", raising=False)


def unreachable(*_: object, **__: object) -> None:
    raise OSError("no route to host")


@pytest.fixture
def hub_folder(tmp_path):
    """A model in the Hub's cache layout."""

    def write(repository: str, source: Path) -> Path:
        cached = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("0" * 40)
        return Path(shutil.copytree(source, cached / "snapshots" / ("0" * 40)))

    return write


def test_the_catalog_needs_no_torch():
    code = "import sys; import virnuc_assets.encoders.catalog; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_public_shapes_are_the_published_ones():
    assert {name: (s.layers, s.dim, s.heads) for name, s in catalog.ESM2_SHAPES.items()} == {
        "esm2_t6_8M_UR50D": (6, 320, 20),
        "esm2_t12_35M_UR50D": (12, 480, 20),
        "esm2_t30_150M_UR50D": (30, 640, 20),
        "esm2_t33_650M_UR50D": (33, 1280, 20),
        "esm2_t36_3B_UR50D": (36, 2560, 40),
        "esm2_t48_15B_UR50D": (48, 5120, 40),
    }
    import esm.pretrained

    assert all(hasattr(esm.pretrained, name) for name in catalog.ESM2_SHAPES)


def test_a_file_and_a_folder_are_what_they_are(fair_esm_file, esm_folder, dnabert_s_folder):
    file = catalog.resolve_weights("esm2", str(fair_esm_file))
    assert (file.label, file.kind, file.path) == ("esm2_random", "fair-esm", fair_esm_file)
    folder = catalog.resolve_weights("esm2", str(esm_folder))
    assert (folder.label, folder.kind) == ("esm2_random", "folder")
    dna = catalog.resolve_weights("dnabert-s", str(dnabert_s_folder))
    assert (dna.label, dna.kind) == ("dnabert_s_random", "folder")


@pytest.mark.parametrize(("encoder", "folder"), [("esm2", "esm2"), ("dnabert-s", "dnabert_s")])
def test_a_folders_own_label_wins(encoder, folder):
    assert catalog.resolve_weights(encoder, str(MODELS / folder)).label == untrained.LABEL


def test_a_name_is_found_where_virnuc_models_says(monkeypatch, tmp_path, fair_esm_file):
    monkeypatch.setenv("VIRNUC_MODELS", str(tmp_path))
    path = tmp_path / "esm2_t6_8M_UR50D.pt"
    shutil.copy(fair_esm_file, path)
    weights = catalog.resolve_weights("esm2", "esm2_t6_8M_UR50D")
    assert (weights.path, weights.label) == (path, "esm2_t6_8M_UR50D")


def test_a_name_is_found_in_torch_hubs_folder(tmp_path, fair_esm_file):
    import torch

    path = tmp_path / "torch" / "hub" / "checkpoints" / "esm2_t12_35M_UR50D.pt"
    path.parent.mkdir(parents=True)
    shutil.copy(fair_esm_file, path)
    assert Path(torch.hub.get_dir()) / "checkpoints" == path.parent
    assert catalog.resolve_weights("esm2", "esm2_t12_35M_UR50D").path == path


@pytest.mark.parametrize(
    ("encoder", "name", "repository", "folder"),
    [
        ("esm2", "esm2_t30_150M_UR50D", "facebook/esm2_t30_150M_UR50D", "esm2"),
        ("dnabert-s", "DNABERT-S", "zhihan1996/DNABERT-S", "dnabert_s"),
    ],
)
def test_a_name_is_found_in_the_hubs_cache(encoder, name, repository, folder, hub_folder):
    assert not catalog.is_available(name)
    path = hub_folder(repository, MODELS / folder)
    assert catalog.is_available(name)
    assert catalog.resolve_weights(encoder, name).path == path


def test_a_name_that_is_nowhere_says_how_to_fetch_it():
    with pytest.raises(WeightsError, match=r"`virnuc models download esm2_t36_3B_UR50D`"):
        catalog.resolve_weights("esm2", "esm2_t36_3B_UR50D")


@pytest.mark.parametrize(
    ("encoder", "setting", "message"),
    [
        ("esm2", "/nowhere/model.pt", "/nowhere/model.pt: no such weights file or folder"),
        ("esm2", "esm2_t99", "esm2_t99: is neither a file nor a known model"),
        ("esm2", "DNABERT-S", "is a model for the encoder dnabert-s, not esm2"),
        ("dnabert-s", "esm2_t6_8M_UR50D", "is a model for the encoder esm2, not dnabert-s"),
        ("dnabert-s", str(MODELS / "esm2"), "describes a model for the encoder esm2"),
        (
            "esm2",
            str(MODELS / "dnabert_s"),
            "describes a model for the encoder dnabert-s",
        ),
        ("esm2", str(MODELS), r"config\.json: no such file"),
        (
            "esm2",
            str(MODELS / "esm2" / "config.json"),
            "is no weights file for the encoder esm2",
        ),
    ],
)
def test_a_setting_that_means_no_weights_is_named(encoder, setting, message):
    with pytest.raises(WeightsError, match=message):
        catalog.resolve_weights(encoder, setting)


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "config.json"])
def test_an_incomplete_folder_names_what_is_missing(missing, tmp_path):
    folder = Path(shutil.copytree(MODELS / "dnabert_s", tmp_path / "model"))
    (folder / missing).unlink()
    with pytest.raises(WeightsError, match=missing.replace(".", r"\.")):
        catalog.resolve_weights("dnabert-s", str(folder))


def test_the_digest_of_a_file_is_what_sha256sum_prints(fair_esm_file):
    weights = catalog.resolve_weights("esm2", str(fair_esm_file))
    expected = hashlib.sha256(fair_esm_file.read_bytes()).hexdigest()
    assert catalog.weights_digest(weights) == expected


@pytest.mark.parametrize("changed", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_digest_of_a_folder_follows_each_file_that_matters(changed, tmp_path):
    folder = Path(shutil.copytree(MODELS / "dnabert_s", tmp_path / "model"))
    weights = catalog.resolve_weights("dnabert-s", str(folder))
    before = catalog.weights_digest(weights)
    (folder / "README.md").write_text("anything")
    assert catalog.weights_digest(weights) == before
    content = (folder / changed).read_bytes()
    (folder / changed).write_bytes(content + b" ")
    assert catalog.weights_digest(weights) != before


def test_the_encoder_digest_follows_what_determines_values():
    digests = {
        catalog.encoder_digest("esm2", "a", "truncate"),
        catalog.encoder_digest("esm2", "b", "truncate"),
        catalog.encoder_digest("esm2", "a", "window"),
        catalog.encoder_digest("dnabert-s", "a", "truncate"),
    }
    assert len(digests) == 4


def test_esm2_is_downloaded_to_where_fair_esm_keeps_it(monkeypatch, fair_esm_file, tmp_path):
    asked = []

    def fetch(url: str, path: str, progress: bool) -> None:
        asked.append(url)
        shutil.copy(fair_esm_file, path)

    monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
    weights = catalog.download("esm2_t6_8M_UR50D")
    assert asked == ["https://dl.fbaipublicfiles.com/fair-esm/models/esm2_t6_8M_UR50D.pt"]
    assert weights == catalog.resolve_weights("esm2", "esm2_t6_8M_UR50D")


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_the_hub_is_asked_for_no_code_and_for_pickles_only_in_need(
    form, monkeypatch, hub_folder, tmp_path
):
    source = Path(shutil.copytree(MODELS / "esm2", tmp_path / "published"))
    if form == "bin":
        (source / "model.safetensors").rename(source / "pytorch_model.bin")
    asked: list[str] = []
    folder = hub_folder("facebook/esm2_t6_8M_UR50D", source)

    def snapshot(repository: str, allow_patterns: list[str]) -> str:
        assert repository == "facebook/esm2_t6_8M_UR50D"
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)

    assert catalog.download("esm2_t6_8M_UR50D").path == folder
    assert any(pattern.endswith(".bin") for pattern in asked) == (form == "bin")
    assert not any(pattern.endswith((".py", "*")) for pattern in asked)


def test_a_failed_download_names_the_model_and_the_way_out(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(WeightsError, match=r"DNABERT-S: could not be downloaded .*no route"):
        catalog.download("DNABERT-S")
    with pytest.raises(WeightsError, match="is neither a file nor a known model"):
        catalog.download("esm3")


def test_a_config_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps([1]))
    with pytest.raises(WeightsError, match="is not a JSON object"):
        catalog.resolve_weights("esm2", str(tmp_path))
