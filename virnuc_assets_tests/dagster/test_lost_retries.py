"""A run that is to be tried again is, whenever Dagster's daemon looked."""

import datetime

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon

from virnuc_assets.sensors import lost_retries
from virnuc_assets.sensors.lost_retries import lost_retries_sensor
from virnuc_assets_tests.dagster.workplace import workplace_of

pytestmark = pytest.mark.platform

CODE = """
import dagster as dg

@dg.job
def does_nothing():
    pass

defs = dg.Definitions(jobs=[does_nothing])
"""
RETRIES = {"run_retries": {"enabled": True, "max_retries": 1}}


@pytest.fixture
def workplace(tmp_path):
    with workplace_of(tmp_path, CODE, RETRIES) as workplace:
        look(workplace)
        yield workplace


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(lost_retries, "_PATIENCE", datetime.timedelta(seconds=-1))


def look(workplace):
    """What the daemon does every five seconds."""
    list(EventLogConsumerDaemon().run_iteration(workplace.context))


def tick(workplace):
    lost_retries_sensor(dg.build_sensor_context(instance=workplace.instance))


def run_of(workplace):
    """A run that has started."""
    location = workplace.context.create_request_context().code_locations[0]
    (repository,) = location.get_repositories().values()
    job = repository.get_full_job("does_nothing")
    return workplace.instance.create_run(
        job_name=job.name,
        run_id=None,
        run_config=None,
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/retry_strategy": "ALL_STEPS"},
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=None,
        job_snapshot=job.job_snapshot,
        parent_job_snapshot=job.parent_job_snapshot,
        asset_selection=None,
        asset_check_selection=None,
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
        asset_graph=location.get_repository(repository.name).asset_graph,
    )


def tries(workplace, run):
    return [one for one in workplace.instance.get_runs() if one.parent_run_id == run.run_id]


@pytest.fixture
def passed_over(workplace, monkeypatch):
    """A run that fails while the daemon looks: the event is stored, and the status not yet."""
    run = run_of(workplace)
    storage = workplace.instance.run_storage
    handle = storage.handle_run_event

    def meanwhile(*arguments, **options):
        monkeypatch.setattr(storage, "handle_run_event", handle)
        look(workplace)
        return handle(*arguments, **options)

    monkeypatch.setattr(storage, "handle_run_event", meanwhile)
    workplace.instance.report_run_failed(run)
    look(workplace)
    assert not tries(workplace, run), "Dagster finds it by itself: the sensor can go"
    return run


def test_what_the_daemon_passed_over_is_tried_again_after_a_tick(workplace, passed_over):
    tick(workplace)
    look(workplace)
    assert len(tries(workplace, passed_over)) == 1
    tick(workplace)
    look(workplace)
    assert len(tries(workplace, passed_over)) == 1


def test_the_daemon_is_given_time(workplace, passed_over, monkeypatch):
    monkeypatch.setattr(lost_retries, "_PATIENCE", datetime.timedelta(minutes=1))
    tick(workplace)
    look(workplace)
    assert not tries(workplace, passed_over)


def times_failed(workplace, run):
    failed = workplace.instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE
    )
    return len(failed.records)


def test_what_dagster_never_tries_again_is_told_a_few_times(workplace, passed_over):
    """Its job may be gone; the run's log says so."""
    for _ in range(4):
        tick(workplace)
    assert times_failed(workplace, passed_over) == 3


def test_a_run_that_is_tried_again_by_itself_is_left_alone(workplace):
    run = run_of(workplace)
    workplace.instance.report_run_failed(run)
    look(workplace)
    assert len(tries(workplace, run)) == 1
    tick(workplace)
    assert times_failed(workplace, run) == 1


def test_a_run_that_a_person_tries_again_is_left_alone(workplace, passed_over):
    first = passed_over.run_id
    tags = {"dagster/parent_run_id": first, "dagster/root_run_id": first}
    create_run_for_test(workplace.instance, parent_run_id=first, root_run_id=first, tags=tags)
    tick(workplace)
    assert times_failed(workplace, passed_over) == 1
