"""What automation asks for, by Dagster's own evaluation of the conditions."""

import dagster as dg
import pytest
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from virnuc_assets import embedding_runs
from virnuc_assets.partitions import N_SHARDS, sample_of
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.dagster.stand_ins import definitions


@pytest.fixture
def deployment(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        deployment = Deployment(tmp_path, instance)
        deployment.defs = definitions(deployment.layout.root)
        deployment.observe()
        yield deployment


@pytest.fixture
def requested(deployment):
    """Evaluate one tick; asset → partitions it asks for."""
    state = {"cursor": None}

    def evaluate():
        result = dg.evaluate_automation_conditions(
            defs=deployment.defs, instance=deployment.instance, cursor=state["cursor"]
        )
        state["cursor"] = result.cursor
        return {
            key.to_user_string(): partitions
            for key in deployment.defs.resolve_asset_graph().get_all_asset_keys()
            if (partitions := result.get_requested_partitions(key))
        }

    return evaluate


SHARDS = {f"s|{shard}" for shard in range(N_SHARDS)}


def test_each_step_follows_when_all_it_needs_is_there(deployment, requested):
    assert requested() == {}
    deployment.add("s")
    assert requested() == {"sequence_index": {"s"}}
    deployment.index("s")
    assert requested() == {"esm2_embeddings": SHARDS, "dnabert_s_embeddings": SHARDS}
    assert requested() == {}
    deployment.embed("s")
    assert requested() == {"predictions": {"s"}, "sample_report": {"s"}}
    deployment.embed("s", last=N_SHARDS - 2)
    assert requested() == {}
    deployment.embed("s", first=N_SHARDS - 1)
    assert requested() == {"predictions": {"s"}, "sample_report": {"s"}}
    deployment.predict("s")
    assert requested() == {}


def test_a_second_sample_touches_only_its_own_partitions(deployment, requested):
    requested()
    deployment.add("s")
    requested()
    deployment.index("s")
    requested()
    deployment.add("t")
    assert requested() == {"sequence_index": {"t"}}


def test_a_renewed_index_renews_all_that_follows(deployment, requested):
    deployment.add("s")
    requested()
    for step in (deployment.index, deployment.embed, deployment.predict):
        step("s")
        requested()
    deployment.index("s")
    assert requested() == {"esm2_embeddings": SHARDS, "dnabert_s_embeddings": SHARDS}
    assert requested() == {}
    deployment.embed("s")
    assert requested() == {"predictions": {"s"}, "sample_report": {"s"}}


class CallingRun:
    """A run that is at work on a sample's calls and report."""

    def __init__(self, instance, name):
        self.instance, self.name = instance, name
        assets = ("predictions", "sample_report")
        self.run = create_run_for_test(
            instance,
            status=dg.DagsterRunStatus.STARTED,
            asset_selection=frozenset(map(dg.AssetKey, assets)),
        )
        for asset in assets:
            planned = AssetMaterializationPlannedData(dg.AssetKey(asset), partition=name)
            self.report(
                DagsterEvent.build_asset_materialization_planned_event(
                    self.run.job_name, asset, planned
                )
            )

    def report(self, event):
        self.instance.report_dagster_event(event, self.run.run_id)

    def make(self, asset):
        made = dg.AssetMaterialization(asset, partition=self.name)
        self.report(
            DagsterEvent(
                DagsterEventType.ASSET_MATERIALIZATION.value,
                self.run.job_name,
                event_specific_data=StepMaterializationData(made),
            )
        )


def test_a_report_that_the_calls_run_is_about_to_make_is_not_asked_for(deployment, requested):
    """Nor are those of other runs that are at work at the same time."""
    requested()
    names = ("s", "t")
    for name in names:
        deployment.add(name)
    requested()
    for step in (deployment.index, deployment.embed):
        for name in names:
            step(name)
    assert requested()["sample_report"] == set(names)
    runs = [CallingRun(deployment.instance, name) for name in names]
    assert requested() == {}
    for run in runs:
        run.make("predictions")
    assert requested() == {}
    for run in runs:
        run.make("sample_report")
        deployment.instance.report_run_canceled(run.run)
    assert requested() == {}
    again = CallingRun(deployment.instance, "s")
    again.make("predictions")
    again.instance.report_run_failed(again.run)
    assert requested() == {}, "what failed waits for a person"


def queued(instance, tags):
    return create_run_for_test(
        instance,
        status=dg.DagsterRunStatus.QUEUED,
        tags=tags,
        remote_job_origin=RemoteJobOrigin(
            RemoteRepositoryOrigin(InProcessCodeLocationOrigin(LoadableTargetOrigin()), "r"), "job"
        ),
        job_code_origin=None,
    )


def test_while_a_run_waits_for_the_gpus_no_other_is_asked_for(deployment, requested):
    requested()
    for name in ("s", "t"):
        deployment.add(name)
    requested()
    deployment.index("s")
    assert requested() == {"esm2_embeddings": SHARDS, "dnabert_s_embeddings": SHARDS}
    waiting = queued(deployment.instance, embedding_runs.TAGS)
    # What a person has asked for is not counted.
    queued(deployment.instance, {})
    deployment.index("t")
    assert requested() == {}
    deployment.instance.report_run_canceled(waiting)
    assert {sample_of(key) for key in requested()["esm2_embeddings"]} == {"t"}


def test_of_many_samples_the_first_to_come_are_asked_for_first(deployment, requested):
    names = [f"s{number:02d}" for number in range(embedding_runs.MOST_RUNS + 1)][::-1]
    requested()
    for name in names:
        deployment.add(name)
    requested()
    for name in names:
        deployment.index(name)
    assert {sample_of(key) for key in requested()["esm2_embeddings"]} == set(names[:-1])
    assert {sample_of(key) for key in requested()["esm2_embeddings"]} == set(names[-1:])
