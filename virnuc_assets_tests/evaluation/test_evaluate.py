from __future__ import annotations

from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from virnuc_assets.evaluation.evaluate import measure_groups, measure_levels, measure_tools
from virnuc_assets.evaluation.metrics import balanced_weights, measure, measure_calls
from virnuc_assets.evaluation.scored import Scored
from virnuc_assets.evaluation.write import Evaluated, write_evaluation
from virnuc_assets.store.atomic import read_json

GROUPS = {"phage": True, "rna": True, "bacteria": False, "plant": False, "<b>$x_$": False}
CALL = ("recall", "false_positive_rate", "precision", "mcc")


def some_items(n: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    group = rng.choice(list(GROUPS), n, p=[0.4, 0.1, 0.3, 0.1, 0.1])
    is_virus = np.array([GROUPS[name] for name in group], bool)
    score = 1 / (1 + np.exp(-rng.normal(is_virus * 1.5 - 0.7)))
    return pl.DataFrame(
        {"is_virus": is_virus, "group": group, "score": score, "call": score >= 0.6}
    )


def some_scored(seed: int = 0) -> Scored:
    records = some_items(80, seed).with_columns(
        id=pl.Series([f"r{i}" for i in range(80)]),
        length=pl.Series([200, 2999, 3000, 40_000] * 20),
        status=pl.Series(["called"] * 70 + ["no_open_frame"] * 10),
    )
    called = pl.col("status") == "called"
    records = records.with_columns(pl.when(called).then(pl.col("score", "call")))
    return Scored(
        frames=some_items(700, seed),
        chunks=some_items(500, seed),
        records=records,
        n_chunks=520,
        n_unscored_frames=0,
        n_masked_chunks=3,
        n_masked_records=1,
    )


def row_of(table: pl.DataFrame, **where: Any) -> dict[str, Any]:
    (row,) = table.filter(**where).to_dicts()
    return row


def expected(items: pl.DataFrame, weight: np.ndarray | None) -> dict[str, Any]:
    is_virus = items["is_virus"].to_numpy()
    calls = asdict(measure_calls(is_virus, items["call"].to_numpy(), weight))
    return asdict(measure(is_virus, items["score"].to_numpy(), weight)) | {
        f"call_{name}": calls[name] for name in CALL
    }


def balanced(items: pl.DataFrame) -> np.ndarray:
    return balanced_weights(items["group"].to_numpy(), items["is_virus"].to_numpy())


def test_over_all_items_count_alike_or_groups_do() -> None:
    items = some_items(400)
    table = measure_groups(items)
    plain = row_of(table, label="all", weight="items")
    assert plain | expected(items, None) == plain
    weighted = row_of(table, label="all", weight="groups")
    assert weighted == pytest.approx(weighted | expected(items, balanced(items)))
    assert plain["auroc"] != weighted["auroc"]


def test_a_group_is_measured_against_all_of_the_other_class() -> None:
    items = some_items(400)
    table = measure_groups(items)
    assert table.filter(pl.col("label") != "all").select("label", "group").rows() == [
        ("virus", "phage"),
        ("virus", "rna"),
        ("other", "<b>$x_$"),
        ("other", "bacteria"),
        ("other", "plant"),
    ]
    for row in table.filter(pl.col("label") != "all").to_dicts():
        own = pl.col("group") == row["group"]
        part = items.filter(own | (pl.col("is_virus") != (row["label"] == "virus")))
        assert row == pytest.approx(row | expected(part, balanced(part)))


def test_a_group_of_both_classes_is_two() -> None:
    items = some_items(100).with_columns(
        group=pl.when("is_virus").then("group").otherwise(pl.lit("rna"))
    )
    table = measure_groups(items)
    assert table.filter(group="rna")["label"].to_list() == ["virus"]
    assert row_of(table, group="rna")["n"] == (items["group"] == "rna").sum()


def test_what_has_no_item_of_a_class_is_null() -> None:
    table = measure_groups(some_items(100).filter("is_virus"))
    assert table["auroc"].null_count() == len(table) == 4
    assert table.select("n", "n_virus").row(0) == (table["n"][0], table["n"][0])
    assert measure_groups(some_items(0))["n"].to_list() == [0, 0]


def test_calls_alone_have_no_metrics_of_scores() -> None:
    items = some_items(200)
    bare = items.with_columns(score=pl.lit(None, pl.Float64))
    table, full = measure_groups(bare), measure_groups(items)
    assert table["auroc"].null_count() == len(table)
    columns = [f"call_{name}" for name in CALL]
    assert table.select(columns).equals(full.select(columns))


def test_calls_are_counted() -> None:
    is_virus = np.array([True, True, True, False, False, False, False])
    call = np.array([True, True, False, True, False, False, False])
    found = measure_calls(is_virus, call)
    assert asdict(found) == pytest.approx(
        {"recall": 2 / 3, "false_positive_rate": 1 / 4, "precision": 2 / 3, "mcc": 5 / 12}
    )
    doubled = measure_calls(is_virus, call, np.array([1, 1, 1, 2, 1, 1, 1]))
    assert doubled.precision == pytest.approx(2 / 4)
    nothing = measure_calls(is_virus, np.zeros(7, bool))
    assert (nothing.recall, nothing.precision, nothing.mcc) == (0, 0, 0)


def test_records_without_a_call_are_left_out_or_count_as_other() -> None:
    scored = some_scored()
    table = measure_levels(scored).filter(label="all", weight="items")
    for level, least in (("records", 0), ("records_3kb", 3000)):
        records = scored.records.filter(pl.col("length") >= least)
        missing = records["call"].null_count()
        left_out = row_of(table, level=level, no_call="left out")
        assert left_out | expected(records.drop_nulls(), None) == left_out
        filled = records.with_columns(pl.col("call").fill_null(False), pl.col("score").fill_null(0))
        as_other = row_of(table, level=level, no_call="as other")
        assert as_other | expected(filled, None) == as_other
        assert left_out["n_no_call"] == as_other["n_no_call"] == missing > 0
        assert as_other["n"] == left_out["n"] + missing
    assert row_of(table, level="chunks")["n_no_call"] == 20


def test_a_tool_is_measured_on_the_same_records() -> None:
    records = some_scored().records
    calls = pl.DataFrame({"id": ["r0", "r2"], "call": [True, True], "score": [0.9, 0.8]})
    table = measure_tools(records, {"tool": calls}).filter(label="all", weight="items")
    rows = {row["level"]: row for row in table.to_dicts()}
    assert (rows["records"]["n"], rows["records"]["n_no_call"]) == (80, 78)
    assert (rows["records_3kb"]["n"], rows["records_3kb"]["n_no_call"]) == (40, 39)
    called = records["is_virus"][0] + records["is_virus"][2]
    assert rows["records"]["call_recall"] == pytest.approx(called / records["is_virus"].sum())
    assert rows["records"]["auroc"] is not None
    assert set(table["no_call"]) == {"as other"}


class Page(HTMLParser):
    """A page's text and what it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def evaluated(scored: Scored, **tools: pl.DataFrame) -> Evaluated:
    return Evaluated("my <run>", "some model", 500, scored, tools, {"file": "a.fa"})


def test_the_files_say_the_same(tmp_path: Path) -> None:
    tool = pl.DataFrame({"id": ["r0"], "call": [True], "score": [None]}, strict=False).cast(
        {"score": pl.Float64}
    )
    rows = write_evaluation(tmp_path, evaluated(some_scored(), **{"<i>tool</i>": tool}))
    manifest = read_json(tmp_path / "metrics.json")
    assert manifest["metrics"] == rows.to_dicts()
    assert (manifest["model"], manifest["chunk_length"]) == ("some model", 500)
    assert manifest["counts"]["n_records"] == 80
    assert manifest["counts"]["n_no_open_frame"] == 10
    assert manifest["counts"]["n_masked_chunks"] == 3
    table = pl.read_csv(tmp_path / "metrics.tsv", separator="\t")
    assert table.columns == rows.columns
    assert set(table["chunk_length"]) == {500}
    assert table["auroc"].to_list() == pytest.approx(rows["auroc"].to_list(), abs=1e-6)
    page = Page((tmp_path / "evaluation.html").read_text())
    chunks = row_of(rows, level="chunks", label="all", weight="groups")
    for word in ("my <run>", "some model", "<b>$x_$", "<i>tool</i>", f"{chunks['auroc']:.3f}"):
        assert word in page.text
    assert "i" not in page.tags
    assert len(page.links) == 3
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_evaluation(tmp_path / name, evaluated(some_scored()))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_what_cannot_be_measured_does_not_stop_the_page(tmp_path: Path) -> None:
    scored = some_scored()
    empty = scored.frames.clear()
    none = scored.records.with_columns(
        pl.lit(None, pl.Boolean).alias("call"), pl.lit(None, pl.Float64).alias("score")
    )
    bare = Scored(empty, empty, none, 520, 0, 0, 0)
    rows = write_evaluation(tmp_path, evaluated(bare))
    assert rows["auroc"].null_count() == len(rows)
    assert "–" in (tmp_path / "evaluation.html").read_text()


def test_long_curves_are_drawn_through_few_points() -> None:
    from virnuc_assets.evaluation.figures import _thinned

    x = np.sort(np.random.default_rng(0).random(10_000))
    few_x, few_y = _thinned(x, x**2)
    assert 300 < len(few_x) <= 400
    assert (few_x[0], few_x[-1]) == (x[0], x[-1])
    assert np.abs(np.interp(x, few_x, few_y) - x**2).max() < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_labels_are_guessed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = some_items(20_000, seed)
    guess = items.with_columns(score=pl.Series(rng.permutation(items["score"].to_numpy())))
    assert row_of(measure_groups(guess), label="all", weight="groups")["auroc"] == pytest.approx(
        0.5, abs=0.02
    )
