"""The cohort's summary: what it holds, and that it is renewed once for many samples."""

import json
from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest

from virnuc_assets.classifier.result_files import SCHEMA
from virnuc_assets_tests.dagster.deployment import Deployment

COHORT = dg.AssetKey("cohort_summary")
PREDICTIONS = dg.AssetKey("predictions")
N = 9


def write_results(deployment, name, viral):
    folder = deployment.layout.predictions(name)
    folder.mkdir(parents=True, exist_ok=True)
    counts = {
        "n_records": 100,
        "n_viral_records": viral,
        "n_bases": 50_000,
        "n_viral_bases": 500 * viral,
        "n_no_open_frame": 20,
        "n_not_embedded": 0,
        "n_chunks": 100,
        "n_frames": 300,
        "n_unique_nucleotides": 280,
        "n_unique_proteins": 260,
    }
    said = {"chunk_length": "500", "esm2_dtype": "float16", "dnabert_s_dtype": "float16"}
    results = {"schema": SCHEMA, "model": "lab", "counts": counts, "median_score": viral / 100}
    (folder / "results.json").write_text(json.dumps(results | {"provenance": said}))


def summarise(deployment):
    job = deployment.defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={COHORT}
    )
    run = job.execute_in_process(instance=deployment.instance, raise_on_error=False)
    assert run.success
    (event,) = run.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_the_summary_holds_every_sample_that_has_results(deployment):
    for number in range(N):
        write_results(deployment, f"s{number:02d}", viral=9 + number % 3)
    write_results(deployment, "odd", viral=70)
    write_results(deployment, "unusable", viral=9)
    (deployment.layout.predictions("unusable") / "results.json").write_text('{"schema": 1}')
    write_results(deployment, "removed", viral=9)
    names = [f"s{number:02d}" for number in range(N)]
    deployment.instance.add_dynamic_partitions("sample", [*names, "odd", "unusable", "on_its_way"])

    about = summarise(deployment)
    assert (about["samples"], about["samples_not_read"], about["samples_that_stand_out"]) == (
        *(N + 1, 1, 1),
    )
    called = 80 * (N + 1)
    assert (about["records"], about["called_records"]) == (100 * (N + 1), called)
    assert about["viral_share"] == pytest.approx((10 * N + 70) / called)
    assert about["plot"].startswith("![the samples' key figures](data:image/png;base64,")
    assert about["first_samples"].splitlines()[2].startswith("| odd | 100 | 87.5")
    table = pl.read_parquet(about["table"])
    assert table["sample"].to_list() == sorted([*names, "odd"])
    assert dict(table.select("sample", "stands_out").drop_nulls().iter_rows()) == {
        "odd": "viral_share, median_score"
    }
    assert "../reports/odd/report.html" in (deployment.layout.cohort / "cohort.html").read_text()


def test_no_sample_yet_is_a_summary_too(deployment):
    about = summarise(deployment)
    assert about["samples"] == 0
    assert "plot" not in about


class Platform:
    """Samples on their way, and what automation asks for tick by tick."""

    def __init__(self, deployment):
        self.deployment, self.instance = deployment, deployment.instance
        self.cursor = None
        self.runs = {}

    def tick(self, at=None):
        """Whether the summary is asked for (`at` a time)."""
        result = dg.evaluate_automation_conditions(
            defs=self.deployment.defs,
            instance=self.instance,
            cursor=self.cursor,
            evaluation_time=at,
            asset_selection=dg.AssetSelection.assets("cohort_summary"),
        )
        self.cursor = result.cursor
        return result.total_requested == 1

    def start(self, sample, job="predict_samples", asset="predictions"):
        key = sample if asset in ("predictions", "sequence_index") else f"{sample}|0"
        tags = {"dagster/partition": key}
        if "|" in key:
            tags |= {"dagster/partition/sample": sample, "dagster/partition/shard": "0"}
        self.runs[sample, asset] = self.instance.create_run_for_job(
            job_def=self.deployment.defs.resolve_job_def(job),
            asset_selection=frozenset([dg.AssetKey(asset)]),
            tags=tags,
            status=dg.DagsterRunStatus.STARTED,
        )

    def end(self, sample, asset="predictions"):
        run = self.runs.pop((sample, asset))
        if asset == "predictions":
            self.called(sample)
        self.instance.report_run_canceled(run)

    def called(self, sample):
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(PREDICTIONS, partition=sample)
        )

    def summarised(self):
        self.instance.report_runless_asset_event(dg.AssetMaterialization(COHORT))


@pytest.fixture
def platform(tmp_path):
    # In memory: thousands of small transactions on a disk are most of these tests' time.
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("sample", [f"s{i}" for i in range(N)])
        yield Platform(Deployment(tmp_path, instance))


def test_nothing_is_asked_for_before_there_are_calls(platform):
    assert not any(platform.tick() for _ in range(3))


def test_calls_that_were_there_before_are_summarised(platform):
    platform.called("s0")
    assert [platform.tick() for _ in range(4)].count(True) == 1


def test_a_sample_that_was_called_renews_the_summary_once(platform):
    platform.tick()
    for _ in range(2):
        platform.called("s0")
        assert [platform.tick() for _ in range(5)] == [False, False, True, False, False]
        platform.summarised()
        assert not platform.tick()


def test_many_samples_renew_it_once_when_the_last_of_them_is_called(platform):
    platform.tick()
    names = [f"s{i}" for i in range(N)]
    for name in names:
        platform.start(name)
    asked = []
    for name in names:
        platform.end(name)
        asked += [platform.tick(), platform.tick()]
    assert asked.count(True) == 0
    assert [platform.tick() for _ in range(3)].count(True) == 1


def test_samples_that_are_indexed_or_embedded_hold_it_back(platform):
    platform.tick()
    platform.called("s0")
    platform.start("s1", "index_samples", "sequence_index")
    assert not platform.tick()
    platform.start("s1", "embed_samples", "esm2_embeddings")
    platform.end("s1", "sequence_index")
    assert not any(platform.tick() for _ in range(3))
    platform.start("s1")
    platform.end("s1", "esm2_embeddings")
    assert not any(platform.tick() for _ in range(3))
    platform.end("s1")
    assert [platform.tick() for _ in range(4)].count(True) == 1


def test_a_sample_that_fails_holds_it_back_no_longer(platform):
    platform.tick()
    platform.called("s0")
    platform.start("s1", "embed_samples", "esm2_embeddings")
    assert not any(platform.tick() for _ in range(3))
    platform.end("s1", "esm2_embeddings")
    assert [platform.tick() for _ in range(4)].count(True) == 1


def test_a_sample_that_is_asked_for_a_tick_after_it_could_be_holds_it_back(platform):
    """A run's last event and its end may lie on two ticks; what follows is asked for after both."""
    platform.tick()
    platform.start("s1", "embed_samples", "esm2_embeddings")
    platform.called("s0")
    assert not platform.tick()
    platform.end("s1", "esm2_embeddings")
    assert not platform.tick()
    platform.start("s1")
    assert not any(platform.tick() for _ in range(3))
    platform.end("s1")
    assert [platform.tick() for _ in range(4)].count(True) == 1


def test_a_sample_called_while_the_summary_is_made_is_not_forgotten(platform):
    platform.tick()
    platform.called("s0")
    assert [platform.tick() for _ in range(3)] == [False, False, True]
    platform.called("s1")
    platform.summarised()
    assert [platform.tick() for _ in range(4)].count(True) == 1


def test_where_there_always_is_a_sample_on_its_way_it_is_renewed_every_hour(platform):
    def tick(hour, minute):
        return platform.tick(datetime(2030, 1, 1, hour, minute, tzinfo=UTC))

    tick(9, 50)
    platform.start("s1", "embed_samples", "esm2_embeddings")
    platform.called("s0")
    assert [tick(9, 51), tick(9, 59), tick(10, 1), tick(10, 2)] == [False, False, True, False]
    platform.summarised()
    assert not tick(11, 1)
    platform.called("s2")
    assert [tick(11, 2), tick(11, 3)] == [True, False]
    platform.called("s3")
    assert [tick(11, 4), tick(11, 59), tick(12, 0)] == [False, False, True]
