"""Result files that do not agree with each other, or hold what is no score, are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from virnuc_assets.classifier.predict import classify
from virnuc_assets.classifier.result_checks import reconcile, wrong_scores
from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import read_json

SAMPLE = [
    ("contig", 12, ["1F1", "1R3", "2F2", "9R1", "10F3", "12F1"]),
    ("closed", 1, []),
    ("read", 1, ["1F1", "1F2", "1F3", "1R1", "1R2", "1R3"]),
]
PROVENANCE = {"model": "untrained", "index_digest": "toy-index"}
Table = pl.DataFrame


@pytest.fixture
def results(
    make_head: Callable[..., Any],
    make_index: Callable[..., Path],
    make_rows: Callable[..., Any],
    tmp_path: Path,
) -> Path:
    folder = tmp_path / "results"
    # With this seed some records are viral and some are not.
    classify(make_index(SAMPLE), *make_rows(12), make_head(seed=2), folder, PROVENANCE)
    return folder


def of_index(folder: Path) -> dict[str, int]:
    said = read_json(folder / "results.json")["counts"]
    return {name: said[name] for name in ("n_records", "n_chunks", "n_frames")}


def edit(folder: Path, name: str, change: Callable[[Table], Table]) -> None:
    path = folder / f"{name}.parquet"
    change(pl.read_parquet(path)).write_parquet(path)


def put(column: str, row: int, value: object) -> Callable[[Table], Table]:
    def change(table: Table) -> Table:
        values = table[column].to_list()
        values[row] = value
        return table.with_columns(pl.Series(column, values, table.schema[column]))

    return change


def test_whole_results_add_up_and_hold_scores(results: Path) -> None:
    counts = reconcile(results, of_index(results))
    assert counts.adds_up
    assert counts.found.items() <= read_json(results / "results.json")["counts"].items()
    assert wrong_scores(results) == {"wrong_frames": 0, "wrong_chunks": 0, "wrong_records": 0}


@pytest.mark.parametrize(
    ("table", "change", "differing", "wrong"),
    [
        ("records", lambda t: t.head(2), {"n_records", "n_chunks"}, 1),
        ("records", lambda t: pl.concat([t, t.tail(1)]), {"n_records", "n_chunks"}, 0),
        ("records", lambda t: t.with_columns(ordinal=pl.Series([2, 1, 0])), set(), 2),
        ("records", lambda t: t.with_columns(is_virus=~pl.col("is_virus")), set(), 2),
        ("records", put("n_viral_chunks", 0, 0), set(), 1),
        ("records", put("status", 1, "called"), {"n_no_open_frame"}, 1),
        ("records", put("score", 0, None), set(), 1),
        ("chunks", lambda t: t.head(4), {"n_called_chunks", "scored frames of chunks"}, 2),
        ("chunks", lambda t: t.with_columns(n_frames=1), {"scored frames of chunks"}, 0),
        ("frames", lambda t: t[1:], {"n_frames", "scored frames of chunks"}, 0),
        (
            "frames",
            put("score_virus", 3, None),
            {"n_unscored_frames", "scored frames of chunks"},
            0,
        ),
    ],
)
def test_what_does_not_add_up_is_named(
    results: Path,
    table: str,
    change: Callable[[Table], Table],
    differing: set[str],
    wrong: int,
) -> None:
    before = of_index(results)
    edit(results, table, change)
    counts = reconcile(results, before)
    assert not counts.adds_up
    # How many chunks are viral is another matter than whether they are all there.
    assert set(counts.differing) - {"n_viral_chunks", "n_viral_records"} == differing
    assert counts.wrong_records == wrong


def test_an_index_with_other_counts_is_named(results: Path) -> None:
    counts = reconcile(results, of_index(results) | {"n_frames": 13})
    assert (counts.adds_up, counts.differing) == (False, ("n_frames of the index",))


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("frames", put("score_virus", 1, float("nan"))),
        ("frames", put("score_other", 1, None)),
        ("frames", put("score_other", 1, -0.001)),
        (
            "frames",
            lambda t: t.with_columns(
                score_other=pl.when(pl.col("ordinal") == 4)
                .then(0.9999)
                .otherwise(pl.col("score_other"))
            ),
        ),
        ("chunks", put("score_virus", 0, 1.5)),
        ("chunks", put("score_virus", 0, float("inf"))),
        ("chunks", put("score_other", 0, None)),
        ("records", put("score", 0, float("nan"))),
        ("records", put("best_score", 2, None)),
    ],
)
def test_what_is_no_score_is_counted(
    results: Path, table: str, change: Callable[[Table], Table]
) -> None:
    edit(results, table, change)
    assert wrong_scores(results) == {
        f"wrong_{name}": int(name == table) for name in ("frames", "chunks", "records")
    }


def test_missing_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"results\.json: no such file"):
        reconcile(tmp_path, {})
    with pytest.raises(StoreError, match=r"frames\.parquet: no such file"):
        wrong_scores(tmp_path)
