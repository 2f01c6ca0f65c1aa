"""`virnuc` as a real process, and the files it is given."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from virnuc_assets_tests.cli.process import COMMAND, environment

REPOSITORY = Path(__file__).parents[2]
Virnuc = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_virnuc() -> Virnuc:
    """Run `virnuc` with arguments in folder `cwd`, settings given by keyword."""

    def run(*arguments: object, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def virnuc(run_virnuc, tmp_path) -> Virnuc:
    """`run_virnuc` in the test's own folder."""

    def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return run_virnuc(*arguments, cwd=tmp_path, **settings)

    return run


@pytest.fixture
def refused(virnuc) -> Callable[..., str]:
    """Run `virnuc`, which must fail with one sentence; returns the sentence."""

    def run(*arguments: object, **settings: str) -> str:
        done = virnuc(*arguments, **settings)
        assert done.returncode == 1
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        *progress, last = done.stderr.splitlines()
        assert not [line for line in progress if line.startswith("error:")]
        assert last.startswith("error: ")
        return last.removeprefix("error: ")

    return run


@pytest.fixture
def dagster_home(tmp_path) -> str:
    """A deployment of one's own: the project's dagster.yaml in a folder."""
    home = tmp_path / "platform"
    home.mkdir()
    (home / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    return str(home)


@pytest.fixture
def dna(tmp_path) -> Path:
    """Two short DNA records."""
    path = tmp_path / "dna.fa"
    path.write_text(">a first\nATGGCTAAAGGTGCTGCTCGTAAACGT\n>b\nATGCGTGGTGCTGCTGGTCGTGCTAAA\n")
    return path
