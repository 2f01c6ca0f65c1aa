"""A deployment with a workspace: the daemon's own loop and the webserver's own schema are calls."""

import logging
import sys
from contextlib import contextmanager

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.schema import create_schema

from virnuc_assets.backfill import launch, plan
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.dagster.stand_ins import FAILING, definitions

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
WORKED_AT = (BulkActionStatus.REQUESTED, BulkActionStatus.FAILING, BulkActionStatus.CANCELING)


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
        (backfill,) = launch(graph, self.instance, self.layout, found, priority)
        self.run_daemon()
        return self.instance.get_backfill(backfill)

    def fail_at(self, *keys):
        (self.layout.root / FAILING).write_text("\n".join(keys))


@contextmanager
def workplace_of(root, code, instance_settings=None):
    """A workplace in `root` whose code location is `code`; `{root!r}` in it is its store."""
    module = root / "code.py"
    module.write_text(code.format(root=str(root / "store")))
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, python_file=str(module)),
        location_name=LOCATION,
    )
    home = root / "dagster"
    home.mkdir()
    with (
        dg.instance_for_test(
            temp_dir=str(home), overrides={**SYNCHRONOUS, **(instance_settings or {})}
        ) as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as context,
    ):
        yield Workplace(root, instance, context)
