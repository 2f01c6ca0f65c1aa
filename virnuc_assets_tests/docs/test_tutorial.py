"""Every shell block of the tutorial works, in its order, in one shell."""

import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TUTORIAL = REPOSITORY / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
SECONDS = 900


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def end_session(leader):
    """Kill what is left of a session."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((process / "stat").read_text().rsplit(")", 1)[1].split()[3]) == leader:
                os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.platform
@pytest.mark.slow
def test_the_tutorial_works(tmp_path):
    """In a folder that looks like the repository, on a free port."""
    for name in (".venv", "dagster.yaml", "workspace.yaml", "virnuc_assets"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    # Signals as in a person's shell: where SIGINT is ignored, as in what is started with & without
    # job control, `dagster dev` takes no SIGTERM.
    script = "\n".join(["set -m", *BLOCK.findall(TUTORIAL.read_text())])
    assert "3000" in script
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("VIRNUC_", "DAGSTER_"))}
    bash = [shutil.which("bash"), "-euo", "pipefail", "-c", script.replace("3000", free_port())]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            bash,
            cwd=tmp_path,
            env=environ,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            code = process.wait(SECONDS)
        finally:
            end_session(process.pid)
    text = (tmp_path / "said").read_text()
    log = (tmp_path / "lab" / "dagster.log").read_text()
    assert code == 0, text + log[-3000:]
    assert re.search(r"^first +yes +8/8 +8/8 +yes", text, re.MULTILINE)
    assert "Modified_ID\tIs_Virus" in text
    assert "view of a sample's embeddings, whole" in text
    assert "Dagster services shut down." in log
