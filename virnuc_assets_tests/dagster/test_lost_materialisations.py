"""What was materialised is not counted as missing, whatever happened while it was counted."""

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.test_utils import create_run_for_test

from virnuc_assets.sensors.lost_materialisations import lost_materialisations_sensor

ASSET = dg.AssetKey("things")
SAMPLES = dg.DynamicPartitionsDefinition(name="sample")


@dg.asset(partitions_def=SAMPLES)
def things():
    """Partitioned, as a sample's assets are."""


@dg.asset
def summary():
    """Of all samples, without partitions."""


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("sample", ["a", "b", "c"])
        yield instance


def materialise(instance, sample):
    instance.report_runless_asset_event(dg.AssetMaterialization(ASSET, partition=sample))


def plan(instance, sample):
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    event = DagsterEvent.build_asset_materialization_planned_event(
        run.job_name, "things", AssetMaterializationPlannedData(ASSET, partition=sample)
    )
    instance.report_dagster_event(event, run.run_id)


def counted(instance):
    """The partitions that automation and the UI take for materialised."""
    account = get_and_update_asset_status_cache_value(instance, ASSET, SAMPLES)
    return set(account.deserialize_materialized_partition_subsets(SAMPLES).get_partition_keys())


def tick(instance):
    context = dg.build_sensor_context(
        instance=instance, definitions=dg.Definitions(assets=[things, summary])
    )
    return lost_materialisations_sensor(context)


@pytest.fixture
def passed_over(instance, monkeypatch):
    """`b` is materialised, and `c` planned, while Dagster brings its account up to date."""
    materialise(instance, "a")
    assert counted(instance) == {"a"}
    asked = instance.get_latest_planned_materialization_info

    def meanwhile(key):
        monkeypatch.undo()
        materialise(instance, "b")
        plan(instance, "c")
        return asked(key)

    monkeypatch.setattr(instance, "get_latest_planned_materialization_info", meanwhile)
    assert counted(instance) == {"a"}
    assert counted(instance) == {"a"}, "Dagster finds it by itself: the sensor can go"


@pytest.mark.usefixtures("passed_over")
def test_what_dagster_passed_over_is_counted_after_a_tick(instance, capfd):
    tick(instance)
    assert counted(instance) == {"a", "b"}
    assert "things: b had been materialised" in capfd.readouterr().err


def test_an_account_in_which_nothing_is_missing_stays(instance, capfd):
    materialise(instance, "a")
    assert counted(instance) == {"a"}
    materialise(instance, "b")
    tick(instance)
    assert instance.get_asset_records([ASSET])[0].asset_entry.cached_status is not None
    assert not capfd.readouterr().err
    assert counted(instance) == {"a", "b"}


def test_samples_that_were_removed_are_not_looked_for(instance, capfd):
    materialise(instance, "a")
    assert counted(instance) == {"a"}
    instance.delete_dynamic_partition("sample", "a")
    tick(instance)
    assert not capfd.readouterr().err


def test_assets_of_which_there_is_no_account_are_left_alone(instance, capfd):
    tick(instance)
    assert not capfd.readouterr().err
