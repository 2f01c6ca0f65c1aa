"""A sample through the real assets on a real instance."""

import json
import shutil
from dataclasses import replace

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from virnuc_assets.partitions import N_SHARDS
from virnuc_assets.settings import from_environment
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.digests import sha256_file, sha256_json
from virnuc_assets.store.embeddings import shard_path
from virnuc_assets.store.sequence_table import SequenceTable, write_sequence_table
from virnuc_assets_tests.dagster.deployment import FASTA, failure_sentence, metadata

SHARD_KEYS = {f"s|{shard}" for shard in range(N_SHARDS)}


def checks(result):
    return {
        evaluation.check_name: evaluation.passed
        for evaluation in result.get_asset_check_evaluations()
    }


def data_version(deployment, asset):
    """Data version of the sample's latest materialisation of `asset`."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=["s"])
    (record,) = deployment.instance.fetch_materializations(wanted, limit=1).records
    return record.asset_materialization.tags["dagster/data_version"]


def test_a_sample_goes_from_fasta_to_report(deployment):
    deployment.add("s")
    indexed, embedded = deployment.index("s"), deployment.embed("s")
    predicted = deployment.predict("s")
    assert indexed.success and embedded.success and predicted.success

    assert checks(indexed) == {"ids_are_unique": True, "index_counts_reconcile": True}
    assert checks(embedded) == {"shards_are_whole": True, "agree_with_float32": True}
    assert checks(predicted) == {
        "every_record_is_accounted_for": True,
        "counts_reconcile": True,
        "scores_are_probabilities": True,
        "digests_agree": True,
        "is_like_its_cohort": True,
    }
    shards = metadata(embedded, "esm2_embeddings")
    assert set(shards) == SHARD_KEYS
    assert all(about["model"] == "untrained" for about in shards.values())
    assert all(
        {"rows", "tokens", "packing_efficiency", "device", "attention", "weights_digest"}
        <= set(about)
        for about in shards.values()
    )
    calls = metadata(predicted, "predictions")["s"]
    assert calls["model"] == "untrained"
    assert (calls["records"], calls["records_without_open_frame"]) == (3, 1)
    report = metadata(predicted, "sample_report")["s"]
    assert report["model"] == "untrained"
    assert report["scores"].startswith("![virus scores](data:image/png;base64,")

    manifest = read_json(deployment.layout.index("s") / "manifest.json")
    results = read_json(deployment.layout.predictions("s") / "results.json")
    assert data_version(deployment, "sequence_index") == manifest["index_digest"]
    assert data_version(deployment, "predictions") == sha256_json(results["provenance"])
    assert metadata(indexed, "sequence_index")["s"]["sample"] == "s.fa → s"

    records = pl.read_parquet(deployment.layout.predictions("s") / "records.parquet")
    assert records["id"].to_list() == ["first", "second", "closed"]
    assert records["status"].to_list() == ["called", "called", "no_open_frame"]
    assert records["model"].unique().to_list() == ["untrained"]
    assert (deployment.layout.report("s") / "report.html").exists()


def test_shards_can_be_embedded_one_run_each(deployment):
    deployment.add("s")
    deployment.index("s")
    for shard in range(N_SHARDS):
        assert deployment.execute("embed_samples", partition_key=f"s|{shard}").success
    assert deployment.materialised("esm2_embeddings") == SHARD_KEYS
    assert deployment.predict("s").success


def test_an_unknown_sample_is_one_sentence(deployment):
    deployment.instance.add_dynamic_partitions("sample", ["ghost"])
    sentence = failure_sentence(deployment.index("ghost"))
    assert sentence.startswith("'ghost' is not a known sample; add it with")


def test_a_broken_file_is_one_sentence_and_keeps_the_earlier_index(deployment):
    fasta = deployment.add("s")
    deployment.index("s")
    manifest = deployment.layout.index("s") / "manifest.json"
    before = manifest.read_bytes()
    fasta.write_text(FASTA + ">first\nACGT\n")
    sentence = failure_sentence(deployment.index("s"))
    assert "s.fa" in sentence and "first" in sentence
    assert manifest.read_bytes() == before


def test_a_sequence_that_cannot_be_embedded_is_set_aside_and_counted(deployment):
    deployment.add("s", "".join(f">r{i}\nATG{'GCT' * (i + 5)}\n" for i in range(2 * N_SHARDS)))
    deployment.index("s")
    index = deployment.layout.index("s")
    table = index / "proteins.arrow"
    sequences = SequenceTable(table).take(np.arange(len(SequenceTable(table))))
    sequences[1] = ""
    write_sequence_table(table, [pa.array(sequences, pa.large_string())])
    manifest = json.loads((index / "manifest.json").read_text())
    manifest["proteins_sha256"] = sha256_file(table)
    (index / "manifest.json").write_text(json.dumps(manifest))

    embedded = deployment.embed("s", assets=["esm2_embeddings"])
    assert embedded.success
    shards = metadata(embedded, "esm2_embeddings")
    assert {key: about["set_aside"] for key, about in shards.items()} == {
        key: int(key == "s|1") for key in SHARD_KEYS
    }


def test_an_old_shard_never_flows_into_new_calls(deployment):
    fasta = deployment.add("s")
    deployment.index("s")
    deployment.embed("s")
    fasta.write_text(FASTA.replace("ATGGCT", "ATGGGT"))
    deployment.index("s")
    sentence = failure_sentence(deployment.predict("s"))
    assert "shard-00-of" in sentence
    assert "materialise this shard again" in sentence


@pytest.mark.parametrize("asset", ["esm2_embeddings", "dnabert_s_embeddings"])
def test_a_damaged_shard_fails_its_check_when_it_is_looked_at(deployment, asset):
    deployment.add("s")
    deployment.index("s")
    deployment.embed("s")
    encoder = "esm2" if asset == "esm2_embeddings" else "dnabert-s"
    path = shard_path(deployment.layout.embeddings("s", encoder), 0, N_SHARDS)
    path.write_bytes(path.read_bytes()[:200])
    sentence = failure_sentence(deployment.predict("s"))
    assert str(path) in sentence
    assert deployment.embed("s").success
    assert deployment.predict("s").success


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"chunk_length": 300}, "is cut into chunks of 500, and the settings say 300"),
        (
            {"esm2": "other"},
            "its esm2 embeddings were made with untrained, and the settings",
        ),
    ],
    ids=["chunk length", "weights"],
)
def test_calls_are_refused_when_the_settings_have_moved_on(deployment, tmp_path, change, sentence):
    deployment.add("s")
    deployment.index("s")
    deployment.embed("s")
    models = from_environment().models
    if "esm2" in change:
        other = tmp_path / "other"
        shutil.copytree(models.esm2, other)
        tensors = load_file(other / "model.safetensors")
        tensors["encoder.emb_layer_norm_after.bias"] += 1
        save_file(tensors, other / "model.safetensors")
        change = {"esm2": str(other)}
    deployment.configure(replace(models, **change))
    assert sentence in failure_sentence(deployment.predict("s"))
