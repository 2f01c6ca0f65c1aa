"""Dagster on Kubernetes, without a cluster: what is asked of its API, by Dagster's own launcher.

Real: the instance's settings of `deploy/k8s/values.yaml`, the coordinator, the run launcher, and
the Jobs that it posts. In the place of the chart's templates stand `instance_config` and
`container_context`; in the place of a cluster, a server that writes down what it is sent.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from virnuc_assets.backfill import launch, plan
from virnuc_assets.definitions import defs
from virnuc_assets.partitions import N_SHARDS
from virnuc_assets.pool_tags import PoolTagsRunCoordinator
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout

pytestmark = pytest.mark.platform

REPOSITORY = Path(__file__).parents[2]
VALUES = yaml.safe_load((REPOSITORY / "deploy" / "k8s" / "values.yaml").read_text())
(CODE,) = VALUES["dagster-user-deployments"]["deployments"]
NAMESPACE = "lab"
GPU = "nvidia.com/gpu"


def image(of):
    return f"{of['image']['repository']}:{of['image']['tag']}"


def container_context(deployment):
    """What the chart's `dagsterUserDeployments.k8sContainerContext` makes of a deployment."""
    return {
        "k8s": {
            "image_pull_policy": deployment["image"]["pullPolicy"],
            "env_config_maps": [f"virnuc-dagster-user-deployments-{deployment['name']}-user-env"],
            "volume_mounts": deployment["volumeMounts"],
            "volumes": deployment["volumes"],
            "resources": deployment["resources"],
            "namespace": NAMESPACE,
            "service_account_name": "virnuc-dagster-user-deployments-user-deployments",
            "env": deployment["env"],
            "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
        }
    }


def instance_config(kubeconfig):
    """The chart's ConfigMap `dagster.yaml`, but for the storage; `kubeconfig` is the tests' own."""
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    return {
        "run_launcher": {
            "module": "dagster_k8s",
            "class": "K8sRunLauncher",
            "config": {
                "load_incluster_config": False,
                "kubeconfig_file": str(kubeconfig),
                "job_namespace": NAMESPACE,
                "image_pull_policy": launcher["imagePullPolicy"],
                "service_account_name": "virnuc-dagster",
                "dagster_home": "/opt/dagster/dagster_home",
                "instance_config_map": "virnuc-dagster-instance",
                "postgres_password_secret": "dagster-postgresql-secret",
                "run_k8s_config": {
                    "pod_spec_config": launcher["runK8sConfig"]["podSpecConfig"],
                },
            },
        },
        "telemetry": VALUES["telemetry"],
        **VALUES["additionalInstanceConfig"],
    }


@contextmanager
def kubernetes_api(folder):
    """A server that keeps what it is sent, and the kubeconfig that leads to it."""
    sent = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append((self.path, json.loads(body)))
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    kubeconfig = folder / "kubeconfig"
    here = {"name": "here"}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "clusters": [{**here, "cluster": {"server": url}}],
                "users": [{**here, "user": {}}],
                "contexts": [{**here, "context": {"cluster": "here", "user": "here"}}],
                "current-context": "here",
            }
        )
    )
    try:
        yield kubeconfig, sent
    finally:
        server.shutdown()
        server.server_close()


class Cluster:
    """An instance of the deployment's settings, and the Jobs that its launcher asked for."""

    def __init__(self, instance, sent):
        self.instance = instance
        self.sent = sent

    def jobs(self):
        """All Jobs, checked against Kubernetes' own schema."""
        import kubernetes_validate

        found = []
        for path, manifest in self.sent:
            assert path == f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
            kubernetes_validate.validate(manifest, "1.33", strict=True)
            found.append(manifest)
        return found

    def launch(self, job, partition, tags=None, config=None):
        """The Job of a run of one partition, which went through the coordinator."""
        definition = defs.resolve_job_def(job)
        repository = RepositoryPythonOrigin(
            executable_path=sys.executable,
            code_pointer=ModuleCodePointer("virnuc_assets.definitions", "defs"),
            container_image=image(CODE),
            entry_point=["dagster"],
            container_context=container_context(CODE),
        )
        dimensions = dict(zip(("sample", "shard"), partition.split("|"), strict=False))
        run = self.instance.create_run_for_job(
            definition,
            run_config=config,
            tags={f"dagster/partition/{name}": key for name, key in dimensions.items()}
            | (tags or {}),
            job_code_origin=JobPythonOrigin(job, repository),
            remote_job_origin=RemoteJobOrigin(
                RemoteRepositoryOrigin(
                    GrpcServerCodeLocationOrigin(
                        host=CODE["name"], port=CODE["port"], location_name=CODE["name"]
                    ),
                    "__repository__",
                ),
                job,
            ),
        )
        coordinator = self.instance.run_coordinator
        assert isinstance(coordinator, PoolTagsRunCoordinator)
        queued = coordinator.submit_run(SubmitRunContext(run, workspace=None))
        assert queued.status == dg.DagsterRunStatus.QUEUED
        self.instance.launch_run(run.run_id, workspace=None)
        return self.jobs()[-1]


@contextmanager
def new_cluster(folder):
    pytest.importorskip("dagster_k8s", reason="pip install '.[kubernetes]' brings it")
    pytest.importorskip("kubernetes_validate", reason="pip install '.[platform]' brings it")
    with (
        kubernetes_api(folder) as (kubeconfig, sent),
        dg.instance_for_test(
            temp_dir=str(folder), overrides=instance_config(kubeconfig)
        ) as instance,
    ):
        yield Cluster(instance, sent)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with new_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster_of_its_own(tmp_path):
    with new_cluster(tmp_path) as cluster:
        yield cluster


def container(job):
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return found


def environment(job):
    return {one["name"]: one.get("value") for one in container(job)["env"]}


def gpus(job):
    return container(job).get("resources", {}).get("limits", {}).get(GPU)


def test_an_embedding_run_of_a_shard_is_a_pod_with_one_gpu(cluster):
    job = cluster.launch("embed_samples", "a|0")
    assert gpus(job) == "1"
    # The pod's own requests replace those of other runs.
    assert container(job)["resources"]["requests"] == {"cpu": "4", "memory": "24Gi"}
    pod = job["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["terminationGracePeriodSeconds"] == 60
    assert environment(job)["VIRNUC_GPUS"] == "cuda"


def test_training_a_head_takes_a_gpu_too(cluster):
    config = {"classifier_head": {"config": {"name": "own", "manifest": "own.tsv"}}}
    assert gpus(cluster.launch("train_head", "", config={"ops": config})) == "1"


@pytest.mark.parametrize("name", ["index_samples", "predict_samples"])
def test_other_runs_take_no_gpu(cluster, name):
    job = cluster.launch(name, "a")
    assert gpus(job) is None
    assert container(job)["resources"] == {"requests": {"cpu": "2", "memory": "8Gi"}}
    assert "tolerations" not in job["spec"]["template"]["spec"]
    assert "VIRNUC_GPUS" not in environment(job)


@pytest.mark.parametrize("name", ["index_samples", "embed_samples"])
def test_every_run_has_the_code_servers_image_settings_and_store(cluster, name):
    job = cluster.launch(name, "a|0")
    assert container(job)["image"] == image(CODE)
    assert environment(job)["VIRNUC_STORE"] == "/virnuc"
    assert environment(job)["VIRNUC_RUN_PER"] == "shard"
    (mount,) = container(job)["volumeMounts"]
    (volume,) = job["spec"]["template"]["spec"]["volumes"]
    assert (mount["mountPath"], mount["name"]) == ("/virnuc", volume["name"])
    assert volume["persistentVolumeClaim"]["claimName"] == "virnuc"


def test_a_person_may_ask_for_more(cluster):
    wanted = {"container_config": {"resources": {"limits": {GPU: "4"}}}}
    job = cluster.launch("embed_samples", "a|0", {"dagster-k8s/config": json.dumps(wanted)})
    assert gpus(job) == "4"


def test_the_pool_has_as_many_slots_as_there_are_gpus(cluster):
    config = cluster.instance.get_concurrency_config()
    assert config.pool_config.default_pool_limit == 8
    assert config.pool_config.pool_granularity.value == "run"
    assert config.run_queue_config.max_concurrent_runs >= 8


def test_all_that_submits_runs_has_our_image():
    assert {image(VALUES[part]) for part in ("dagsterWebserver", "dagsterDaemon")} == {image(CODE)}


def test_commands_in_the_daemons_pod_find_the_store():
    daemon = VALUES["dagsterDaemon"]
    for key in ("env", "volumes", "volumeMounts"):
        assert daemon[key] == CODE[key]


def test_the_instance_differs_from_the_repositorys_in_what_it_is_for_alone():
    own = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    variant = {**VALUES["additionalInstanceConfig"], "telemetry": VALUES["telemetry"]}
    # Written by the chart.
    assert set(own) - set(variant) == {"storage", "local_artifact_storage", "compute_logs"}
    assert set(variant) <= set(own)
    different = {key for key in variant if own[key] != variant[key]}
    assert different == {"concurrency", "run_monitoring", "run_coordinator"}


@pytest.mark.parametrize(
    ("run_per", "runs"),
    [("sample", "single_run"), ("shard", "None"), ("pod", "VIRNUC_RUN_PER=pod: is not a unit")],
)
def test_what_a_run_embeds_is_a_setting(run_per, runs):
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from virnuc_assets.partitions import EMBEDDING_RUNS; print(EMBEDDING_RUNS)",
        ],
        env={**os.environ, "VIRNUC_RUN_PER": run_per},
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert runs in done.stdout + done.stderr


@pytest.mark.slow
def test_a_backfill_of_samples_is_a_pod_for_each_shard(cluster_of_its_own, monkeypatch):
    """By a code server with the chart's environment, and the daemon's own loops."""
    for one in CODE["env"]:
        monkeypatch.setenv(one["name"], one["value"])
    monkeypatch.setenv("DAGSTER_CURRENT_IMAGE", image(CODE))
    monkeypatch.setenv(
        "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT", json.dumps(container_context(CODE))
    )
    instance = cluster_of_its_own.instance
    names = ["a", "b"]
    instance.add_dynamic_partitions("sample", names)
    graph = defs.resolve_asset_graph()
    embeddings = {
        key: keys
        for key, keys in plan(graph, instance, names, "all").items()
        if key.path[-1].endswith("embeddings")
    }
    (module,) = CODE["codeServerArgs"][1:]
    target = ModuleTarget(module, attribute=None, working_directory=None, location_name=None)
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
    with WorkspaceProcessContext(instance, target) as context, daemon:
        launch(graph, instance, Layout(from_environment().store), embeddings, 0)
        logger = dg.get_dagster_logger()
        assert not [error for error in execute_backfill_iteration(context, logger) if error]
        queued = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
        partitions = sorted(run.tags["dagster/partition"] for run in queued)
        assert partitions == [f"{name}|{shard}" for name in names for shard in range(N_SHARDS)]
        assert {len(run.asset_selection) for run in queued} == {2}

        # As many as there are GPUs, whichever samples they are of.
        assert not [error for error in daemon.run_iteration(context) if error]
    jobs = cluster_of_its_own.jobs()
    most = VALUES["additionalInstanceConfig"]["concurrency"]["pools"]["default_limit"]
    assert [gpus(job) for job in jobs] == ["1"] * min(most, len(queued))
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
    samples = [run.tags["dagster/partition/sample"] for run in started]
    assert len(samples) > len(set(samples))
    assert {container(job)["image"] for job in jobs} == {image(CODE)}
