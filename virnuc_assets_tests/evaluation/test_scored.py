from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.evaluation.scored import read_scored, together

CHUNK = 100
RECORDS = (
    ("phage", 400, [{"F1": 0.9, "R2": 0.4}, {"F1": 0.6}, {}, {"F3": 0.1}]),
    ("closed", 200, [{}, {}]),
    ("bacterium", 200, [{"F1": 0.2}, {"F2": 0.7, "R1": 0.3}]),
    ("lost", 80, [{"F1": None}]),
    ("prophage", 100, [{"F1": 0.8}]),
)
LABELS = pl.DataFrame(
    {
        "id": ["prophage", "lost", "bacterium", "closed", "phage"],
        "is_virus": [False, False, False, True, True],
        "group": ["bacteria", "archaea", "bacteria", "rna", "dna"],
    }
)
Make = Callable[..., Path]


def mask(*intervals: tuple[str, int, int]) -> pl.DataFrame:
    schema = {"id": pl.String, "start": pl.Int64, "end": pl.Int64}
    return pl.DataFrame(list(intervals), schema, orient="row")


def test_every_item_has_its_records_label(make_results: Make) -> None:
    scored = read_scored(make_results(*RECORDS), LABELS, None, CHUNK)
    assert scored.frames.select("is_virus", "group", "call").rows() == [
        *[(True, "dna", call) for call in (True, False, True, False)],
        *[(False, "bacteria", call) for call in (False, True, False, True)],
    ]
    assert scored.frames["score"].to_list() == pytest.approx(
        [0.9, 0.4, 0.6, 0.1, 0.2, 0.7, 0.3, 0.8]
    )
    # The second chunk of the bacterium compares its highest P(virus) with its highest P(others).
    assert scored.chunks["score"].to_list() == pytest.approx([0.6, 0.6, 0.1, 0.2, 0.5, 0.8])
    assert scored.chunks["group"].to_list() == ["dna"] * 3 + ["bacteria"] * 3
    assert scored.n_unscored_frames == 1
    assert scored.n_chunks == 10


def test_without_a_mask_records_are_as_the_results_say(make_results: Make) -> None:
    folder = make_results(*RECORDS)
    records = read_scored(folder, LABELS, None, CHUNK).records
    results = pl.read_parquet(folder / "records.parquet")
    for ours, theirs in (("call", "is_virus"), ("score", "score"), ("status", "status")):
        assert records[ours].to_list() == results[theirs].to_list()
    assert records["id"].to_list() == results["id"].to_list()
    assert records["is_virus"].to_list() == [True, True, False, False, False]
    assert records["status"].to_list()[1:4:2] == ["no_open_frame", "not_embedded"]


def test_a_mask_leaves_out_chunks_and_what_they_did_to_their_record(make_results: Make) -> None:
    hidden = mask(("phage", 0, 99), ("phage", 250, 260), ("phage", 270, 330), ("none", 0, 9))
    scored = read_scored(make_results(*RECORDS), LABELS, hidden, CHUNK)
    assert len(scored.frames) == 6
    assert scored.chunks["score"].to_list() == pytest.approx([0.6, 0.1, 0.2, 0.5, 0.8])
    phage = scored.records.row(0, named=True)
    # Two chunks are left, of odds 1.5 and 1/9.
    odds = (1.5 / 9) ** 0.5
    assert phage["score"] == pytest.approx(odds / (1 + odds))
    # Of 200 to 300 the mask covers 40 bases, of 300 to 400 it covers 30.
    assert (scored.n_masked_chunks, scored.n_masked_records, scored.n_chunks) == (1, 0, 9)


def test_a_record_of_which_the_mask_leaves_nothing_is_left_out(make_results: Make) -> None:
    hidden = mask(("prophage", 0, 50), ("closed", 0, 150))
    scored = read_scored(make_results(*RECORDS), LABELS, hidden, CHUNK)
    assert scored.records["id"].to_list() == ["phage", "bacterium", "lost"]
    assert (scored.n_masked_chunks, scored.n_masked_records) == (3, 2)


def test_a_record_keeps_the_calls_that_the_mask_leaves(make_results: Make) -> None:
    scored = read_scored(make_results(*RECORDS), LABELS, mask(("bacterium", 100, 200)), CHUNK)
    bacterium = scored.records.filter(pl.col("id") == "bacterium")
    assert bacterium["score"].to_list() == pytest.approx([0.2])
    assert scored.n_masked_records == 0


def test_samples_are_measured_together(make_results: Make) -> None:
    whole = read_scored(make_results(*RECORDS), LABELS, None, CHUNK)
    first = read_scored(make_results(*RECORDS[:2], name="one"), LABELS, None, CHUNK)
    second = read_scored(make_results(*RECORDS[2:], name="two"), LABELS, None, CHUNK)
    both = together([first, second])
    assert both.frames.equals(whole.frames)
    assert both.chunks.equals(whole.chunks)
    assert both.records.equals(whole.records)
    assert (both.n_chunks, both.n_unscored_frames) == (whole.n_chunks, whole.n_unscored_frames)


def test_results_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"records\.parquet: no such file"):
        read_scored(tmp_path, LABELS, None, CHUNK)
