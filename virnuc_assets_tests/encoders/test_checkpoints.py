"""Checkpoints in every published layout load; anything else is refused in one clear sentence."""

import json
import os
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.errors import WeightsError
from virnuc_assets_tests import untrained

PROTEINS = ["MKVLAAGIC", "M"]
READS = ["ACGTTGCA" * 9, "A"]


def embed(encoder, path) -> np.ndarray:
    inputs = PROTEINS if encoder == "esm2" else READS
    settings = EncoderSettings(encoder, str(path), token_budget=1024)
    return load_encoder(settings).embed(inputs).values


@pytest.fixture
def copy(tmp_path):
    """A copy of a model folder that may be damaged."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / folder.name))


def test_the_args_layout_of_fair_esm_loads_like_the_cfg_layout(
    fair_esm_content, fair_esm_file, tmp_path
):
    content = {"args": fair_esm_content["cfg"]["model"], "model": fair_esm_content["model"]}
    torch.save(content, tmp_path / "old.pt")
    assert np.array_equal(embed("esm2", tmp_path / "old.pt"), embed("esm2", fair_esm_file))


def test_a_file_of_the_format_before_torch_1_6_loads(fair_esm_content, fair_esm_file, tmp_path):
    path = tmp_path / "legacy.pt"
    torch.save(fair_esm_content, path, _use_new_zipfile_serialization=False)
    assert np.array_equal(embed("esm2", path), embed("esm2", fair_esm_file))


def test_half_precision_weights_load_for_float32(fair_esm_content, fair_esm_file, tmp_path):
    halved = {name: tensor.half() for name, tensor in fair_esm_content["model"].items()}
    torch.save({**fair_esm_content, "model": halved}, tmp_path / "half.pt")
    values = embed("esm2", tmp_path / "half.pt")
    np.testing.assert_allclose(values, embed("esm2", fair_esm_file), atol=0.02)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("prefix", ["", "esm."])
def test_sharded_folders_load_like_single_ones(form, prefix, esm_folder, copy):
    folder = copy(esm_folder)
    tensors = {prefix + n: t for n, t in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    stem = "model" if form == "safetensors" else "pytorch_model"
    weight_map = {}
    for number, names in enumerate([sorted(tensors)[::2], sorted(tensors)[1::2]], start=1):
        shard = f"{stem}-0000{number}-of-00002.{form}"
        part = {name: tensors[name] for name in names}
        (save_file if form == "safetensors" else torch.save)(part, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{stem}.{form}.index.json").write_text(json.dumps(index))

    assert np.array_equal(embed("esm2", folder), embed("esm2", esm_folder))

    (folder / f"{stem}-00002-of-00002.{form}").unlink()
    with pytest.raises(WeightsError, match=r"names the shard .*-00002-of-00002"):
        embed("esm2", folder)


def test_a_configs_own_epsilon_and_token_dropout_are_honoured(esm_folder, copy):
    reference = embed("esm2", esm_folder)
    folder = copy(esm_folder)
    config = json.loads((folder / "config.json").read_text())
    for key, value in (("layer_norm_eps", 0.5), ("token_dropout", False)):
        (folder / "config.json").write_text(json.dumps(config | {key: value}))
        assert np.abs(embed("esm2", folder) - reference).max() > 1e-3


def test_dnabert_s_loads_from_safetensors_and_without_prefix(
    dnabert_s_folder, dnabert_s_state, copy
):
    folder = copy(dnabert_s_folder)
    (folder / "pytorch_model.bin").unlink()
    bare = {name.removeprefix("bert."): tensor for name, tensor in dnabert_s_state.items()}
    save_file(bare, folder / "model.safetensors")
    values = embed("dnabert-s", folder)
    assert np.array_equal(values, embed("dnabert-s", dnabert_s_folder))


def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(fair_esm_content, tmp_path):
    name = "encoder.sentence_encoder.layers.3.fc1.weight"
    model = {**fair_esm_content["model"], name: torch.zeros(7, 320)}
    torch.save({**fair_esm_content, "model": model}, tmp_path / "wrong.pt")
    with pytest.raises(
        WeightsError,
        match=r"wrong\.pt: layers\.3\.fc1\.weight should have shape \(1280, 320\) and has \(7,",
    ):
        embed("esm2", tmp_path / "wrong.pt")


def test_a_missing_tensor_is_named(fair_esm_content, dnabert_s_state, dnabert_s_folder, copy):
    folder = copy(dnabert_s_folder)
    missing = "bert.encoder.layer.1.mlp.wo.bias"
    kept = {name: tensor for name, tensor in dnabert_s_state.items() if name != missing}
    torch.save(kept, folder / "pytorch_model.bin")
    with pytest.raises(
        WeightsError, match=r"pytorch_model\.bin: holds no tensor encoder\.layer\.1\.mlp\.wo\.bias"
    ):
        embed("dnabert-s", folder)


def test_a_config_with_fewer_layers_than_the_weights_is_refused(esm_folder, copy):
    folder = copy(esm_folder)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"holds 6 layers and its configuration states 4"):
        embed("esm2", folder)


def test_an_esm_1_checkpoint_is_refused(fair_esm_content, tmp_path):
    extra = {"encoder.sentence_encoder.embed_positions.weight": torch.zeros(1026, 320)}
    model = fair_esm_content["model"] | extra
    torch.save({**fair_esm_content, "model": model}, tmp_path / "esm1b.pt")
    with pytest.raises(WeightsError, match=r"esm1b\.pt: is not an ESM-2 checkpoint"):
        embed("esm2", tmp_path / "esm1b.pt")


@pytest.mark.parametrize("key", ["position_embedding_type", "layer_norm_eps"])
def test_a_config_that_lacks_a_key_is_refused_by_the_key(key, esm_folder, copy):
    folder = copy(esm_folder)
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=key):
        embed("esm2", folder)


class Malicious:
    """A pickle that runs a command when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("encoder", ["esm2", "dnabert-s"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(
    encoder, dnabert_s_folder, copy, tmp_path
):
    trace = tmp_path / "was-run"
    if encoder == "esm2":
        path = file = tmp_path / "malicious.pt"
    else:
        path = copy(dnabert_s_folder)
        file = path / "pytorch_model.bin"
    torch.save({"cfg": {"model": Namespace()}, "model": Malicious(trace)}, file)
    with pytest.raises(WeightsError, match=r"read without running code"):
        embed(encoder, path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a readable torch checkpoint"),
        (b">protein\nMKV\n", "is no checkpoint|is not a readable"),
        (b"PK\x03\x04 cut short", "is not a readable torch checkpoint"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(content, message, tmp_path):
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"broken\.pt: .*({message})"):
        embed("esm2", path)


@pytest.mark.parametrize("content", [torch.zeros(3), {"model": {}}, {"cfg": {}, "model": {}}])
def test_a_checkpoint_of_something_else_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt: (holds no model|is not an ESM-2)"):
        embed("esm2", tmp_path / "other.pt")


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    folder = Path(shutil.copytree(untrained.folder() / "esm2", tmp_path / "esm2"))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"model\.safetensors: is not a readable safetensors"):
        embed("esm2", folder)


@pytest.mark.parametrize("content", ["{}", "not json", '{"model": {"type": "BPE"}}'])
def test_a_tokeniser_file_that_is_none_is_refused(content, dnabert_s_folder, copy):
    folder = copy(dnabert_s_folder)
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match=r"tokenizer\.json: is not a tokeniser"):
        embed("dnabert-s", folder)


def test_a_tokeniser_without_a_special_token_is_refused(dnabert_s_folder, copy):
    folder = copy(dnabert_s_folder)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("[SEP]", "[END]"))
    with pytest.raises(WeightsError, match=r"tokenizer\.json: has no token \[SEP\]"):
        embed("dnabert-s", folder)
