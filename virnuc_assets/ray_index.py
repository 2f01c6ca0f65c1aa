"""Indexing on a Ray cluster: a task for each input file, on whichever machine has a CPU free.

Inputs and indexes lie on a disk that the machines share with this one. Where they share none, files
are indexed here. Nothing but what runs a task needs Ray.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virnuc_assets import __version__
from virnuc_assets.errors import InputError, RunnerError, StoreError, VirnucError, one_line
from virnuc_assets.runner.job import RayCluster
from virnuc_assets.sequences.manifest import IndexManifest, read_manifest

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

HERE = "this machine"
_LOOK_SECONDS = 0.5
_ENDING_SECONDS = 30.0
# A file that another machine wrote shows when this one's notes of the folder are out of date.
_SHOWING_SECONDS = 60.0
_ANSWER = "virnuc index: "
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Indexed:
    """An index that was made, and the machine it was made on."""

    manifest: IndexManifest
    where: str


@dataclass(frozen=True)
class _Refused:
    """Why there is none: a sentence, and whether the input is at fault."""

    message: str
    of_input: bool


Begin = Callable[[Path, Path, int], Callable[[], Indexed]]
"""Begins to index a file into a folder, in chunks of a length; what it returns waits for the index.

Waiting raises InputError and StoreError as `build_index` does, and RunnerError where it is the
cluster that failed.
"""


@contextmanager
def indexing(cluster: RayCluster | None) -> Iterator[Begin]:
    """Yield what begins to index a file: on the cluster at once, here only when it is waited for.

    What is not done when this is left is cancelled.

    Raises:
        RunnerError: the cluster cannot be used.
    """
    if cluster is None:
        yield _when_waited_for(HERE)
    elif cluster.exchange is not None:
        where = f"{HERE}, for the cluster's machines share no disk (VIRNUC_RAY_EXCHANGE)"
        _log.warning("files are indexed on %s", where)
        yield _when_waited_for(where)
    elif cluster.address.startswith(("http://", "https://")):
        # From outside a cluster only jobs can be submitted: one for each file, with a CPU each.
        with _jobs(cluster.address) as begin:
            yield begin
    else:
        with _tasks(cluster.address) as begin:
            yield begin


def _when_waited_for(where: str) -> Begin:
    def begin(fasta: Path, folder: Path, chunk_length: int) -> Callable[[], Indexed]:
        return partial(_index_here, where, fasta, folder, chunk_length)

    return begin


def _index_here(where: str, fasta: Path, folder: Path, chunk_length: int) -> Indexed:
    from virnuc_assets.sequences.index import build_index

    return Indexed(build_index(fasta, folder, chunk_length, tool_version=__version__), where)


@contextmanager
def _tasks(address: str) -> Iterator[Begin]:
    # First, for it says what to do where there is no Ray.
    from virnuc_assets.runner.ray_pool import connected

    import ray  # isort: skip

    tasks: list[Any] = []

    def begin(fasta: Path, folder: Path, chunk_length: int) -> Callable[[], Indexed]:
        paths = fasta.absolute(), folder.absolute()
        tasks.append(ray.remote(_index_there).remote(*paths, chunk_length, __version__))
        return partial(_outcome, partial(_answer_of_task, tasks[-1]), *paths)

    with connected(address):
        try:
            yield begin
        finally:
            _cancel(tasks)


def _cancel(tasks: list[Any]) -> None:
    import ray

    if not tasks:
        return
    # Of those alone that go on: Ray 2.60 ends this process where one that is done is cancelled.
    _, left = ray.wait(tasks, num_returns=len(tasks), timeout=0)
    for task in left:
        ray.cancel(task)
    ray.wait(tasks, num_returns=len(tasks), timeout=_ENDING_SECONDS)


def _index_there(fasta: Path, folder: Path, chunk_length: int, version: str) -> Indexed | _Refused:
    """Index a file on the machine of a task, or of a job."""
    import ray

    where = ray.util.get_node_ip_address()
    if version != __version__:
        return _Refused(
            f"{where}: has virnuc {__version__} and the run {version}; give every machine the same",
            of_input=False,
        )
    try:
        return _index_here(where, fasta, folder, chunk_length)
    except VirnucError as error:
        return _Refused(str(error), isinstance(error, InputError))


def _answer_of_task(task: object) -> Indexed | _Refused:
    import ray
    from ray.exceptions import RayError

    from virnuc_assets.runner.ray_pool import signals_heard

    try:
        while True:
            with signals_heard():
                done, _ = ray.wait([task], timeout=_LOOK_SECONDS)
            if done:
                answer: Indexed | _Refused = ray.get(task)
                return answer
    except RayError as error:
        raise _UnansweredError(str(error).strip().splitlines()[-1]) from error


class _UnansweredError(Exception):
    """A task that ended without an answer."""


def _outcome(answer_of: Callable[[], Indexed | _Refused], fasta: Path, folder: Path) -> Indexed:
    try:
        answer = answer_of()
    except _UnansweredError as error:
        raise RunnerError(
            f"{fasta}: could not be indexed on the Ray cluster ({error}); see its logs, and start "
            "again, or set VIRNUC_LAUNCHER=local"
        ) from error
    if isinstance(answer, _Refused):
        raise (InputError if answer.of_input else StoreError)(answer.message)
    _wait_for(folder, answer)
    return answer


def _wait_for(folder: Path, made: Indexed) -> None:
    until = time.monotonic() + _SHOWING_SECONDS
    while time.monotonic() < until:
        with suppress(StoreError):
            if read_manifest(folder) == made.manifest:
                return
        time.sleep(_LOOK_SECONDS)
    raise StoreError(
        f"{folder}: the index that {made.where} made does not show here; give the cluster's "
        "machines the same disk by the same path, or set VIRNUC_RAY_EXCHANGE"
    )


@contextmanager
def _jobs(address: str) -> Iterator[Begin]:
    from virnuc_assets.runner.ray_jobs import client_of, stop

    client = client_of(address)
    names: list[str] = []

    def begin(fasta: Path, folder: Path, chunk_length: int) -> Callable[[], Indexed]:
        paths = fasta.absolute(), folder.absolute()
        program = ("python", "-m", __name__, *map(str, paths), str(chunk_length), __version__)
        names.append(client.submit_job(entrypoint=shlex.join(program), entrypoint_num_cpus=1))
        return partial(_outcome, partial(_answer_of_job, client, names[-1]), *paths)

    try:
        yield begin
    finally:
        for name in names:
            stop(client, name, partial(_has_ended, client, name))


def _has_ended(client: JobSubmissionClient, name: str) -> bool:
    return bool(client.get_job_status(name).is_terminal())


def _answer_of_job(client: JobSubmissionClient, name: str) -> Indexed | _Refused:
    while not _has_ended(client, name):
        time.sleep(_LOOK_SECONDS)
    for line in client.get_job_logs(name).splitlines():
        if line.startswith(_ANSWER):
            said = json.loads(line.removeprefix(_ANSWER))
            if "manifest" not in said:
                return _Refused(**said)
            warnings = tuple(said["manifest"].pop("warnings"))
            return Indexed(IndexManifest(**said["manifest"], warnings=warnings), said["where"])
    raise _UnansweredError(f"its job {name}: {one_line(client.get_job_info(name).message)}")


def _main(fasta: str, folder: str, chunk_length: str, version: str) -> None:
    """Be the job: index a file, and say what came of it."""
    answer = _index_there(Path(fasta), Path(folder), int(chunk_length), version)
    sys.stdout.write(f"{_ANSWER}{json.dumps(asdict(answer))}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
