"""Backfills of samples: as `virnuc backfill` plans them, as the UI asks for them, and what is left.

The daemon's own loop and the webserver's own schema, in this process, on assets that take no time.
"""

import logging
import sys

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.schema import create_schema

from virnuc_assets.backfill import PRIORITY_TAG, launch, plan
from virnuc_assets.partitions import N_SHARDS, sample_of
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.dagster.stand_ins import CHAIN, FAILING, definitions, partitions
from virnuc_assets_tests.dagster.test_daemon import GO_ON, LAUNCH

pytestmark = pytest.mark.platform

LOCATION = "virnuc_assets"
SYNCHRONOUS = {
    "run_coordinator": {
        "module": "dagster._core.run_coordinator",
        "class": "DefaultRunCoordinator",
    },
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
}
CODE = """
from virnuc_assets_tests.dagster.stand_ins import definitions
defs = definitions({root!r})
"""


class Workplace(Deployment):
    """A deployment with a workspace, whose daemon and webserver are calls."""

    def __init__(self, root, instance, context):
        super().__init__(root, instance)
        self.context = context
        self.defs = definitions(self.layout.root)
        self.schema = create_schema()

    def query(self, text, **variables):
        answer = self.schema.execute(
            text, context_value=self.context.create_request_context(), variables=variables
        )
        assert not answer.errors, answer.errors
        return answer.data

    def run_daemon(self):
        """Let the backfill daemon do all there is to do."""
        logger = logging.getLogger("backfills")
        for _ in range(50):
            errors = [e for e in execute_backfill_iteration(self.context, logger) if e]
            assert not errors, errors
            if all(b.status not in WORKED_AT for b in self.instance.get_backfills()):
                return
        pytest.fail("the backfill never ended")

    def plan(self, names, which):
        return plan(self.defs.resolve_asset_graph(), self.instance, names, which)

    def backfill(self, names, which="all", priority=0):
        found = self.plan(names, which)
        graph = self.defs.resolve_asset_graph()
        (backfill,) = launch(graph, self.instance, found, priority)
        self.run_daemon()
        return self.instance.get_backfill(backfill)

    def fail_at(self, *keys):
        (self.layout.root / FAILING).write_text("\n".join(keys))


WORKED_AT = (BulkActionStatus.REQUESTED, BulkActionStatus.FAILING, BulkActionStatus.CANCELING)


@pytest.fixture
def workplace(tmp_path):
    code = tmp_path / "code.py"
    code.write_text(CODE.format(root=str(tmp_path / "store")))
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, python_file=str(code)),
        location_name=LOCATION,
    )
    home = tmp_path / "dagster"
    home.mkdir()
    with (
        dg.instance_for_test(temp_dir=str(home), overrides=SYNCHRONOUS) as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as context,
    ):
        yield Workplace(tmp_path, instance, context)


def whole(*names):
    return {
        dg.AssetKey(asset): [one for name in names for one in partitions(asset, name)]
        for asset in CHAIN
    }


def test_a_whole_sample_is_one_run_a_step(workplace):
    for name in ("s", "t"):
        workplace.add(name)
    assert workplace.plan(["s", "t"], "all") == whole("s", "t")
    backfill = workplace.backfill(["s", "t"], priority=7)
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS
    runs = workplace.instance.get_runs()
    assert all(run.status == dg.DagsterRunStatus.SUCCESS for run in runs)
    assert all(run.tags[PRIORITY_TAG] == "7" for run in runs)
    steps = sorted(sorted(key.to_user_string() for key in run.asset_selection) for run in runs)
    assert steps == 2 * [["dnabert_s_embeddings", "esm2_embeddings"]] \
        + 2 * [["predictions", "sample_report"]] + 2 * [["sequence_index"]]  # fmt: skip
    assert all(workplace.materialised(asset) == set(keys) for asset, keys in (
        (asset, partitions(asset, "s") + partitions(asset, "t")) for asset in CHAIN
    ))  # fmt: skip


def test_what_is_missing_is_planned_with_what_follows(workplace):
    for name in ("done", "indexed", "partly", "new"):
        workplace.add(name)
    workplace.backfill(["done"])
    for name in ("indexed", "partly"):
        workplace.index(name)
    workplace.embed("partly", last=0)
    found = workplace.plan(["done", "indexed", "partly", "new"], "missing")
    assert {
        asset.to_user_string(): [key for key in keys if sample_of(key) == "partly"]
        for asset, keys in found.items()
    } == {
        "sequence_index": [],
        "esm2_embeddings": partitions("esm2_embeddings", "partly")[1:],
        "dnabert_s_embeddings": partitions("dnabert_s_embeddings", "partly")[1:],
        "predictions": ["partly"],
        "sample_report": ["partly"],
    }
    assert found[dg.AssetKey("sequence_index")] == ["new"]
    assert found[dg.AssetKey("sample_report")] == ["indexed", "partly", "new"]
    workplace.backfill(["done", "indexed", "partly", "new"], "missing")
    assert workplace.plan(["done", "indexed", "partly", "new"], "missing") == {}


def test_a_backfill_holds_no_more_samples_than_there_are_shards(workplace):
    """Dagster would embed more samples a shard of each at a time."""
    names = [f"s{number}" for number in range(2 * N_SHARDS + 1)]
    for name in names:
        workplace.add(name)
    graph = workplace.defs.resolve_asset_graph()
    ids = launch(graph, workplace.instance, workplace.plan(names, "all"), 0)
    targets = [workplace.instance.get_backfill(one).title.split(", ") for one in ids]
    assert [len(target) for target in targets] == [N_SHARDS, N_SHARDS, 1]
    assert sorted(name for target in targets for name in target) == names


def test_only_what_failed_and_what_follows_is_done_again(workplace):
    for name in ("good", "bad", "untried"):
        workplace.add(name)
    workplace.fail_at("bad|1")
    assert workplace.backfill(["good", "bad"]).status == BulkActionStatus.COMPLETED_FAILED
    assert workplace.materialised("sample_report") == {"good"}
    assert workplace.materialised("sequence_index") == {"good", "bad"}

    names = ["good", "bad", "untried"]
    found = workplace.plan(names, "failed")
    assert {sample_of(key) for keys in found.values() for key in keys} == {"bad"}
    assert dg.AssetKey("sequence_index") not in found
    assert found[dg.AssetKey("predictions")] == ["bad"]
    workplace.fail_at()
    again = workplace.backfill(names, "failed")
    assert again.status == BulkActionStatus.COMPLETED_SUCCESS
    assert workplace.materialised("sample_report") == {"good", "bad"}
    assert workplace.plan(names, "failed") == {}


def test_the_ui_backfills_hundreds_of_samples_and_then_what_failed(workplace):
    """`launchPartitionBackfill` as the UI's "Materialize all" sends it, and "Re-execute failed"."""
    names = [f"s{number:03d}" for number in range(5)]
    for name in names:
        workplace.add(name)
    workplace.fail_at("s001", "s003|0")
    parameters = {
        "assetSelection": [{"path": [asset]} for asset in CHAIN],
        "partitionNames": names,
        "tags": [{"key": "dagster/from_ui", "value": "true"}],
        "fromFailure": False,
    }
    answer = workplace.query(LAUNCH, parameters=parameters)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    workplace.run_daemon()
    assert workplace.materialised("sample_report") == {"s000", "s002", "s004"}
    workplace.fail_at()
    answer = workplace.query(GO_ON, id=answer["backfillId"])["reexecutePartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    before = {run.run_id for run in workplace.instance.get_runs()}
    workplace.run_daemon()
    assert workplace.materialised("sample_report") == set(names)
    again = [run for run in workplace.instance.get_runs() if run.run_id not in before]
    assert again and all("s000" not in str(run.tags) for run in again)
