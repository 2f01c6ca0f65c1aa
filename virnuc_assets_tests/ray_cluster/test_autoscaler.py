"""Ray's own autoscaler on this machine: nodes are started when workers wait, and none is kept.

Its nodes are Ray's fake ones, processes of this machine; what asks for them and what ends them is
what does so in a cloud.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess

import pytest

from virnuc_assets.runner.events import Failed
from virnuc_assets_tests.faults.jobs import BLOCKS_OF_A_SHARD, SHARDS, contents
from virnuc_assets_tests.ray_cluster.conftest import Run, asked, ray_folder, until
from virnuc_assets_tests.ray_cluster.slowly import computed

pytestmark = [pytest.mark.platform, pytest.mark.slow]

MOST_NODES = 2
MEMORY = 80 * 2**20


class Autoscaled:
    """A head without devices whose autoscaler starts nodes of one GPU that is not there."""

    def __init__(self, folder):
        from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG

        self.journals = folder / "journals"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        node = {"CPU": 1, "GPU": 1, "object_store_memory": MEMORY}
        settings = {
            **BASE_READONLY_CONFIG,
            "cluster_name": "fake",
            "provider": {
                "type": "fake_multinode",
                "gcs_address": self.address,
                # All have this machine's address, and nothing is to be installed on them.
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "gpu": {
                    "resources": node,
                    "node_config": {},
                    "min_workers": 0,
                    "max_workers": MOST_NODES,
                },
            },
            "max_workers": MOST_NODES,
            "idle_timeout_minutes": 0.1,
            "upscaling_speed": 10,
        }
        (folder / "autoscaler.json").write_text(json.dumps(settings))
        subprocess.run(
            [
                *("ray", "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}"),
                *("--num-cpus=0", f"--object-store-memory={MEMORY}", f"--temp-dir={folder}"),
                *("--include-dashboard=false", f"--autoscaling-config={folder}/autoscaler.json"),
            ],
            env={**os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"},
            check=True,
        )

    def gpus(self):
        """GPUs of all nodes there are."""
        return asked(self.address, "ray.cluster_resources().get('GPU', 0)")


@pytest.fixture(scope="module")
def nodes():
    with ray_folder() as folder:
        yield Autoscaled(folder)


def test_nodes_come_when_workers_wait_and_go_when_they_are_idle(on_ray, nodes, local, tmp_path):
    assert nodes.gpus() == 0
    job = on_ray(workers=MOST_NODES)
    run = Run(tmp_path / "run", job)
    until("a node comes", nodes.gpus)
    run.follow()
    assert run.wait() == 0, run.log.read_text()
    assert [event for event in run.said if isinstance(event, Failed)] == []
    assert contents(job) == local[1]
    assert len(list(nodes.journals.iterdir())) == MOST_NODES, "every node did something"
    assert len(computed(nodes.journals)) == SHARDS * BLOCKS_OF_A_SHARD
    until("no node is left", lambda: nodes.gpus() == 0)
