from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.classifier.calls import call_chunks, call_records

FRAMES = ("F1", "F2", "F3", "R1", "R2", "R3")
# Few distinct values, so that ties of every kind are common.
score = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
scores = st.tuples(score, score)
chunk = st.dictionaries(st.sampled_from(FRAMES), scores, max_size=6)
record = st.lists(chunk, min_size=1, max_size=5)

FRAME_SCHEMA = {
    "ordinal": pl.Int64,
    "record": pl.Int64,
    "chunk": pl.Int64,
    "name": pl.String,
    "score_other": pl.Float32,
    "score_virus": pl.Float32,
}
RECORD_SCHEMA = {
    "ordinal": pl.Int64,
    "id": pl.String,
    "length": pl.Int64,
    "n_chunks": pl.Int64,
    "n_frames": pl.Int64,
}


def tables(
    sample: list[list[dict[str, tuple[float, float]]]],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frames and records of a sample of records of chunks of frames."""
    rows = [
        (r, c, f"id{r}_chunk_{c}{frame}", *chunk[frame])
        for r, chunks in enumerate(sample)
        for c, chunk in enumerate(chunks, 1)
        for frame in FRAMES
        if frame in chunk
    ]
    records = [
        (r, f"id{r}", 100 * len(chunks), len(chunks), sum(map(len, chunks)))
        for r, chunks in enumerate(sample)
    ]
    return (
        pl.DataFrame([(i, *row) for i, row in enumerate(rows)], FRAME_SCHEMA, orient="row"),
        pl.DataFrame(records, RECORD_SCHEMA, orient="row"),
    )


def plain_chunks(frames: pl.DataFrame) -> list[dict[str, Any]]:
    """The chunk rule, frame by frame."""
    chunks: dict[str, dict[str, Any]] = {}
    for frame in frames.iter_rows(named=True):
        name = frame["name"][:-2]
        other, virus = frame["score_other"], frame["score_virus"]
        if name not in chunks:
            chunks[name] = {
                "name": name,
                "record": frame["record"],
                "chunk": frame["chunk"],
                "n_frames": 1,
                "best_frame": frame["name"],
                "score_other": other,
                "score_virus": virus,
            }
        else:
            chunk = chunks[name]
            chunk["n_frames"] += 1
            chunk["score_other"] = max(chunk["score_other"], other)
            if virus > chunk["score_virus"]:
                chunk["score_virus"] = virus
                chunk["best_frame"] = frame["name"]
    return [c | {"is_virus": c["score_virus"] >= c["score_other"]} for c in chunks.values()]


def plain_score(chunks: list[dict[str, Any]]) -> float:
    """The score of a record of some called chunks."""
    odds = [max(chunk["score_virus"], 1e-6) / max(chunk["score_other"], 1e-6) for chunk in chunks]
    mean = math.prod(odds) ** (1 / len(odds))
    return mean / (1 + mean)


def plain_records(records: pl.DataFrame, chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The record rule, record by record."""
    calls = []
    for record in records.iter_rows(named=True):
        mine = [chunk for chunk in chunks if chunk["record"] == record["ordinal"]]
        n_frames = record.pop("n_frames")
        viral = sum(chunk["is_virus"] for chunk in mine)
        best = max(mine, key=lambda chunk: chunk["score_virus"], default=None)
        calls.append(
            record
            | {
                "n_called_chunks": len(mine),
                "n_viral_chunks": viral,
                "is_virus": viral / len(mine) >= 0.5 if mine else None,
                "score": plain_score(mine) if mine else None,
                "best_score": best["score_virus"] if best else None,
                "best_frame": best["best_frame"] if best else None,
                "status": "called" if mine else "not_embedded" if n_frames else "no_open_frame",
            }
        )
    return calls


@settings(deadline=None)
@given(st.lists(record, max_size=6), st.randoms(use_true_random=False))
def test_calls_follow_the_rules(sample: Any, random: Any) -> None:
    frames, records = tables(sample)
    # Some frames have no score, because a sequence of theirs was set aside.
    frames = frames.filter([random.random() < 0.8 for _ in range(len(frames))])
    chunks = call_chunks(frames)
    assert chunks.rows(named=True) == plain_chunks(frames)
    expected = plain_records(records, plain_chunks(frames))
    found = call_records(records, chunks).rows(named=True)
    for row, wanted in zip(found, expected, strict=True):
        assert list(row) == list(wanted)
        assert row.pop("score") == pytest.approx(wanted.pop("score"))
    assert found == expected
    # The order of the rows of a table is not information.
    order = list(range(len(frames)))
    random.shuffle(order)
    assert call_chunks(frames[order]).equals(chunks)


def call(*sample: list[dict[str, tuple[float, float]]]) -> list[dict[str, Any]]:
    frames, records = tables(list(sample))
    return call_records(records, call_chunks(frames)).rows(named=True)


VIRAL = {"F1": (0.2, 0.8)}
OTHER = {"F1": (0.8, 0.2)}


def test_a_chunk_compares_the_maxima_of_different_frames() -> None:
    frames, _ = tables([[{"F1": (0.9, 0.1), "R2": (0.05, 0.95)}]])
    assert call_chunks(frames)["is_virus"].to_list() == [True]
    frames, _ = tables([[{"F1": (0.95, 0.05), "R2": (0.1, 0.9)}]])
    assert call_chunks(frames)["is_virus"].to_list() == [False]


def test_a_tie_of_the_maxima_is_viral_and_the_first_frame_is_best() -> None:
    frames, _ = tables([[{"F2": (0.75, 0.75), "R1": (0.0, 0.75)}]])
    assert call_chunks(frames).select("is_virus", "best_frame").row(0) == (True, "id0_chunk_1F2")


def test_a_read_of_one_chunk_is_what_its_chunk_is() -> None:
    assert [row["is_virus"] for row in call([VIRAL], [OTHER])] == [True, False]


def test_half_of_the_called_chunks_make_a_record_viral() -> None:
    rows = call([VIRAL, OTHER], [VIRAL, OTHER, OTHER], [VIRAL, {}, {}])
    assert [row["is_virus"] for row in rows] == [True, False, True]
    assert [row["n_called_chunks"] for row in rows] == [2, 3, 1]


def scores_of(*sample: list[dict[str, tuple[float, float]]]) -> list[float]:
    return [row["score"] for row in call(*sample)]


def test_a_record_of_one_frame_has_its_score() -> None:
    assert scores_of([VIRAL], [OTHER], [{"F1": (0.5, 0.5)}]) == pytest.approx([0.8, 0.2, 0.5])


@given(chunk.filter(bool))
def test_a_record_of_one_chunk_scores_one_half_if_and_only_if_it_is_viral(frames: Any) -> None:
    (row,) = call([frames])
    assert (row["score"] >= 0.5) == row["is_virus"]


def test_the_score_does_not_rise_with_the_number_of_chunks() -> None:
    one, ten = scores_of([OTHER, VIRAL], [OTHER, VIRAL] * 5)
    assert one == pytest.approx(0.5)
    assert ten == pytest.approx(one)
    # By its best frame alone the longer of two bacterial records would rank higher.
    assert scores_of([OTHER, OTHER, VIRAL])[0] < scores_of([{"F1": (0.5, 0.5)}])[0]


def test_one_chunk_that_is_certain_does_not_outweigh_all_others() -> None:
    (score,) = scores_of([{"F1": (0.0, 1.0)}, *[{"F1": (0.999, 0.001)}] * 3])
    assert score < 0.5


def test_a_record_none_of_whose_frames_is_scored_says_so() -> None:
    frames, records = tables([[VIRAL, OTHER], [VIRAL]])
    rows = call_records(records, call_chunks(frames.head(1))).rows(named=True)
    assert [row["status"] for row in rows] == ["called", "not_embedded"]
    assert [row["is_virus"] for row in rows] == [True, None]
    assert [row["n_called_chunks"] for row in rows] == [1, 0]


def test_a_record_without_an_open_frame_has_no_call() -> None:
    (row,) = call([{}, {}])
    assert row["status"] == "no_open_frame"
    assert row["is_virus"] is None
    assert (row["score"], row["best_score"]) == (None, None)
    assert (row["n_chunks"], row["n_called_chunks"], row["n_viral_chunks"]) == (2, 0, 0)
