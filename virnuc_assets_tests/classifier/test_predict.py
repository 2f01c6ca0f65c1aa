from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from virnuc_assets.classifier import predict
from virnuc_assets.classifier.predict import PredictionSummary, classify
from virnuc_assets.errors import StoreError, WeightsError
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    shard_path,
    shard_rows,
    write_embeddings,
)
from virnuc_assets.store.sharded import ShardedEmbeddings

SAMPLE = [
    ("contig", 12, ["1F1", "1R3", "2F2", "9R1", "10F3", "12F1"]),
    ("closed", 1, []),
    ("read", 1, ["1F1", "1F2", "1F3", "1R1", "1R2", "1R3"]),
]
PROVENANCE = {"model": "untrained", "encoder.esm2": "tiny", "index_digest": "toy-index"}
FILES = (
    "frames.parquet",
    "chunks.parquet",
    "records.parquet",
    "prediction_results.txt",
    "prediction_results_highestscore.csv",
    "results.json",
)


@pytest.fixture
def run(
    make_head: Callable[..., Any], make_index: Callable[..., Path], make_rows: Callable[..., Any]
) -> Callable[..., PredictionSummary]:
    def run(output: Path, sample: Any = SAMPLE) -> PredictionSummary:
        index = make_index(sample)
        dna, protein = make_rows(sum(len(opened) for _, _, opened in sample))
        return classify(index, dna, protein, make_head(), output, PROVENANCE)

    return run


def test_every_frame_gets_the_score_of_its_own_rows(
    run: Callable[..., Any],
    make_head: Callable[..., Any],
    make_rows: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predict, "_BATCH_FRAMES", 5)
    run(tmp_path / "out")
    frames = pl.read_parquet(tmp_path / "out/frames.parquet")
    index = pl.read_parquet(tmp_path / "index/frames.parquet")
    columns = ["ordinal", "record", "chunk", "frame", "name"]
    assert frames.select(columns).equals(index.select(columns))
    dna, protein = make_rows(12)
    expected = make_head().score(
        dna.values[index["nucleotide_row"].to_numpy()],
        protein.values[index["protein_row"].to_numpy()],
    )
    assert np.array_equal(frames["score_other"].to_numpy(), expected[:, 0])
    assert np.array_equal(frames["score_virus"].to_numpy(), expected[:, 1])


def test_every_record_appears_once_and_in_input_order(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    summary = run(tmp_path / "out")
    records = pl.read_parquet(tmp_path / "out/records.parquet")
    assert records.columns == [
        "ordinal",
        "id",
        "length",
        "n_chunks",
        "n_called_chunks",
        "n_viral_chunks",
        "is_virus",
        "score",
        "best_score",
        "best_frame",
        "status",
        "model",
    ]
    assert records["id"].to_list() == ["contig", "closed", "read"]
    assert records["n_called_chunks"].to_list() == [5, 0, 1]
    assert records["status"].to_list() == ["called", "no_open_frame", "called"]
    assert set(records["model"]) == {"untrained"}
    chunks = pl.read_parquet(tmp_path / "out/chunks.parquet")
    assert chunks["name"].to_list() == [
        *(f"contig_chunk_{i}" for i in (1, 2, 9, 10, 12)),
        "read_chunk_1",
    ]
    assert summary.n_records == 3
    assert summary.n_no_open_frame == 1
    assert (summary.n_chunks, summary.n_called_chunks, summary.n_frames) == (14, 6, 12)
    assert summary.n_viral_chunks == chunks["is_virus"].sum()
    assert summary.n_viral_records == records["is_virus"].sum()


def test_the_original_files_are_what_the_original_tool_writes(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    run(tmp_path / "out")
    frames = pl.read_parquet(tmp_path / "out/frames.parquet")
    lines = ["Sequence_ID\tPrediction\tscore1\tscore2"]
    best: dict[str, list[np.float32]] = {}
    for row in frames.iter_rows(named=True):
        scores = np.array([row["score_other"], row["score_virus"]], np.float32)
        label = {0: "others", 1: "virus"}[int(np.argmax(scores))]
        lines.append("\t".join([row["name"], label, *map(str, scores)]))
        chunk = best.setdefault(row["name"][:-2], [scores[0], scores[1]])
        chunk[:] = [max(chunk[0], scores[0]), max(chunk[1], scores[1])]
    written = (tmp_path / "out/prediction_results.txt").read_bytes().decode()
    assert written == "\n".join(lines) + "\n"
    lines = ["Modified_ID\tIs_Virus"]
    lines += [f"{name}\t{best[name][1] >= best[name][0]}" for name in sorted(best)]
    written = (tmp_path / "out/prediction_results_highestscore.csv").read_bytes().decode()
    assert written == "\n".join(lines) + "\n"


def test_scores_are_printed_as_numpy_prints_float32() -> None:
    scores = np.array([[0.5, 0.5], [1e-5, 0.99999], [0.1, 0.9], [1.0, 0.0]], np.float32)
    assert predict.files.original_frame_lines(["a", "b", "c", "d"], scores) == (
        "a\tothers\t0.5\t0.5\nb\tvirus\t1e-05\t0.99999\nc\tvirus\t0.1\t0.9\nd\tothers\t1.0\t0.0\n"
    )


def test_every_file_says_which_model_made_it(run: Callable[..., Any], tmp_path: Path) -> None:
    run(tmp_path / "out")
    for name in ("frames", "chunks", "records"):
        metadata = pq.read_schema(tmp_path / f"out/{name}.parquet").metadata
        assert metadata[b"virnuc.model"] == b"untrained"
        assert metadata[b"virnuc.encoder.esm2"] == b"tiny"
    manifest = json.loads((tmp_path / "out/results.json").read_text())
    assert manifest["model"] == "untrained"
    assert manifest["provenance"] == PROVENANCE
    assert manifest["head"]["name"] == "toy"
    assert manifest["counts"]["n_frames"] == 12
    assert set(manifest["files"]) == set(FILES) - {"results.json"}
    for name, file in manifest["files"].items():
        assert file["sha256"] == sha256_file(tmp_path / "out" / name)


def test_the_same_input_gives_the_same_bytes(run: Callable[..., Any], tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b")
    run(tmp_path / "b")
    assert {path.name for path in (tmp_path / "b").iterdir()} == set(FILES)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_sample_without_any_open_frame_has_results(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    summary = run(tmp_path / "out", [("a", 2, []), ("b", 1, [])])
    assert (summary.n_records, summary.n_no_open_frame, summary.n_frames) == (2, 2, 0)
    records = pl.read_parquet(tmp_path / "out/records.parquet")
    assert records["is_virus"].to_list() == [None, None]
    assert len(pl.read_parquet(tmp_path / "out/chunks.parquet")) == 0
    assert len((tmp_path / "out/prediction_results.txt").read_text().splitlines()) == 1


def stored(folder: Path, encoder: str, values: np.ndarray, set_aside: list[int]) -> Any:
    """`values` as two shards on disk, some rows set aside."""
    origin = Origin("tiny", "w", "CPU", "sdpa", "plain", 64, "truncate")
    for shard in range(2):
        n = shard_rows(len(values), shard, 2)
        about = Identity(encoder, "toy-index", "e", "float32", 2, shard, 0, n)
        mine = [row for row in set_aside if row % 2 == shard]
        path = shard_path(folder, shard, 2)
        write_embeddings(
            path, about, origin, Counts(), values.shape[1], [values[shard::2]], set_aside=mine
        )
    return ShardedEmbeddings(folder, 2, len(values), "toy-index")


def test_what_was_set_aside_is_not_scored_and_calls_are_made_of_the_rest(
    make_head: Callable[..., Any],
    make_index: Callable[..., Path],
    make_rows: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One batch has no scored frame at all.
    monkeypatch.setattr(predict, "_BATCH_FRAMES", 2)
    sample = [("gone", 1, ["1F1", "1R2"]), *SAMPLE, ("half", 2, ["1F1", "2F1"])]
    n = sum(len(opened) for _, _, opened in sample)
    index = make_index(sample)
    dna, protein = make_rows(n)
    classify(index, dna, protein, make_head(), tmp_path / "all", PROVENANCE)
    rows = pl.read_parquet(index / "frames.parquet")
    lost = ["gone_chunk_1F1", "gone_chunk_1R2", "read_chunk_1F3", "half_chunk_2F1"]
    lost_dna = rows.filter(pl.col("name").is_in(lost[::2]))["nucleotide_row"].to_list()
    lost_protein = rows.filter(pl.col("name").is_in(lost[1::2]))["protein_row"].to_list()
    summary = classify(
        index,
        stored(tmp_path / "dna", "dnabert-s", dna.values, lost_dna),
        stored(tmp_path / "protein", "esm2", protein.values, lost_protein),
        make_head(),
        tmp_path / "out",
        PROVENANCE,
    )

    whole = pl.read_parquet(tmp_path / "all/frames.parquet")
    frames = pl.read_parquet(tmp_path / "out/frames.parquet")
    unscored = pl.col("name").is_in(lost)
    assert frames.filter(unscored)["score_virus"].to_list() == [None] * 4
    assert frames.filter(unscored)["score_other"].to_list() == [None] * 4
    assert frames.filter(~unscored).equals(whole.filter(~unscored))
    original = (tmp_path / "out/prediction_results.txt").read_text().splitlines()[1:]
    assert [line.split("\t")[0] for line in original] == frames.filter(~unscored)["name"].to_list()

    chunks = pl.read_parquet(tmp_path / "out/chunks.parquet")
    (read,) = chunks.filter(pl.col("name") == "read_chunk_1").rows(named=True)
    of_read = whole.filter(pl.col("name").str.starts_with("read_"), ~unscored)
    assert read["n_frames"] == 5
    assert read["score_virus"] == of_read["score_virus"].max()
    assert not chunks["name"].is_in(["gone_chunk_1", "half_chunk_2"]).any()

    records = pl.read_parquet(tmp_path / "out/records.parquet")
    assert dict(records.select("id", "status").iter_rows()) == {
        "gone": "not_embedded",
        "contig": "called",
        "closed": "no_open_frame",
        "read": "called",
        "half": "called",
    }
    assert records.filter(id="gone")["is_virus"].to_list() == [None]
    assert records.filter(id="half")["n_called_chunks"].to_list() == [1]
    assert (summary.n_frames, summary.n_unscored_frames) == (n, 4)
    assert (summary.n_records, summary.n_not_embedded, summary.n_no_open_frame) == (5, 1, 1)
    counts = json.loads((tmp_path / "out/results.json").read_text())["counts"]
    assert counts["n_not_embedded"] == 1
    assert counts["n_unscored_frames"] == 4


def test_a_sample_of_which_nothing_was_embedded_has_results(
    make_head: Callable[..., Any],
    make_index: Callable[..., Path],
    make_rows: Callable[..., Any],
    tmp_path: Path,
) -> None:
    index = make_index(SAMPLE)
    dna, protein = make_rows(12)
    gone = stored(tmp_path / "dna", "dnabert-s", dna.values, list(range(12)))
    summary = classify(index, gone, protein, make_head(), tmp_path / "out", PROVENANCE)
    assert (summary.n_not_embedded, summary.n_no_open_frame, summary.n_records) == (2, 1, 3)
    assert (summary.n_called_chunks, summary.n_viral_records) == (0, 0)


def test_a_score_that_is_not_a_number_stops_everything(
    run: Callable[..., Any],
    make_head: Callable[..., Any],
    make_index: Callable[..., Path],
    make_rows: Callable[..., Any],
    tmp_path: Path,
) -> None:
    run(tmp_path / "out")
    before = (tmp_path / "out/frames.parquet").read_bytes()
    dna, protein = make_rows(12)
    protein.values[11 - 3, 0] = np.nan
    with pytest.raises(StoreError, match="score of frame contig_chunk_9R1 is not a number"):
        classify(make_index(SAMPLE), dna, protein, make_head(), tmp_path / "out", PROVENANCE)
    # The older files stay whole, and the folder no longer passes for complete.
    assert (tmp_path / "out/frames.parquet").read_bytes() == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES) - {"results.json"}


def test_embeddings_that_do_not_fit_the_head_are_named(
    make_head: Callable[..., Any],
    make_index: Callable[..., Path],
    make_rows: Callable[..., Any],
    tmp_path: Path,
) -> None:
    dna, _ = make_rows(12)
    with pytest.raises(WeightsError, match="takes ESM-2 embeddings of 10 dimensions, not 6"):
        classify(make_index(SAMPLE), dna, dna, make_head(), tmp_path / "out", PROVENANCE)


def test_a_damaged_index_is_named(
    make_head: Callable[..., Any],
    make_index: Callable[..., Path],
    make_rows: Callable[..., Any],
    tmp_path: Path,
) -> None:
    def refused() -> str:
        with pytest.raises(StoreError) as caught:
            classify(tmp_path / "index", *make_rows(12), make_head(), tmp_path / "o", PROVENANCE)
        return str(caught.value)

    assert "records.parquet: no such file" in refused()
    index = make_index(SAMPLE)
    metadata = {"virnuc.index_digest": PROVENANCE["index_digest"]}
    frames = pl.read_parquet(index / "frames.parquet")
    frames.drop("protein_row").write_parquet(index / "frames.parquet", metadata=metadata)
    assert "has no column protein_row" in refused()
    (index / "frames.parquet").write_bytes(b"PAR1")
    assert "frames.parquet: cannot be read" in refused()
    frames[:-1].write_parquet(index / "frames.parquet", metadata=metadata)
    assert "do not belong together" in refused()
    frames.with_columns(record=pl.col("record") + 1).write_parquet(
        index / "frames.parquet", metadata=metadata
    )
    assert "do not belong together" in refused()
    frames.write_parquet(index / "frames.parquet", metadata=metadata)
    (index / "records.parquet").unlink()
    assert "records.parquet: no such file" in refused()


def test_tables_of_another_index_than_the_embeddings_are_refused(
    make_index, make_rows, make_head, tmp_path
):
    index = make_index(SAMPLE)
    other = PROVENANCE | {"index_digest": "another"}
    with pytest.raises(StoreError, match=r"records\.parquet: belongs to another index"):
        classify(index, *make_rows(12), make_head(), tmp_path / "out", other)
    assert not (tmp_path / "out").exists()
