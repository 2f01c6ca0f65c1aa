"""A run whose process was ended from outside is started once more, and goes on to the report."""

import os
import signal
from contextlib import suppress

import pytest

from virnuc_assets_tests.dagster.deployment import FASTA
from virnuc_assets_tests.dagster.platform import REPOSITORY, Platform
from virnuc_assets_tests.dagster.test_ended_runs import quick

pytestmark = [pytest.mark.slow, pytest.mark.platform]


@pytest.fixture
def platform(tmp_path):
    platform = Platform(tmp_path, quick(REPOSITORY / "dagster.yaml"))
    platform.start()
    yield platform
    platform.stop()


def run_workers(platform):
    """Process ids of runs that embed: the parents of the runners."""
    found = []
    for process in platform.processes():
        with suppress(OSError):
            if b"virnuc_assets.runner" in (process / "cmdline").read_bytes():
                found.append(int((process / "stat").read_text().rsplit(")", 1)[1].split()[1]))
    return found


def test_a_run_that_is_killed_is_started_once_more(platform):
    platform.layout.inbox.mkdir(exist_ok=True)
    (platform.layout.inbox / "s.fa").write_text(FASTA)
    platform.until("the embedding is under way", lambda: run_workers(platform))
    os.kill(run_workers(platform)[0], signal.SIGKILL)
    platform.until("a report on the sample", lambda: platform.has_report("s"))
    tags = {run["runId"]: {t["key"]: t["value"] for t in run["tags"]} for run in platform.runs()}
    (failed,) = [run["runId"] for run in platform.runs() if run["status"] == "FAILURE"]
    retries = [of for of in tags.values() if "dagster/retry_number" in of]
    assert [of["dagster/parent_run_id"] for of in retries] == [failed]
