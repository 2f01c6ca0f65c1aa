"""The bundled model: small, whole, of one name, and for both chunk lengths."""

from __future__ import annotations

import dataclasses

import pytest

from virnuc_assets.classifier.head_files import read_card
from virnuc_assets.encoders import catalog
from virnuc_assets.mini import bundled
from virnuc_assets.pipeline import check_models, model_label
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout


def test_all_of_it_is_small_and_nothing_in_it_is_executable() -> None:
    files = [path for path in bundled.DATA.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_its_parts_have_one_name() -> None:
    dna = catalog.resolve_weights("dnabert-s", str(bundled.DNABERT_S)).label
    protein = catalog.resolve_weights("esm2", str(bundled.ESM2)).label
    card = read_card(bundled.HEAD)
    assert model_label(protein, dna, card.label) == bundled.NAME == card.name
    assert model_label(protein, dna, "lab") == "virnuc-mini-1 + lab"
    assert model_label("esm2_t36_3B_UR50D", "DNABERT-S", "lab") == (
        "DNABERT-S + esm2_t36_3B_UR50D + lab"
    )


@pytest.mark.parametrize("chunk_length", [300, 500])
def test_its_parts_fit_together(tmp_path, chunk_length) -> None:
    models = dataclasses.replace(from_environment({}).models, chunk_length=chunk_length)
    check_models(Layout(tmp_path), models)


def test_only_its_own_results_are_described_by_its_note() -> None:
    assert bundled.described("lab") == "lab"
    assert bundled.described(f"{bundled.NAME} + lab") == f"{bundled.NAME} + lab"
    assert bundled.described(bundled.NAME) == f"{bundled.NAME}: {bundled.NOTE}"
