"""A code server of its own serves the definitions, and runs have its environment."""

import json
import os
import signal
import socket
import subprocess
from contextlib import suppress

import pytest

from virnuc_assets_tests import untrained
from virnuc_assets_tests.dagster.deployment import FASTA
from virnuc_assets_tests.dagster.platform import DAGSTER, REPOSITORY, Platform

pytestmark = [pytest.mark.slow, pytest.mark.platform]

PORT = "4266"
ASSETS = "{ assetNodes { assetKey { path } repository { location { name } } } }"


@pytest.fixture
def platform(tmp_path):
    """Webserver and daemon that know no models, and a code server that does."""
    platform = Platform(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workspace = (REPOSITORY / "deploy" / "grpc_server" / "workspace.yaml").read_text()
    assert f"port: {PORT}" in workspace
    (tmp_path / "workspace.yaml").write_text(workspace.replace(PORT, port))
    models = untrained.settings()
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [
                *(DAGSTER, "code-server", "start", "-m", "virnuc_assets.definitions"),
                *("--location-name", "virnuc_assets", "-p", port),
            ],
            cwd=tmp_path,
            env=platform.environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    platform.environ = {k: v for k, v in platform.environ.items() if k not in models}
    try:
        # Started together with the server, `dagster dev` was seen to wait for ever.
        log = tmp_path / "server.log"
        (tmp_path / "dev.log").touch()
        platform.until(
            "the code server is up", lambda: "Started Dagster code proxy" in log.read_text()
        )
        platform.start()
        try:
            yield platform
        finally:
            platform.stop()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def test_a_sample_goes_to_its_report_in_the_code_servers_environment(platform):
    def is_served():
        nodes = platform.query(ASSETS)["assetNodes"]
        where = {node["repository"]["location"]["name"] for node in nodes}
        return where == {"virnuc_assets"}

    platform.until("the definitions are served", is_served)
    platform.layout.inbox.mkdir(exist_ok=True)
    (platform.layout.inbox / "s.fa").write_text(FASTA)
    platform.until("a report on the sample", lambda: platform.has_report("s"))
    platform.until("all runs end", platform.all_runs_succeeded)
    results = platform.layout.predictions("s") / "results.json"
    assert json.loads(results.read_text())["model"] == untrained.LABEL
