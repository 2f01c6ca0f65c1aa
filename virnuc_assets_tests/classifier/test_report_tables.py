"""What a report's tables and figures are drawn from, each beside a plain computation."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from virnuc_assets.classifier import report_tables as tables
from virnuc_assets.classifier.figures import as_cells
from virnuc_assets.classifier.words import as_bases, as_duration, as_share
from virnuc_assets.errors import StoreError


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_frames_are_counted_in_the_bin_of_their_score(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.random(2000), [0.0, 1.0, 0.5, 1 / 40]]).astype(np.float32)
    names = rng.choice(["F1", "R2"], len(scores))
    unscored = pl.DataFrame({"frame": ["F3"], "score_virus": [None]})
    pl.concat(
        [pl.DataFrame({"frame": names, "score_virus": scores}), unscored],
        how="vertical_relaxed",
    ).write_parquet(tmp_path / "frames.parquet")
    found = tables.frame_histogram(tmp_path)
    assert set(found["frame"]) == {"F1", "R2"}
    for name in ("F1", "R2"):
        expected, _ = np.histogram(scores[names == name], np.linspace(0, 1, 41))
        mine = found.filter(pl.col("frame") == name)
        counted = np.zeros(40, np.int64)
        counted[mine["bin"].to_numpy()] = mine["n"].to_numpy()
        assert np.array_equal(counted, expected)


def test_a_chunks_score_is_one_half_or_more_if_and_only_if_it_is_viral(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    other, virus = rng.random((2, 500)).astype(np.float32)
    other[:20] = virus[:20]
    chunks = pl.DataFrame(
        {
            "record": np.repeat(np.arange(100), 5),
            "chunk": np.tile(np.arange(1, 6), 100),
            "score_other": other,
            "score_virus": virus,
            "is_virus": virus >= other,
        }
    )
    chunks.write_parquet(tmp_path / "chunks.parquet")
    found = tables.chunk_scores(tmp_path, pl.DataFrame({"ordinal": [3, 0, 99]}))
    mine = chunks.filter(pl.col("record").is_in([0, 3, 99]))
    assert found.select("record", "chunk").equals(mine.select("record", "chunk"))
    assert np.array_equal(found["score"].to_numpy() >= 0.5, mine["is_virus"].to_numpy())


@pytest.mark.parametrize("n", [1, 299, 300, 301, 999, 12_345])
def test_cells_are_the_means_of_what_is_known_in_them(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = np.where(rng.random(n) < 0.4, np.nan, rng.random(n))
    cells = as_cells(scores, 300)
    if n <= 300:
        assert np.array_equal(cells, scores, equal_nan=True)
        return
    starts = [int(n * cell / 300) for cell in range(301)]
    for cell, (start, stop) in enumerate(pairwise(starts)):
        known = [score for score in scores[start:stop].tolist() if score == score]
        if known:
            assert cells[cell] == pytest.approx(sum(known) / len(known), abs=1e-12)
        else:
            assert np.isnan(cells[cell])


def test_half_of_all_bases_lie_in_records_of_the_n50_or_longer() -> None:
    assert tables.length_summary(np.array([2, 2, 2, 3, 3, 4, 8, 8])) == {
        "median": 3.0,
        "longest": 8.0,
        "n50": 8.0,
    }
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 10_000, 501)
    n50 = tables.length_summary(lengths)["n50"]
    assert lengths[lengths >= n50].sum() >= lengths.sum() / 2
    assert lengths[lengths > n50].sum() < lengths.sum() / 2
    assert tables.length_summary(np.array([7])) == {"median": 7.0, "longest": 7.0, "n50": 7.0}


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    for read in (
        lambda: tables.top_viral(tmp_path, 3),
        lambda: tables.longest(tmp_path, 3, []),
        lambda: tables.uncalled(tmp_path, 3),
    ):
        with pytest.raises(StoreError, match=r"records\.parquet: no such file"):
            read()


def test_numbers_are_said_with_their_units() -> None:
    assert [plain(as_bases(n)) for n in (0, 9_999, 10_000, 123_456, 999_600, 4_600_000, 7e9)] == [
        *("0 bp", "9,999 bp", "10.0 kb", "123 kb", "1.0 Mb", "4.6 Mb", "7.0 Gb")
    ]
    assert [plain(as_share(part, 3000)) for part in (0, 1, 3, 1500, 2999, 3000)] == [
        *("0.0 %", "< 0.1 %", "0.1 %", "50.0 %", "> 99.9 %", "100.0 %")
    ]
    assert as_share(0, 0) == "–"
    assert [plain(as_duration(s)) for s in (0.04, 9.96, 59.6, 61, 3599, 7325, 360_000)] == [
        *("0.0 s", "10.0 s", "1 min 0 s", "1 min 1 s", "59 min 59 s", "2 h 2 min", "100 h 0 min")
    ]
