"""Checks find what is wrong with results and embeddings, and hold up what would follow from it.

One sample is made once; each test damages its files where the asset itself would have made them.
"""

import json
import shutil
from dataclasses import replace

import dagster as dg
import h5py
import numpy as np
import polars as pl
import pytest

from virnuc_assets import pipeline, spot_check
from virnuc_assets.classifier.cohort import COMPARED, key_figures
from virnuc_assets.classifier.cohort_page import TABLE
from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.errors import RunnerError
from virnuc_assets.partitions import N_SHARDS
from virnuc_assets.runner import client
from virnuc_assets.runner.events import ShardDone
from virnuc_assets.sequences.manifest import read_manifest
from virnuc_assets.settings import ENCODERS
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    read_attributes,
    shard_path,
    write_embeddings,
)
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets.store.view import renew_view
from virnuc_assets_tests.dagster.deployment import Deployment, failure_sentence, metadata

# Of `closed` every frame has a stop codon.
FASTA = """\
>first
ATGGCTAAAGGTGCTGCTCGTAAACGTGCTGGTGCTAAAGGTGCTGCTCGTAAACGTGCTGGT
>second
ATGCGTGGTGCTGCTGGTCGTGCTAAAGCTGGTCGTCGTGCTGCTGGTAAAGCTGGTGGTCGTGCT
>third
ATGCGTGGTGCTGCTGGTCGTGCTAAAGCTGGTCGTCGTGCTGCTGGTAAAGCTGGTGGTCGTGGG
>closed
TAACTAACTAACTAACTAACTTAGTTAGTTAGTTAGTTAG
"""
PREDICTION_CHECKS = {
    "every_record_is_accounted_for",
    "counts_reconcile",
    "scores_are_probabilities",
    "digests_agree",
    "is_like_its_cohort",
}


class Made:
    """A deployment with one sample, embedded and called in this process."""

    def __init__(self, root, instance):
        self.deployment = Deployment(root, instance)
        self.deployment.add("s", FASTA)
        pipeline.index_sample(self.layout, "s", 500)
        self.encoders = {encoder: self.load(encoder) for encoder in ENCODERS}
        for encoder in ENCODERS:
            self.embed(encoder)
        self.summary = pipeline.predict_sample(self.layout, "s", N_SHARDS, self.deployment.models)
        self.whole = root / "whole"
        shutil.copytree(self.layout.root, self.whole)

    @property
    def layout(self):
        return self.deployment.layout

    @property
    def results(self):
        return self.layout.predictions("s")

    def shard(self, number, encoder="esm2"):
        return shard_path(self.layout.embeddings("s", encoder), number, N_SHARDS)

    def load(self, encoder):
        weights = self.deployment.models.encoding(encoder).weights
        return load_encoder(EncoderSettings(encoder, weights, dtype="bfloat16"))

    def embed(self, encoder):
        manifest = read_manifest(self.layout.index("s"))
        table = SequenceTable(
            self.layout.index("s") / pipeline.sequence_table(manifest, encoder).file
        )
        about, rows = self.encoders[encoder].description, np.arange(len(table))
        values = self.encoders[encoder].embed(table.take(rows)).values
        origin = Origin(about.label, about.weights_digest, "CPU", "sdpa", "plain", 4096, "truncate")
        for number in range(N_SHARDS):
            mine = values[number::N_SHARDS]
            identity = Identity(
                *(encoder, manifest.index_digest, about.encoder_digest, about.dtype),
                *(N_SHARDS, number, 0, len(mine)),
            )
            write_embeddings(
                self.shard(number, encoder), identity, origin, Counts(), about.dim, [mine]
            )
        renew_view(self.layout.embeddings("s", encoder), N_SHARDS, {})

    def restore(self):
        shutil.rmtree(self.layout.root)
        shutil.copytree(self.whole, self.layout.root)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Made(tmp_path_factory.mktemp("checks"), instance)


@pytest.fixture
def made(made_once):
    made_once.restore()
    return made_once


@pytest.fixture
def predict(made, monkeypatch):
    """Run the predictions' job with results that are what `damage` left of the right ones."""

    def run(damage):
        def written(*given):
            damage(made)
            return made.summary

        monkeypatch.setattr(pipeline, "predict_sample", written)
        return made.deployment.predict("s")

    return run


@pytest.fixture
def embed(made, monkeypatch):
    """Run ESM-2's asset with the shards that are there."""

    def there(jobs):
        for number in jobs[0].shards:
            yield 0, ShardDone(number, str(made.shard(number)), reused=True, metadata={})

    def run():
        monkeypatch.setattr(client, "stream_all", there)
        return made.deployment.embed("s", assets=["esm2_embeddings"])

    return run


@pytest.fixture
def embedded_here(made, monkeypatch):
    """What is compared with is embedded in this process, which spares starting another."""
    monkeypatch.setattr(
        spot_check,
        "_in_float32",
        lambda sequences, file, models: made.encoders["esm2"].embed(sequences).values,
    )


def failed(run):
    return {check.check_name for check in run.get_asset_check_evaluations() if not check.passed}


def evaluation(run, name):
    (found,) = [c for c in run.get_asset_check_evaluations() if c.check_name == name]
    return found


def edit(name, change):
    """A damage: `change` (of a table) to one of the result files."""

    def damage(made):
        path = made.results / f"{name}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return damage


def say(**changes):
    def damage(made):
        path = made.results / "results.json"
        said = json.loads(path.read_text())
        said["provenance"] |= changes
        path.write_text(json.dumps(said))

    return damage


DAMAGES = {
    "records are in another order": (
        edit("records", lambda table: table.reverse()),
        {"every_record_is_accounted_for"},
    ),
    "a call is not that of its chunks": (
        edit("records", lambda table: table.with_columns(is_virus=~pl.col("is_virus"))),
        {"counts_reconcile"},
    ),
    "scores are NaN": (
        edit("frames", lambda table: table.with_columns(score_virus=float("nan"))),
        {"scores_are_probabilities"},
    ),
    "they are of another index and other shards": (
        say(index_digest="other", esm2_shards_digest="other"),
        {"digests_agree"},
    ),
    "the shards are being replaced": (
        lambda made: (made.layout.embeddings("s", "esm2") / "view.h5").unlink(),
        {"digests_agree"},
    ),
}


def test_whole_results_pass_every_check_and_their_numbers_can_be_plotted(predict):
    run = predict(lambda made: None)
    assert run.success
    assert {c.check_name for c in run.get_asset_check_evaluations()} == PREDICTION_CHECKS
    assert failed(run) == set()
    found = evaluation(run, "counts_reconcile").metadata
    assert (found["n_records"].value, found["n_no_open_frame"].value) == (4, 1)
    assert evaluation(run, "is_like_its_cohort").description == (
        "there is no summary of the cohort yet"
    )
    about = metadata(run, "predictions")["s"]
    assert about["not_callable_share"] == 0.25
    assert 0 <= about["viral_share"] <= 1
    assert 0 < about["median_score"] < 1
    assert about["frames_per_second"] == pytest.approx(about["frames"] / about["seconds"])
    assert metadata(run, "sample_report")["s"]["page_bytes"] < 2_000_000


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_with_results_is_found_and_no_report_is_made_of_it(damage, predict):
    change, expected = DAMAGES[damage]
    run = predict(change)
    assert failed(run) == expected
    assert not run.success
    assert "sample_report" not in {
        event.asset_key.to_user_string() for event in run.get_asset_materialization_events()
    }


def write_cohort_like(made, n, **changed):
    figures = key_figures(json.loads((made.results / "results.json").read_text())) | changed
    rows = [{"sample": f"t{i}", **{name: figures[name] for name in figures}} for i in range(n)]
    made.layout.cohort.mkdir()
    columns = ["sample", "model", "chunk_length", *COMPARED]
    pl.DataFrame(rows).select(columns).write_parquet(made.layout.cohort / TABLE)


def test_a_sample_unlike_its_cohort_is_a_warning_that_holds_up_nothing(made, predict):
    run = predict(lambda made: write_cohort_like(made, 9, median_score=0.02, records=4000))
    assert run.success
    found = evaluation(run, "is_like_its_cohort")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description.startswith("stands out in records (modified z-score ")
    assert "median_score (modified z-score" in found.description
    assert "sample_report" in {
        event.asset_key.to_user_string() for event in run.get_asset_materialization_events()
    }


def test_a_damaged_summary_of_the_cohort_holds_up_nothing(predict):
    def damage(made):
        made.layout.cohort.mkdir()
        (made.layout.cohort / TABLE).write_bytes(b"PAR1")

    run = predict(damage)
    assert run.success
    found = evaluation(run, "is_like_its_cohort")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "cohort.parquet: cannot be read" in found.description


def values_of(path):
    with h5py.File(path, "r") as file:
        return file["embeddings"][:]


def test_embeddings_in_half_precision_agree_with_float32(embed):
    run = embed()
    assert run.success
    found = evaluation(run, "agree_with_float32")
    assert found.passed
    assert found.metadata["compared"].value > 1
    assert 0.999 <= found.metadata["float32_cosine_min"].value < 1


def test_a_row_of_another_sequence_is_found(made, embed, embedded_here):
    file = read_attributes(made.shard(0))
    right = values_of(file.path)
    swapped = np.roll(right, 1, axis=0)
    write_embeddings(file.path, file.identity, file.origin, file.counts, file.dim, [swapped])
    run = embed()
    assert failed(run) == {"agree_with_float32"}
    assert not run.success
    assert "wanted 0.999 at least" in evaluation(run, "agree_with_float32").description

    # Another run, which Dagster starts though that one failed, does not use it.
    renew_view(file.path.parent, N_SHARDS, {})
    run = made.deployment.predict("s")
    sentence = failure_sentence(run)
    assert sentence.startswith(f"{file.path}: does not agree with float32 (a cosine of ")
    write_embeddings(file.path, file.identity, file.origin, file.counts, file.dim, [right])
    renew_view(file.path.parent, N_SHARDS, {})
    assert made.deployment.predict("s").success


def test_a_shard_that_is_not_whole_is_found(made, embed, embedded_here):
    path = made.shard(1)
    path.write_bytes(path.read_bytes()[:-100])
    run = embed()
    assert failed(run) == {"shards_are_whole"}
    assert not run.success


def test_what_cannot_be_compared_is_a_warning(embed, monkeypatch):
    def fail(*given):
        raise RunnerError("no")

    monkeypatch.setattr(spot_check, "_in_float32", fail)
    run = embed()
    assert run.success
    found = evaluation(run, "agree_with_float32")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == "no"


def test_embeddings_in_float32_on_a_cpu_are_exact_and_nothing_is_computed(made, embed, monkeypatch):
    for number in range(N_SHARDS):
        file = read_attributes(made.shard(number))
        identity = replace(file.identity, dtype="float32")
        values = [values_of(file.path)]
        write_embeddings(file.path, identity, file.origin, file.counts, file.dim, values)
    monkeypatch.delattr(spot_check, "_in_float32")
    run = embed()
    assert run.success
    found = evaluation(run, "agree_with_float32")
    assert found.passed
    assert found.description.startswith("s: exact (float32 on a CPU)")
    assert found.metadata["compared"].value == 0
