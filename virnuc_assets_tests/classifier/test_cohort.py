"""A cohort's figures come from small files alone; what stands out is marked by a stated rule."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from virnuc_assets.classifier import cohort as cohorts
from virnuc_assets.classifier.cohort import drift, modified_z, read_cohort
from virnuc_assets.classifier.cohort_page import markdown_table, write_cohort
from virnuc_assets.classifier.predict import classify
from virnuc_assets.classifier.result_files import SCHEMA

PROVENANCE = {
    "chunk_length": "500",
    "esm2_dtype": "float16",
    "dnabert_s_dtype": "float16",
    "index_digest": "toy-index",
    "model": "lab",
}


def manifest(viral: int = 30, records: int = 100, score: float | None = 0.3, **said: str) -> dict:
    """A `results.json` of which ten records have no open frame."""
    counts = {
        "n_records": records,
        "n_viral_records": viral,
        "n_bases": 500 * records,
        "n_viral_bases": 500 * viral,
        "n_no_open_frame": 10,
        "n_not_embedded": 0,
        "n_chunks": records,
        "n_frames": 300,
        "n_unique_nucleotides": 280,
        "n_unique_proteins": 260,
    }
    provenance = PROVENANCE | said
    return {
        "schema": SCHEMA,
        "model": provenance["model"],
        "counts": counts,
        "median_score": score,
        "provenance": provenance,
    }


@pytest.fixture
def cohort(tmp_path: Path) -> Callable[..., cohorts.Cohort]:
    """Read samples from manifests on disk, by name; None is a sample on its way."""

    def read(samples: dict[str, Any]) -> cohorts.Cohort:
        folders = {}
        for name, value in samples.items():
            folders[name] = tmp_path / "predictions" / name
            folders[name].mkdir(parents=True)
            if value is not None:
                (folders[name] / "results.json").write_text(json.dumps(value))
        return read_cohort(folders)

    return read


def alike(n: int) -> dict[str, Any]:
    return {f"s{i:02d}": manifest(viral=29 + i % 3, score=0.3 + 0.001 * i) for i in range(n)}


def test_a_samples_figures_are_those_of_its_results(
    make_head: Callable[..., Any],
    make_index: Callable[..., Path],
    make_rows: Callable[..., Any],
    tmp_path: Path,
) -> None:
    sample = [("a", 4, ["1F1", "2F2", "4R1"]), ("closed", 1, []), ("b", 1, ["1F1", "1R3"])]
    folder = tmp_path / "results"
    classify(make_index(sample), *make_rows(5), make_head(seed=2), folder, PROVENANCE)
    os.utime(folder / "results.json", (1_000_000_000, 1_000_000_000))
    (row,) = read_cohort({"x": folder}).table.to_dicts()
    records = pl.read_parquet(folder / "records.parquet")
    index = pl.read_parquet(tmp_path / "index/frames.parquet")
    unique = index["nucleotide_row"].n_unique() + index["protein_row"].n_unique()
    viral = int(records["is_virus"].sum())
    assert row == {
        "sample": "x",
        "records": 3,
        "bases": 3000,
        "chunks": 6,
        "frames": 5,
        "called_records": 2,
        "viral_records": viral,
        "viral_share": viral / 2,
        "not_callable_share": pytest.approx(1 / 3),
        "unique_share": unique / 10,
        "median_score": statistics.median(records["score"].drop_nulls().to_list()),
        "model": "lab",
        "chunk_length": "500",
        "precision": "float16",
        "finished": datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC),
        "stands_out": None,
    }


def test_samples_on_their_way_are_left_out_and_unusable_results_are_told(cohort) -> None:
    old = manifest() | {"schema": 1}
    broken = manifest()
    del broken["counts"]["n_bases"]
    found = cohort({"done": manifest(), "on_its_way": None, "old": old, "broken": broken})
    assert found.table["sample"].to_list() == ["done"]
    said_broken, said_old = found.unread
    assert "old/results.json: has format 1 and this version reads 2; make the" in said_old
    assert "broken/results.json: does not hold what it should (KeyError('n_bases'))" in said_broken


def test_the_modified_z_score_is_that_of_its_authors() -> None:
    # Iglewicz and Hoaglin 1993, chapter 3: 0.6745 (x - median) / MAD.
    rng = np.random.default_rng(6)
    values = rng.normal(5, 2, 101)
    median = statistics.median(values)
    mad = statistics.median(abs(value - median) for value in values)
    expected = [0.6745 * (value - median) / mad for value in values]
    assert modified_z(values, values) == pytest.approx(expected, abs=1e-12)
    # More than half alike: the mean deviation takes the place of a MAD of 0.
    values = np.array([1.0] * 9 + [3.0])
    assert modified_z(values, values)[:9].tolist() == [0.0] * 9
    assert modified_z(values, values)[9] == pytest.approx(2 / (1.2533 * 0.2))
    assert modified_z(np.array([1.0, 2.0]), np.ones(9)).tolist() == [0.0, np.inf]


def test_what_lies_far_from_the_others_stands_out_and_by_what_is_said(cohort) -> None:
    samples = alike(20)
    samples |= {
        "viral": manifest(viral=85, score=0.9),
        "small": manifest(viral=0, records=12, score=0.3),
        "empty": manifest(viral=0, records=10, score=None),
    }
    marked = dict(cohort(samples).table.select("sample", "stands_out").iter_rows())
    assert marked.pop("viral") == "viral_share, median_score"
    assert marked.pop("small") == "records, viral_share, not_callable_share"
    assert marked.pop("empty") == "records, not_callable_share"
    assert set(marked.values()) == {None}


def test_small_differences_and_few_samples_do_not_stand_out(cohort) -> None:
    # Far by the spread of the others, and nothing that a person would look at.
    samples = {f"s{i}": manifest() for i in range(12)} | {"x": manifest(viral=31, score=0.31)}
    assert cohort(samples).outliers.is_empty()
    few = {f"t{i}": manifest() for i in range(6)} | {"t": manifest(viral=90)}
    assert cohort(few).outliers.is_empty()


def test_samples_are_compared_with_those_of_their_model_and_chunk_length(cohort) -> None:
    samples = alike(20)
    samples |= {f"o{i}": manifest(viral=80, score=0.9, model="other") for i in range(9)}
    samples |= {f"c{i}": manifest(viral=85, score=0.9, chunk_length="300") for i in range(3)}
    assert cohort(samples).outliers.is_empty()


def test_drift_leaves_out_the_samples_own_earlier_figures(cohort) -> None:
    table = cohort(alike(9)).table
    figures = cohorts.key_figures(manifest(viral=80))
    assert set(drift(table, "new", figures)) == {"viral_share"}
    assert drift(table, "new", figures)["viral_share"] > 3.5
    assert drift(table, "new", cohorts.key_figures(manifest())) == {}
    assert drift(table, "s00", cohorts.key_figures(manifest())) == {}
    assert drift(table.head(8), "s00", figures) is None
    assert drift(table, "new", cohorts.key_figures(manifest(model="other"))) is None


def test_the_page_and_the_table_show_every_sample_and_link_to_its_report(cohort, tmp_path) -> None:
    found = cohort(alike(20) | {"<odd>": manifest(viral=85, esm2_dtype="fp8")})
    written = write_cohort(found, tmp_path / "cohort", "../reports/{}/report.html")
    page = written.page.read_text(encoding="utf-8")
    assert "<odd>" not in page
    assert page.count("../reports/&lt;odd&gt;/report.html") == 2
    assert page.count('href="../reports/s07/report.html"') == 1
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "ESM-2 fp8, DNABERT-S float16" in page
    assert page.index("&lt;odd&gt;") < page.index("s00")
    assert pl.read_parquet(written.table).equals(found.table)
    header, _, first, *rest = markdown_table(found, 3).splitlines()
    assert header.startswith("| sample | records | viral |")
    assert first.startswith("| <odd> | 100 | 94.4")
    assert first.endswith("| viral share |")
    assert len(rest) == 2


def test_an_empty_cohort_has_a_page(cohort, tmp_path) -> None:
    written = write_cohort(cohort({}), tmp_path / "cohort", "{}")
    assert "No sample has results yet." in written.page.read_text(encoding="utf-8")
    assert len(pl.read_parquet(written.table)) == 0


def test_thousands_of_samples_are_read_from_their_small_files_alone(tmp_path) -> None:
    folders = {f"s{i:04d}": tmp_path / f"s{i:04d}" for i in range(2100)}
    for i, folder in enumerate(folders.values()):
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(manifest(viral=20 + i % 15)))
    found = read_cohort(folders)
    assert len(found.table) == 2100
    written = write_cohort(found, tmp_path / "cohort", "../reports/{}/report.html")
    page = written.page.read_text(encoding="utf-8")
    assert "Listed are 2,000" in page
    assert len(page) < 3_000_000
