"""One small job, its result when nothing happens to it, and a folder for harm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virnuc_assets_tests.faults.jobs import contents, make_job, run_undisturbed

TWO = ("cpu", "cpu:1")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A job on one device and the files it leaves when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = make_job(folder, "esm2", 360, seed=0)
    run_undisturbed(folder, job)
    return job, contents(job)


@pytest.fixture
def again(undisturbed, tmp_path):
    """The same job with another output, on two devices unless changed."""

    def again(devices=TWO, **changes):
        job, _ = undisturbed
        encoding = replace(job.encoding, devices=devices)
        return replace(job, **{"output": str(tmp_path / "output"), "encoding": encoding, **changes})

    return again
