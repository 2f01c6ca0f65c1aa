"""Settings from environment variables: defaults that work anywhere, and refusals that say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from virnuc_assets.errors import SettingsError
from virnuc_assets.mini import bundled
from virnuc_assets.runner import devices
from virnuc_assets.settings import (
    Models,
    check_models_go_together,
    device_list,
    from_environment,
)

REAL = {"VIRNUC_ESM2": "esm2_t36_3B_UR50D", "VIRNUC_DNABERT_S": "DNABERT-S", "VIRNUC_HEAD": "lab"}


def test_nothing_set_gives_the_bundled_model_in_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = from_environment({})
    assert settings.store == tmp_path / "data"
    assert settings.n_shards == 8
    assert settings.models == Models(
        esm2=str(bundled.ESM2), dnabert_s=str(bundled.DNABERT_S), head=str(bundled.HEAD)
    )


def test_the_bundled_model_has_a_name(tmp_path):
    named = dict.fromkeys(["VIRNUC_ESM2", "VIRNUC_DNABERT_S"], "virnuc-mini-1")
    settings = from_environment({**named, "VIRNUC_HEAD": "lab"})
    assert settings.models == Models(str(bundled.ESM2), str(bundled.DNABERT_S), "lab")
    check_models_go_together({**named, "VIRNUC_HEAD": "lab"})


def test_every_setting_is_read(tmp_path):
    settings = from_environment(
        {
            **REAL,
            "VIRNUC_STORE": str(tmp_path),
            "VIRNUC_SHARDS": "4",
            "VIRNUC_CHUNK_LENGTH": "300",
            "VIRNUC_DTYPE": "bfloat16",
            "VIRNUC_ATTENTION": "sdpa",
            "VIRNUC_TOKEN_BUDGET": "2048",
            "VIRNUC_GPUS": "2, 0",
        }
    )
    assert (settings.store, settings.n_shards) == (tmp_path, 4)
    assert settings.models == Models(
        *("esm2_t36_3B_UR50D", "DNABERT-S", "lab", 300, "bfloat16", "sdpa", 2048, ("2", "0"))
    )
    encoding = settings.models.encoding("dnabert-s")
    assert (encoding.weights, encoding.dtype, encoding.devices) == (
        *("DNABERT-S", "bfloat16", ("2", "0")),
    )


def test_fp8_is_for_esm2_alone(tmp_path):
    models = from_environment({"VIRNUC_DTYPE": "fp8"}).models
    assert models.encoding("esm2").dtype == "fp8"
    assert models.encoding("dnabert-s").dtype == "float16"


def test_the_store_lies_in_dagster_home_unless_named():
    assert from_environment({"DAGSTER_HOME": "/srv/virnuc"}).store == Path("/srv/virnuc/data")


def test_an_empty_variable_is_one_that_is_not_set():
    empty = dict.fromkeys(["VIRNUC_ESM2", "VIRNUC_SHARDS", "VIRNUC_GPUS", "VIRNUC_DTYPE"], "")
    assert from_environment(empty) == from_environment({})


def test_paths_are_made_absolute_and_names_are_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pt").touch()
    models = from_environment(
        {"VIRNUC_ESM2": "own.pt", "VIRNUC_DNABERT_S": "DNABERT-S", "VIRNUC_HEAD": "heads/lab"}
    ).models
    assert models.esm2 == str(tmp_path / "own.pt")
    assert models.dnabert_s == "DNABERT-S"
    assert models.head == str(tmp_path / "heads" / "lab")


@pytest.mark.parametrize("missing", REAL)
def test_the_three_models_are_set_together(missing):
    some = {name: value for name, value in REAL.items() if name != missing}
    with pytest.raises(SettingsError, match=f"set, but not {missing}; set all three "):
        check_models_go_together(some)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VIRNUC_SHARDS", "0"),
        ("VIRNUC_SHARDS", "eight"),
        ("VIRNUC_CHUNK_LENGTH", "-500"),
        ("VIRNUC_TOKEN_BUDGET", "1e4"),
        ("VIRNUC_DTYPE", "fp16"),
        ("VIRNUC_GPUS", "0,x"),
        ("VIRNUC_GPUS", "0,cpu"),
    ],
)
def test_an_unusable_value_is_named(name, value):
    with pytest.raises(SettingsError, match=f"{name}={value}: "):
        from_environment({name: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("auto", ()),
        ("cpu", ("cpu",)),
        ("3", ("3",)),
        (" 1, 0,1", ("1", "0")),
        ("GPU-8932f937-d72c,MIG-41b36db8", ("GPU-8932f937-d72c", "MIG-41b36db8")),
    ],
)
def test_devices(text, expected):
    assert device_list(text) == expected


def test_cuda_means_every_visible_gpu_and_never_the_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert device_list("cuda") == ("2", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.default_devices() == ("cpu",)
    with pytest.raises(SettingsError, match="--device=cuda: no GPU is visible here"):
        device_list("cuda", "--device")
