"""`virnuc inspect` on one file of every kind, whole and not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from virnuc_assets import embed_fasta, inspection
from virnuc_assets.classifier.head import load_head
from virnuc_assets.classifier.predict import classify
from virnuc_assets.demo.sample import FASTA
from virnuc_assets.inspection import Inspected, inspect
from virnuc_assets.runner.job import Encoding
from virnuc_assets.sequences.index import build_index
from virnuc_assets.store.agreement import AgreementRecord, write_agreement
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    block_path,
    shard_path,
    shard_rows,
    write_embeddings,
)
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import register
from virnuc_assets.store.sharded import ShardedEmbeddings
from virnuc_assets.store.view import renew_view
from virnuc_assets_tests import untrained

HEAD = untrained.folder() / "head"
ORIGIN = Origin("untrained", "w" * 64, "CPU", "sdpa", "plain", 64, "truncate")
N_SHARDS = 2
KINDS = {
    "samples/demo/sample.json": "sample",
    "samples/demo/index": "sequence index",
    "samples/demo/index/manifest.json": "sequence index",
    "samples/demo/index/nucleotides.arrow": "sequence table",
    "samples/demo/index/proteins.arrow": "sequence table",
    "samples/demo/index/records.parquet": "table",
    "samples/demo/index/frames.parquet": "table",
    "samples/demo/embeddings/esm2": "view of a sample's embeddings",
    "samples/demo/embeddings/esm2/view.h5": "view of a sample's embeddings",
    "samples/demo/embeddings/esm2/shard-00-of-02.h5": "shard of embeddings",
    "samples/demo/embeddings/esm2/shard-01-of-02.blocks/block-00000.h5": "block of embeddings",
    "samples/demo/embeddings/esm2/run.json": "record of a run",
    "samples/demo/embeddings/esm2/run-01-of-02.json": "record of a run",
    "samples/demo/embeddings/esm2/shard-00-of-02.float32.json": "comparison with float32",
    "predictions/demo": "results",
    "predictions/demo/results.json": "results",
    "predictions/demo/frames.parquet": "table",
    "predictions/demo/chunks.parquet": "table",
    "predictions/demo/records.parquet": "table",
    "predictions/demo/prediction_results.txt": "scores of frames, as the original writes",
    "predictions/demo/prediction_results_highestscore.csv": "calls of chunks, as the original "
    "writes",
    "heads/demo": "head",
    "heads/demo/head.json": "head",
    "heads/demo/head.safetensors": "head",
    "out.h5": "embeddings",
}


def identity(encoder: str, digest: str, shard: int, stop: int, n_shards: int = N_SHARDS):
    return Identity(encoder, digest, "e" * 64, "float32", n_shards, shard, 0, stop)


def embed(layout: Layout, encoder: str, digest: str, rows: int, dim: int) -> ShardedEmbeddings:
    """Random embeddings of a sample in two shards with their view; row 3 is set aside."""
    folder = layout.embeddings("demo", encoder)
    values = np.random.default_rng(dim).normal(size=(rows, dim)).astype(np.float32)
    for shard in range(N_SHARDS):
        about = identity(encoder, digest, shard, shard_rows(rows, shard, N_SHARDS))
        lost = [3] if shard == 1 else []
        counts = Counts(tokens=100)
        piece = values[shard::N_SHARDS]
        paths = [shard_path(folder, shard, N_SHARDS), block_path(folder, shard, N_SHARDS, 0)]
        for path in paths:
            write_embeddings(path, about, ORIGIN, counts, dim, [piece], lost)
    renew_view(folder, N_SHARDS, {})
    compared = AgreementRecord(0, "c", "float16", "H200", True, 8, 0.9999, 0.99999, 0.999)
    write_agreement(folder / "shard-00-of-02.h5", compared)
    run = {
        "job": {"encoding": asdict(Encoding(encoder, "weights.pt")), "index_digest": digest},
        **dict.fromkeys(("started", "end"), "then"),
        **dict.fromkeys(("seconds", "sequences", "tokens", "tokens_per_second"), 1.0),
        "failures": [],
        "devices": {"cpu": {}},
        "set_aside": [3],
    }
    for name in ("run.json", "run-01-of-02.json"):
        (folder / name).write_text(json.dumps(run))
    return ShardedEmbeddings(folder, N_SHARDS, rows, digest)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A store with one file of every kind."""
    root = tmp_path_factory.mktemp("store")
    layout = Layout(root)
    shutil.copytree(HEAD, layout.heads / "demo")
    shutil.copyfile(FASTA, root / "demo.fa")
    register(layout, "demo", root / "demo.fa")
    index = layout.index("demo")
    manifest = build_index(root / "demo.fa", index, 500, tool_version="0")
    digest = manifest.index_digest
    dna = embed(layout, "dnabert-s", digest, manifest.unique_nucleotides, 48)
    protein = embed(layout, "esm2", digest, manifest.unique_proteins, 64)
    provenance = {"model": "untrained", "index_digest": digest}
    classify(index, dna, protein, load_head(HEAD), layout.predictions("demo"), provenance)
    (root / "p.fa").write_text(">a\nMKV\n>b\nMKVL\n>again\nMKV\n")
    job = embed_fasta.plan(root / "p.fa", root / "out.h5", Encoding("esm2", "weights.pt"))
    about = identity("esm2", job.index_digest, 0, 2, n_shards=1)
    values = np.ones((2, 5), np.float32)
    write_embeddings(
        shard_path(Path(job.output), 0, 1), about, ORIGIN, Counts(), 5, [values], set_aside=[1]
    )
    embed_fasta.collect(job, root / "out.h5")
    return root


@pytest.fixture
def store(made, tmp_path) -> Path:
    """A copy of the store to be damaged."""
    root = tmp_path / "store"
    shutil.copytree(made, root)
    return root


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_is_known_and_whole(made, name, deep) -> None:
    found = inspect(made / name, deep)
    assert found == Inspected(made / name, KINDS[name], found.facts, ())
    assert found.facts
    json.dumps(found.facts)


def test_what_is_said_is_what_is_there(made) -> None:
    index = inspect(made / "samples/demo/index", deep=False).facts
    table = inspect(made / "samples/demo/index/proteins.arrow", deep=True).facts
    assert table["sequences"] == index["unique_proteins"]
    assert table["letters"] == index["protein_residues"]
    assert table["sha256"] == index["proteins_sha256"]
    assert table["index_digest"] == index["index_digest"]
    shard = inspect(made / "samples/demo/embeddings/esm2/shard-01-of-02.h5", deep=False).facts
    assert (shard["dim"], shard["set_aside"], shard["model"]) == (64, 1, "untrained")
    view = inspect(made / "samples/demo/embeddings/esm2", deep=False).facts
    assert view["rows"] == index["unique_proteins"]
    assert shard["checksum"] == view["checksums"][1]
    results = inspect(made / "predictions/demo", deep=False).facts
    assert (results["n_records"], results["n_frames"]) == (index["records"], index["frames"])
    assert results["n_unscored_frames"] == 2
    embedded = inspect(made / "out.h5", deep=True).facts
    assert (embedded["records"], embedded["dim"], embedded["set_aside"]) == (3, 5, 2)


def flip(path: Path, at: int = -200) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


INDEX, ESM2, RESULTS = "samples/demo/index", "samples/demo/embeddings/esm2", "predictions/demo"
SHARD = f"{ESM2}/shard-01-of-02.h5"

DAMAGES: dict[str, tuple[str, Callable[[Path], object], str, bool]] = {
    "index without a table": (
        INDEX,
        lambda root: (root / INDEX / "frames.parquet").unlink(),
        "frames.parquet: no such file",
        False,
    ),
    "index with a count that is wrong": (
        INDEX,
        lambda root: change(root / INDEX / "manifest.json", frames=7),
        r"frames.parquet: holds \d+ rows and not 7",
        False,
    ),
    "index with a digest that is wrong": (
        INDEX,
        lambda root: change(root / INDEX / "manifest.json", chunk_length=300),
        "manifest.json: its index digest is not that of what it says",
        False,
    ),
    "index with another letter": (
        INDEX,
        lambda root: flip(root / INDEX / "proteins.arrow", 8000),
        "proteins.arrow: is not the sequence table its index describes",
        True,
    ),
    "table with another letter": (
        f"{INDEX}/proteins.arrow",
        lambda root: flip(root / INDEX / "proteins.arrow", 8000),
        "proteins.arrow: is not the table that manifest.json describes",
        True,
    ),
    "table cut short": (
        f"{INDEX}/proteins.arrow",
        lambda root: cut(root / INDEX / "proteins.arrow"),
        "proteins.arrow: is not a sequence table",
        False,
    ),
    "parquet file cut short": (
        f"{INDEX}/records.parquet",
        lambda root: cut(root / INDEX / "records.parquet"),
        "records.parquet: cannot be read",
        False,
    ),
    "parquet file of results in an index": (
        f"{INDEX}/records.parquet",
        lambda root: change(root / INDEX / "manifest.json", index_digest="x"),
        "records.parquet: belongs to another index than manifest.json",
        False,
    ),
    "shard with another number": (
        SHARD,
        lambda root: flip(root / SHARD, 4000),
        "shard-01-of-02.h5: does not match its checksum",
        False,
    ),
    "shard cut short": (
        SHARD,
        lambda root: cut(root / SHARD),
        "shard-01-of-02.h5: was cut short",
        False,
    ),
    "shard of another index": (
        SHARD,
        lambda root: change(root / INDEX / "manifest.json", index_digest="x"),
        "shard-01-of-02.h5: was made from another index than the sample's",
        False,
    ),
    "view without a shard": (
        ESM2,
        lambda root: (root / SHARD).unlink(),
        "(view.h5: shard-01-of-02.h5, which it shows, is missing|no such embedding file)",
        False,
    ),
    "view of a damaged shard": (
        ESM2,
        lambda root: flip(root / SHARD, 4000),
        "shard-01-of-02.h5: does not match its checksum",
        True,
    ),
    "results with a longer file": (
        RESULTS,
        lambda root: (root / RESULTS / "prediction_results.txt").open("a").write("x\n"),
        "prediction_results.txt: was changed since it was written",
        False,
    ),
    "results with another character": (
        RESULTS,
        lambda root: flip(root / RESULTS / "prediction_results.txt"),
        "prediction_results.txt: was changed since it was written",
        True,
    ),
    "result file with another character": (
        f"{RESULTS}/prediction_results_highestscore.csv",
        lambda root: flip(root / RESULTS / "prediction_results_highestscore.csv"),
        "highestscore.csv: was changed since it was written",
        True,
    ),
    "results without a file": (
        RESULTS,
        lambda root: (root / RESULTS / "chunks.parquet").unlink(),
        "chunks.parquet: is missing",
        False,
    ),
    "head cut short": (
        "heads/demo",
        lambda root: cut(root / "heads/demo/head.safetensors"),
        "head.safetensors: is not a safetensors file",
        False,
    ),
    "sample whose file is gone": (
        "samples/demo/sample.json",
        lambda root: change(root / "samples/demo/sample.json", source="/none.fa"),
        "its file /none.fa is no longer there",
        False,
    ),
    "manifest that is no JSON": (
        INDEX,
        lambda root: (root / INDEX / "manifest.json").write_text("{"),
        "manifest.json: is not valid JSON",
        False,
    ),
    "record of something else": (
        f"{ESM2}/run.json",
        lambda root: (root / ESM2 / "run.json").write_text("[]"),
        "run.json: is not the record of a run of this version",
        False,
    ),
    "shard that does not agree with float32": (
        f"{ESM2}/shard-00-of-02.float32.json",
        lambda root: change(root / ESM2 / "shard-00-of-02.float32.json", passed=False),
        "float32.json: shard 0 was found not to agree with float32",
        False,
    ),
    "comparison of something else": (
        f"{ESM2}/shard-00-of-02.float32.json",
        lambda root: (root / ESM2 / "shard-00-of-02.float32.json").write_text("{}"),
        "float32.json: is not a comparison with float32",
        False,
    ),
    "an HDF5 file of something else": (
        "out.h5",
        lambda root: (root / "out.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(1000)),
        "out.h5: is no embedding file of this version",
        False,
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_what_is_not_whole_is_named(case, store) -> None:
    name, damage, sentence, only_deep = DAMAGES[case]
    damage(store)
    assert bool(inspect(store / name, deep=False).faults) != only_deep
    faults = inspect(store / name, deep=True).faults
    assert any(re.search(sentence, fault) for fault in faults), faults


def test_metadata_that_is_no_text_is_shown_as_far_as_it_is(tmp_path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.table({"a": [1]}).replace_schema_metadata({"virnuc.index_digest": b"ab\xff"})
    pq.write_table(table, path)
    found = inspect(path, deep=False)
    assert (found.facts["index_digest"], found.faults) == ("ab\N{REPLACEMENT CHARACTER}", ())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("run.json", '{"a":' + "[" * 100_000, "cannot be read .*recursion"),
        ("sample.json", '{"source": "' + "x" * 300 + '"}', "cannot be read .*name too long"),
        ("x" * 300 + ".h5", None, "cannot be read .*name too long"),
    ],
    ids=["nested too deeply", "source with too long a name", "too long a name"],
)
def test_what_cannot_be_read_is_a_fault(name, content, sentence, tmp_path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    (fault,) = inspect(path, deep=False).faults
    assert re.search(sentence, fault)
    assert fault.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "no"), ValueError("no"), pa.ArrowNotImplementedError("no")]
)
def test_a_failure_to_read_is_a_fault(error, made, monkeypatch) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(inspection, "SequenceTable", fail)
    found = inspect(made / INDEX / "proteins.arrow", deep=False)
    assert (found.kind, len(found.faults)) == ("sequence table", 1)
    assert "proteins.arrow: cannot be read (" in found.faults[0]


def test_the_command_prints_tables_and_exits_0(virnuc, made) -> None:
    done = virnuc("inspect", made / SHARD, made / "heads/demo", "--deep")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{made / SHARD}: shard of embeddings, whole\n" in done.stdout
    assert f"{made / 'heads/demo'}: head, whole\n" in done.stdout
    assert "set aside" in done.stdout


def test_the_command_prints_json(virnuc, made) -> None:
    done = virnuc("inspect", made / SHARD, made / INDEX, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    shard, index = json.loads(done.stdout)
    assert (shard["kind"], shard["faults"]) == ("shard of embeddings", [])
    assert shard["facts"]["index_digest"] == index["facts"]["index_digest"]


def test_the_command_says_what_is_wrong_and_exits_1(virnuc, store, tmp_path) -> None:
    cut(store / SHARD)
    (tmp_path / "notes.md").write_text("dear reader")
    done = virnuc("inspect", store / SHARD, "none.h5", "notes.md", store / INDEX)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[0].startswith(f"error: {store / SHARD}: was cut short or written in part")
    assert said[1] == "error: none.h5: no such file; check the path"
    assert said[2].startswith("error: notes.md: is no file that virnuc writes; give ")
    assert len(said) == 3
    assert f"{store / INDEX}: sequence index, no fault found" in done.stdout
