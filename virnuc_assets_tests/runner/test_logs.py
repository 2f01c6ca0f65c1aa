"""Where workers log to."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from virnuc_assets.runner import client
from virnuc_assets.runner.events import ShardDone
from virnuc_assets.runner.logs import Logs

WORKER = """
import logging, os, sys
from pathlib import Path
from virnuc_assets.runner.logs import Logs

Logs(logging.WARNING, Path(sys.argv[1]) if len(sys.argv) > 1 else None).begin("GPU-1/2")
logging.getLogger("virnuc").info("loaded")
logging.getLogger("virnuc").warning("overflow")
print("from Python", file=sys.stderr, flush=True)
os.write(2, b"from a library\\n")
"""


def told(*arguments):
    """What a worker's process writes to standard error, times left out."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return without_times(done.stderr)


def without_times(text):
    return [line.split(",", 1)[-1][4:] if line[:2] == "20" else line for line in text.splitlines()]


def test_without_a_folder_all_goes_to_standard_error():
    assert told() == ["virnuc: overflow", "from Python", "from a library"]


def test_a_worker_has_a_file_for_all_and_tells_warnings(tmp_path):
    assert told(tmp_path / "logs") == ["virnuc: overflow"]
    file = Logs(logging.WARNING, tmp_path / "logs").file("GPU-1/2")
    assert file == tmp_path / "logs" / "worker-GPU-1_2.log"
    everything = ["virnuc: loaded", "virnuc: overflow", "from Python", "from a library"]
    assert without_times(file.read_text()) == everything
    told(tmp_path / "logs")  # started again
    assert without_times(file.read_text()) == 2 * everything


def test_a_folder_that_cannot_be_written_is_told_and_ends_nothing(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    warning, *rest = told(tmp_path / "logs")
    assert "logs/worker-GPU-1_2.log: cannot be written (File exists)" in warning
    assert rest == ["virnuc: overflow", "from Python", "from a library"]


SEVERAL_JOBS = """
import logging, os, sys
from pathlib import Path
from virnuc_assets.runner.logs import Logs

for folder in sys.argv[1:]:
    Logs(logging.WARNING, Path(folder)).begin("cpu")
    logging.getLogger("virnuc").info("read for %s", Path(folder).name)
    logging.getLogger("virnuc").warning("overflow in %s", Path(folder).name)
    os.write(2, b"from a library\\n")
"""


def test_a_worker_of_several_jobs_logs_to_each_ones_folder(tmp_path):
    (tmp_path / "file").write_text("in the way")
    folders = [tmp_path / "one", tmp_path / "file", tmp_path / "two"]
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL_JOBS, *map(str, folders)],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    first, not_written, *rest = without_times(done.stderr)
    assert first == "virnuc: overflow in one"
    assert "file/worker-cpu.log: cannot be written" in not_written
    assert rest == ["virnuc: overflow in file", "from a library", "virnuc: overflow in two"]
    for name in ("one", "two"):
        file = Logs(logging.WARNING, tmp_path / name).file("cpu")
        assert without_times(file.read_text()) == [
            f"virnuc: read for {name}",
            f"virnuc: overflow in {name}",
            "from a library",
        ]


@pytest.mark.slow
def test_a_run_names_its_logs_and_those_of_the_run_before_are_gone(make_job):
    job = make_job()
    logs = Path(job.output) / "logs"
    logs.mkdir(parents=True)
    (logs / "worker-9.log").write_text("of an earlier run")
    shards = [event for event in client.stream(job) if isinstance(event, ShardDone)]
    assert {shard.metadata["logs"] for shard in shards} == {str(logs)}
    assert [path.name for path in logs.iterdir()] == ["worker-cpu.log"]
    again = [event for event in client.stream(job) if isinstance(event, ShardDone)]
    assert all("logs" not in shard.metadata for shard in again)
