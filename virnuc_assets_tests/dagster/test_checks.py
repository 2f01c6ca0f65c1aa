"""Checks find what is wrong with results and embeddings, and hold up what would follow from it.

One sample is made once; each test damages its files where the asset itself would have made them.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import h5py
import numpy as np
import polars as pl
import pytest

from virnuc_assets import pipeline
from virnuc_assets.assets import embedding
from virnuc_assets.classifier.cohort import COMPARED, key_figures
from virnuc_assets.classifier.cohort_page import TABLE
from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.errors import StoreError
from virnuc_assets.partitions import N_SHARDS, RANGE_END, RANGE_START
from virnuc_assets.runner import client
from virnuc_assets.runner.events import Failed, ShardDone
from virnuc_assets.sequences.manifest import read_manifest
from virnuc_assets.settings import ENCODERS
from virnuc_assets.store.agreement import agreement_of
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
OTHERS = {
    name: FASTA.replace("GCT", codon)
    for name, codon in {"t": "GAA", "u": "CCG", "v": "TTC"}.items()
}
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
        self.encoders = {encoder: self.load(encoder) for encoder in ENCODERS}
        self.add("s", FASTA)
        self.summary = pipeline.predict_sample(self.layout, "s", N_SHARDS, self.deployment.models)
        self.whole = root / "whole"
        shutil.copytree(self.layout.root, self.whole)

    @property
    def layout(self):
        return self.deployment.layout

    @property
    def results(self):
        return self.layout.predictions("s")

    def add(self, sample, fasta):
        self.deployment.add(sample, fasta)
        pipeline.index_sample(self.layout, sample, 500)
        for encoder in ENCODERS:
            self.embed(encoder, sample)

    def shard(self, number, encoder="esm2", sample="s"):
        return shard_path(self.layout.embeddings(sample, encoder), number, N_SHARDS)

    def load(self, encoder):
        weights = self.deployment.models.encoding(encoder).weights
        return load_encoder(EncoderSettings(encoder, weights, dtype="bfloat16"))

    def embed(self, encoder, sample):
        index = self.layout.index(sample)
        manifest = read_manifest(index)
        table = SequenceTable(index / pipeline.sequence_table(manifest, encoder).file)
        values = self.encoders[encoder].embed(table.take(np.arange(len(table)))).values
        for number in range(N_SHARDS):
            path = self.shard(number, encoder, sample)
            self.write(path, encoder, values[number::N_SHARDS], manifest.index_digest, number)
        renew_view(self.layout.embeddings(sample, encoder), N_SHARDS, {})

    def write(self, path, encoder, values, index_digest, shard=0, n_shards=N_SHARDS):
        about = self.encoders[encoder].description
        origin = Origin(about.label, about.weights_digest, "CPU", "sdpa", "plain", 4096, "truncate")
        identity = Identity(
            *(encoder, index_digest, about.encoder_digest, about.dtype),
            *(n_shards, shard, 0, len(values)),
        )
        write_embeddings(path, identity, origin, Counts(), about.dim, [values])

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
    """Run ESM-2's asset, of samples from the first to the last, with the shards that are there."""

    def there(context, jobs):
        for number, job in enumerate(jobs):
            for shard in job.shards:
                path = str(shard_path(Path(job.output), shard, job.n_shards))
                yield number, ShardDone(shard, path, reused=True, metadata={})

    def run(first="s", last="s", spoil=lambda events: events):
        monkeypatch.setattr(
            embedding, "launched", lambda context, jobs: spoil(there(context, jobs))
        )
        return made.deployment.execute(
            "embed_samples",
            tags={RANGE_START: f"{first}|0", RANGE_END: f"{last}|{N_SHARDS - 1}"},
            asset_selection=[dg.AssetKey("esm2_embeddings")],
        )

    return run


@pytest.fixture
def here(made):
    """In place of `client.stream_all`: embeds in this process, which spares starting another."""

    def stream_all(jobs):
        for number, job in enumerate(jobs):
            table = SequenceTable(Path(job.sequences))
            values = made.encoders["esm2"].embed(table.take(np.arange(len(table)))).values
            path = shard_path(Path(job.output), 0, job.n_shards)
            made.write(path, "esm2", values, job.index_digest, 0, job.n_shards)
            yield number, ShardDone(0, str(path), reused=False, metadata={})

    return stream_all


@pytest.fixture
def embedded_here(here, monkeypatch):
    monkeypatch.setattr(client, "stream_all", here)


@pytest.fixture
def loads(monkeypatch):
    """For each call of the runner what its workers logged, which is gone afterwards."""
    written, real = [], client.stream_all

    def stream_all(jobs):
        yield from real(jobs)
        logs = [path for job in jobs for path in Path(job.output).rglob("worker-*.log")]
        written.append([path.read_text() for path in logs])

    monkeypatch.setattr(client, "stream_all", stream_all)
    return written


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


def swapped(values):
    """Each embedding is another sequence's."""
    return np.roll(values, 1, axis=0)


def write_again(path, values, **identity):
    """Put other embeddings into a shard's file, or let it say that they are of something else."""
    file = read_attributes(path)
    says = replace(file.identity, **identity)
    write_embeddings(path, says, file.origin, file.counts, file.dim, [values])


def test_a_run_of_several_samples_loads_float32_once_and_compares_what_it_can(made, embed, loads):
    for name, fasta in OTHERS.items():
        made.add(name, fasta)
    shard = {name: made.shard(0, sample=name) for name in ("s", *OTHERS)}
    shard["t"].unlink()
    write_again(shard["u"], swapped(values_of(shard["u"])))
    write_again(shard["v"], values_of(shard["v"]), encoder_digest="of other weights")
    run = embed("s", "v")
    assert not run.success

    # One load, by the workers' own account; and one more to try again what could not be compared.
    assert ["".join(logs).count("loaded EncoderDescription") for logs in loads] == [1, 1]
    found = {name: agreement_of(read_attributes(shard[name])) for name in "suv"}
    assert found["v"] is None
    assert found["s"].passed
    assert found["s"].compared > 1
    assert 0.999 <= found["s"].minimum < 1
    assert not found["u"].passed
    said = evaluation(run, "agree_with_float32")
    assert (said.passed, said.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert said.description.startswith(f"{shard['t']}: ")
    assert f"; {shard['v']}: was made with " in said.description
    for name in "su":
        about = f"; {name}: {found[name].compared} cosines to float32, the least "
        assert f"{about}{found[name].minimum:.6f}" in said.description
    assert said.metadata["compared"].value == found["s"].compared + found["u"].compared
    assert said.metadata["float32_cosine_min"].value == found["u"].minimum


def test_a_sample_whose_run_fails_does_not_spoil_the_others(made, embed, here, monkeypatch):
    def stream_all(jobs):
        for number, event in here(jobs):
            yield number, Failed("no") if "/t/" in jobs[number].output else event

    for name, fasta in OTHERS.items():
        made.add(name, fasta)
    monkeypatch.setattr(client, "stream_all", stream_all)
    run = embed("s", "v")
    assert run.success
    said = evaluation(run, "agree_with_float32")
    assert (said.passed, said.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert said.description.startswith("t: no; s: ")
    found = {n: agreement_of(read_attributes(made.shard(0, sample=n))) for n in ("s", *OTHERS)}
    assert found.pop("t") is None
    assert all(record.passed for record in found.values())


def test_what_is_materialised_was_compared(made, embed, embedded_here):
    """Calls may follow at once, and before the check; and where a sample failed there is none."""
    made.add("t", OTHERS["t"])

    def one_fails(events):
        for number, event in events:
            yield number, Failed("no") if number == 1 else event

    run = embed("s", "t", one_fails)
    assert not run.success
    assert run.get_asset_check_evaluations() == []
    assert agreement_of(read_attributes(made.shard(0))).passed
    assert agreement_of(read_attributes(made.shard(0, sample="t"))) is None


def test_what_was_compared_before_is_not_embedded_again(made, embed, here, monkeypatch):
    def stream_all(jobs):
        asked.append(len(jobs))
        return here(jobs)

    asked = []
    made.add("t", OTHERS["t"])
    monkeypatch.setattr(client, "stream_all", stream_all)
    first, second = embed("s"), embed("s", "t")
    assert [number for number in asked if number] == [1, 1]
    said = [evaluation(run, "agree_with_float32") for run in (first, second)]
    assert all(check.passed for check in said)
    assert said[1].description.startswith(f"{said[0].description}; t: ")


def test_a_row_of_another_sequence_is_found(made, embed, embedded_here):
    path = made.shard(0)
    right = values_of(path)
    write_again(path, swapped(right))
    run = embed()
    assert failed(run) == {"agree_with_float32"}
    assert not run.success
    assert "wanted 0.999 at least" in evaluation(run, "agree_with_float32").description

    # Another run, which Dagster starts though that one failed, does not use it.
    renew_view(path.parent, N_SHARDS, {})
    run = made.deployment.predict("s")
    sentence = failure_sentence(run)
    assert sentence.startswith(f"{path}: does not agree with float32 (a cosine of ")
    write_again(path, right)
    renew_view(path.parent, N_SHARDS, {})
    assert made.deployment.predict("s").success


def test_a_shard_that_is_not_whole_is_found(made, embed, embedded_here):
    path = made.shard(1)
    path.write_bytes(path.read_bytes()[:-100])
    run = embed()
    assert failed(run) == {"shards_are_whole"}
    assert not run.success


def test_what_cannot_be_compared_is_a_warning(embed, monkeypatch):
    def stream_all(jobs):
        raise StoreError("no room for the jobs")
        yield

    monkeypatch.setattr(client, "stream_all", stream_all)
    run = embed()
    assert run.success
    found = evaluation(run, "agree_with_float32")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == "no room for the jobs"


def test_embeddings_in_float32_on_a_cpu_are_exact_and_nothing_is_computed(made, embed, monkeypatch):
    def stream_all(jobs):
        assert not jobs
        yield from ()

    for number in range(N_SHARDS):
        write_again(made.shard(number), values_of(made.shard(number)), dtype="float32")
    monkeypatch.setattr(client, "stream_all", stream_all)
    run = embed()
    assert run.success
    found = evaluation(run, "agree_with_float32")
    assert found.passed
    assert found.description.startswith("s: exact (float32 on a CPU)")
    assert found.metadata["compared"].value == 0
