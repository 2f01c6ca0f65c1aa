"""The recipe for Slurm, with programs in Slurm's place that run everything on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from virnuc_assets_tests.ray_cluster.conftest import ENVIRONMENT, REPOSITORY, until

RECIPE = REPOSITORY / "deploy" / "slurm" / "ray.sbatch"
SCONTROL = "#!/bin/sh\nprintf '127.0.0.1\\n127.0.0.1\\n'\n"
# Options, the node's name last among them, come before the program.
SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
echo "srun: $*"
exec "$@"
"""


def test_the_recipe_is_well_formed_and_wants_a_command():
    subprocess.run(["bash", "-n", RECIPE], check=True)
    done = subprocess.run(["bash", RECIPE], capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "virnuc COMMAND" in done.stderr


def test_a_head_that_does_not_start_ends_the_job(tmp_path):
    for name, text in (("scontrol", SCONTROL), ("srun", "#!/bin/sh\nexit 1\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "ray").symlink_to(tmp_path / "srun")
    done = subprocess.run(
        ["bash", RECIPE, "virnuc", "doctor"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_GPUS_ON_NODE": "1",
            "SLURM_CPUS_ON_NODE": "1",
            "SLURM_JOB_NODELIST": "any",
            "SLURM_JOB_ID": "7",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "error: Ray did not start on 127.0.0.1" in done.stderr


@pytest.mark.platform
@pytest.mark.slow
def test_the_recipe_starts_a_cluster_runs_the_command_on_it_and_leaves_nothing(tmp_path):
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    fasta = tmp_path / "proteins.fa"
    fasta.write_text("".join(f">p{i}\n{'ACDEFGHIKL' * (i % 5 + 1)}\n" for i in range(40)))
    done = subprocess.run(
        ["bash", RECIPE, "virnuc", "embed", fasta, "-o", tmp_path / "out.h5", "--encoder", "esm2"],
        env={
            **os.environ,
            **ENVIRONMENT,
            "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SLURM_GPUS_ON_NODE": "1",
            "SLURM_CPUS_ON_NODE": "1",
            "SLURM_JOB_NODELIST": str(tmp_path),
            "SLURM_JOB_ID": str(os.getpid()),
            "VIRNUC_GPUS": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("srun: ray start") == 2
    assert "ray/cpu/0, ray/cpu/1" in done.stderr
    assert (tmp_path / "out.h5").exists()
    until("nothing of the cluster is left", lambda: not started_with(tmp_path))


def started_with(folder):
    """Processes whose environment names `folder` as the job's nodes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"SLURM_JOB_NODELIST={folder}".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found
