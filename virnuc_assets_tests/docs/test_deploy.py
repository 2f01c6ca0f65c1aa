"""The variants in `deploy/` differ from the repository's own files in what they are for alone."""

from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus

from virnuc_assets.errors import SettingsError
from virnuc_assets.instance import open_instance

REPOSITORY = Path(__file__).parents[2]


def read(path):
    return yaml.safe_load((REPOSITORY / path).read_text())


def test_postgres_changes_the_storage_and_nothing_else():
    own, variant = read("dagster.yaml"), read("deploy/postgres/dagster.yaml")
    assert set(own.pop("storage")) == {"sqlite"}
    assert set(variant.pop("storage")) == {"postgres"}
    assert variant == own


def test_a_code_server_has_the_name_that_runs_and_sensors_know():
    ((own,),) = (entry.values() for entry in read("workspace.yaml")["load_from"])
    variant = read("deploy/grpc_server/workspace.yaml")["load_from"]
    ((server,),) = (entry.values() for entry in variant)
    assert server["location_name"] == own["location_name"]
    assert server["host"] == "localhost"


def test_dagster_reads_the_instances_settings_as_they_are_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 3
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert instance.run_monitoring_enabled
        for kind in (InstigatorType.SENSOR, InstigatorType.AUTO_MATERIALIZE):
            days = instance.get_tick_retention_settings(kind)
            assert days[TickStatus.SKIPPED] == 1
            assert days[TickStatus.FAILURE] == 90


def test_an_instance_that_cannot_be_opened_is_one_sentence(tmp_path, monkeypatch):
    pytest.importorskip("dagster_postgres")
    yaml_file = REPOSITORY / "deploy" / "postgres" / "dagster.yaml"
    (tmp_path / "dagster.yaml").write_text(yaml_file.read_text().replace("5432", "9"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv("VIRNUC_POSTGRES_PASSWORD", raising=False)
    with pytest.raises(SettingsError, match='"VIRNUC_POSTGRES_PASSWORD" which is not set'):
        open_instance().__enter__()
    monkeypatch.setenv("VIRNUC_POSTGRES_PASSWORD", "secret")
    with pytest.raises(SettingsError, match=r"port 9 failed: .*; .*start the database") as raised:
        open_instance().__enter__()
    assert "\n" not in str(raised.value)
