"""`virnuc explain`: every number is that of the files it names, and what is stale is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from virnuc_assets import pipeline
from virnuc_assets.demo.sample import FASTA
from virnuc_assets.encoders import catalog
from virnuc_assets.errors import InputError, StoreError
from virnuc_assets.explanation import explain, find_results
from virnuc_assets.explanation_parts import Explanation
from virnuc_assets.sequences.manifest import read_manifest
from virnuc_assets.settings import ENCODERS, from_environment
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    read_attributes,
    shard_path,
    shard_rows,
    write_embeddings,
)
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import register
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets.store.view import renew_view

N_SHARDS = 3
DIMS = {"dnabert-s": 48, "esm2": 64}
COMPLEMENT = str.maketrans("ACGT", "TGCA")
RECORD = "HIV_1"


def embed(layout: Layout, name: str, encoder: str, seed: int) -> None:
    """Random embeddings of a sample that say that they are of the configured weights."""
    manifest = read_manifest(layout.index(name))
    rows = pipeline.sequence_table(manifest, encoder).rows
    weights = catalog.resolve_weights(encoder, from_environment().models.encoding(encoder).weights)
    digest = catalog.weights_digest(weights)
    about = catalog.encoder_digest(encoder, digest, "truncate")
    origin = Origin("untrained", digest, "NVIDIA H200", "triton", "fused", 16896, "truncate")
    values = np.random.default_rng(seed).normal(size=(rows, DIMS[encoder])).astype(np.float32)
    folder = layout.embeddings(name, encoder)
    for shard in range(N_SHARDS):
        n = shard_rows(rows, shard, N_SHARDS)
        identity = Identity(encoder, manifest.index_digest, about, "float16", N_SHARDS, shard, 0, n)
        # One nucleotide sequence could not be embedded.
        lost = [1] if encoder == "dnabert-s" and shard == 1 else []
        write_embeddings(
            shard_path(folder, shard, N_SHARDS),
            identity,
            origin,
            Counts(tokens=100),
            DIMS[encoder],
            [values[shard::N_SHARDS]],
            lost,
        )
    renew_view(folder, N_SHARDS, {})


def predict(layout: Layout, name: str) -> None:
    pipeline.predict_sample(layout, name, N_SHARDS, from_environment().models)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the demo sample, called."""
    root = tmp_path_factory.mktemp("store")
    layout = Layout(root)
    register(layout, "demo", FASTA)
    pipeline.index_sample(layout, "demo", 500)
    for encoder in ENCODERS:
        embed(layout, "demo", encoder, seed=DIMS[encoder])
    predict(layout, "demo")
    return root


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Layout:
    """A copy of the store to be changed."""
    return Layout(shutil.copytree(made, tmp_path / "store"))


def explained(made: Path) -> Explanation:
    return explain(Layout(made), "demo", RECORD)


def sequence(record: str) -> str:
    parts = {part.split()[0]: part for part in FASTA.read_text().split(">")[1:]}
    return "".join(parts[record].split("\n")[1:]).upper()


def table(made: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(made / "predictions" / "demo" / f"{name}.parquet")


def test_a_records_chunks_and_frames_are_those_of_the_tables(made: Path) -> None:
    found = explained(made)
    (row,) = table(made, "records").filter(id=RECORD).to_dicts()
    assert found.record == row
    mine = pl.col("record") == row["ordinal"]
    frames = [frame for chunk in found.chunks for frame in chunk.frames]
    listed = [(frame.name, frame.score_other, frame.score_virus) for frame in frames]
    columns = ["name", "score_other", "score_virus"]
    assert listed == table(made, "frames").filter(mine).select(columns).rows()
    called = [chunk for chunk in found.chunks if chunk.is_virus is not None]
    columns = ["chunk", "score_other", "score_virus", "is_virus"]
    assert [tuple(getattr(chunk, name) for name in columns) for chunk in called] == (
        table(made, "chunks").filter(mine).select(columns).rows()
    )
    best = {chunk.chunk: [f.name for f in chunk.frames if f.is_best] for chunk in found.chunks}
    chunks = table(made, "chunks").filter(mine)
    assert {number: names for number, names in best.items() if names} == {
        chunk: [name] for chunk, name in chunks.select("chunk", "best_frame").iter_rows()
    }
    assert len(found.chunks) == row["n_chunks"]


def test_the_records_score_follows_from_the_chunks_that_are_shown(made: Path) -> None:
    for record in table(made, "records").filter(pl.col("status") == "called")["id"].head(8):
        found = explain(Layout(made), "demo", record)
        odds = [chunk.log_odds for chunk in found.chunks if chunk.log_odds is not None]
        assert found.record["score"] == pytest.approx(1 / (1 + np.exp(-np.mean(odds))), abs=1e-12)


def test_places_and_rows_lead_to_the_very_bases_and_residues(made: Path) -> None:
    index = Layout(made).index("demo")
    bases, proteins = (
        SequenceTable(index / f"{name}.arrow") for name in ("nucleotides", "proteins")
    )
    seen = set()
    for record in (RECORD, "phiX174", "Streptomyces", "lambda_1"):
        whole = sequence(record)
        chunks = explain(Layout(made), "demo", record).chunks
        for chunk, frame in ((one, frame) for one in chunks for frame in one.frames):
            forward = whole[chunk.first_base - 1 : chunk.last_base]
            strand = forward if frame.frame[0] == "F" else forward.translate(COMPLEMENT)[::-1]
            (nucleotides,) = bases.take([frame.nucleotide_row])
            (protein,) = proteins.take([frame.protein_row])
            assert strand[int(frame.frame[1]) - 1 :].startswith(nucleotides)
            assert len(nucleotides) in (3 * len(protein), 3 * len(protein) + 1)
            seen.add(frame.frame)
    assert seen > {"F1", "F2", "F3", "R1"}


def test_everything_it_comes_from_is_named_by_digest(made: Path) -> None:
    found, layout = explained(made), Layout(made)
    assert found.origin.input == str(FASTA)
    assert found.origin.input_sha256 == sha256_file(FASTA)
    assert found.origin.input_bytes == FASTA.stat().st_size
    manifest = read_manifest(layout.index("demo"))
    assert found.origin.index_digest == manifest.index_digest
    for name, sha256 in found.origin.results_files.items():
        assert sha256_file(layout.predictions("demo") / name) == sha256
    frames = [frame for chunk in found.chunks for frame in chunk.frames]
    for encoder in found.encoders:
        column = "protein_row" if encoder.encoder == "esm2" else "nucleotide_row"
        rows = {getattr(frame, column) for frame in frames}
        expected = {}
        for shard in sorted({row % N_SHARDS for row in rows}):
            path = shard_path(layout.embeddings("demo", encoder.encoder), shard, N_SHARDS)
            used = read_attributes(path)
            expected[path.name] = (used.checksum, len([r for r in rows if r % N_SHARDS == shard]))
            assert encoder.weights_digest == used.origin.weights_digest
            assert encoder.encoder_digest == used.identity.encoder_digest
            assert encoder.token_budget == used.origin.token_budget
        assert {one.file: (one.sha256, one.rows) for one in encoder.shards} == expected
        assert (encoder.precision, encoder.backend, encoder.device) == (
            *("float16", "triton", "NVIDIA H200"),
        )
    json.dumps(asdict(found))


def test_records_without_a_call_are_explained_too(made: Path) -> None:
    records = table(made, "records").filter(pl.col("status") == "no_open_frame")
    found = explain(Layout(made), "demo", records["id"][0])
    assert found.record["is_virus"] is None
    assert all(chunk.frames == () and chunk.is_virus is None for chunk in found.chunks)
    assert [encoder.shards for encoder in found.encoders] == [(), ()]
    lost = table(made, "frames").filter(pl.col("score_virus").is_null())
    assert len(lost)
    (name,) = table(made, "records").filter(ordinal=lost["record"][0])["id"]
    found = explain(Layout(made), "demo", name)
    scores = {f.name: f.score_virus for chunk in found.chunks for f in chunk.frames}
    assert scores[lost["name"][0]] is None


def test_a_sample_is_named_or_its_results_or_the_folder_of_a_predict(
    store: Layout, tmp_path: Path
) -> None:
    elsewhere = Layout(tmp_path / "none")
    assert find_results("demo", store) == (store, "demo")
    assert find_results(str(store.root), elsewhere) == (store, "demo")
    assert find_results(str(store.predictions("demo")), elsewhere) == (store, "demo")
    shutil.copytree(store.predictions("demo"), store.predictions("second"))
    with pytest.raises(InputError, match=r"results of several samples \(demo, second\); name one"):
        find_results(str(store.root), elsewhere)
    with pytest.raises(InputError, match="'demo' is not a known sample"):
        find_results("demo", elsewhere)
    shutil.rmtree(store.predictions("demo"))
    with pytest.raises(StoreError, match=r"sample demo: has no results in .*materialise its"):
        find_results("demo", store)


def test_any_row_of_the_results_can_be_asked_for(made: Path) -> None:
    whole = explained(made)
    for name in (f"{RECORD}_chunk_2", whole.record["best_frame"]):
        assert explain(Layout(made), "demo", name) == whole


def test_a_record_that_is_not_there_is_answered_with_some_that_are(made: Path) -> None:
    with pytest.raises(InputError, match=r"has no record 'hiv'; .*: it has HIV_1, HIV_1_read_1, "):
        explain(Layout(made), "demo", "hiv")
    with pytest.raises(InputError, match=r"no record 'x\(y'.*records\.parquet lists the ids"):
        explain(Layout(made), "demo", "x(y")


def other_index(layout: Layout) -> None:
    pipeline.index_sample(layout, "demo", 300)


def other_embeddings(layout: Layout) -> None:
    embed(layout, "demo", "esm2", seed=7)


def no_view(layout: Layout) -> None:
    (layout.embeddings("demo", "esm2") / "view.h5").unlink()


def no_index(layout: Layout) -> None:
    shutil.rmtree(layout.index("demo"))


def older_results(layout: Layout) -> None:
    path = layout.predictions("demo") / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (other_index, "sample demo: its results are of another index than the one that is there"),
        (other_embeddings, "sample demo: its results are of other esm2 embeddings than those that"),
        (no_view, r"view\.h5: no such file, so the shards that the results come from cannot be"),
        (no_index, "holds no complete index"),
        (older_results, r"results\.json: has format 1 and this version reads"),
    ],
)
def test_what_is_stale_is_one_sentence(store: Layout, change, sentence: str) -> None:
    change(store)
    with pytest.raises(StoreError, match=sentence):
        explain(store, "demo", RECORD)


def test_the_command_shows_it_to_people_and_programs(virnuc, made: Path) -> None:
    done = virnuc("explain", "demo", RECORD, VIRNUC_STORE=str(made))
    assert (done.returncode, done.stderr) == (0, "")
    found = explained(made)
    for text in (
        f"demo, record {RECORD}",
        f"{found.record['score']:.4f}, the logistic of the mean log-odds",
        found.origin.input_sha256,
        found.encoders[0].shards[0].sha256,
        "rows of this record; SHA-256 of its embeddings",
    ):
        assert text in done.stdout
    done = virnuc("explain", made, RECORD, "--json")
    assert json.loads(done.stdout) == json.loads(json.dumps(asdict(found)))


def test_the_command_says_what_is_missing_in_one_sentence(refused, made: Path) -> None:
    assert refused("explain", made, "none").startswith("sample demo: has no record 'none'")
