"""Indexing on a Ray cluster: a task for each input file, on whichever machine has a CPU free.

Inputs and indexes lie on a disk that the machines share with this one. Where they share none, files
are indexed here. Nothing but what runs a task needs Ray.
"""

from __future__ import annotations

import json
import logging
import shlex
import signal
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
_ENDING_SECONDS = 30
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
    missing_on: str | None = None
    """The machine where the input was looked for and is not."""


Begin = Callable[[Path, Path, int], Callable[[], Indexed]]
"""Begins to index a file into a folder, in chunks of a length; what it returns waits for the index.

Waiting raises InputError and StoreError as `build_index` does, and RunnerError where it is the
cluster that failed.
"""

_Ask = Callable[[Path, Path, int, str], "Callable[[], Indexed | _Refused]"]
"""Asks the cluster to index a file by a version of ours; what it returns waits for the answer."""


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
    else:
        # From outside a cluster only jobs can be submitted: one for each file.
        outside = cluster.address.startswith(("http://", "https://"))
        with (_jobs if outside else _tasks)(cluster.address) as ask:
            yield partial(_begin, ask)


def _when_waited_for(where: str) -> Begin:
    def begin(fasta: Path, folder: Path, chunk_length: int) -> Callable[[], Indexed]:
        return partial(_index_here, where, fasta, folder, chunk_length)

    return begin


def _index_here(
    where: str, fasta: Path, folder: Path, chunk_length: int, threads: int | None = None
) -> Indexed:
    from virnuc_assets.sequences.index import build_index

    manifest = build_index(fasta, folder, chunk_length, tool_version=__version__, threads=threads)
    return Indexed(manifest, where)


def _begin(ask: _Ask, fasta: Path, folder: Path, chunk_length: int) -> Callable[[], Indexed]:
    paths = fasta.absolute(), folder.absolute()
    with _explained(fasta):
        return partial(_outcome, ask(*paths, chunk_length, __version__), *paths)


@contextmanager
def _tasks(address: str) -> Iterator[_Ask]:
    # First, for it says what to do where there is no Ray.
    from virnuc_assets.runner.ray_pool import connected

    import ray  # isort: skip

    tasks: list[Any] = []

    def ask(
        fasta: Path, folder: Path, chunk_length: int, version: str
    ) -> Callable[[], Indexed | _Refused]:
        tasks.append(ray.remote(_index_there).remote(fasta, folder, chunk_length, version))
        return partial(_answer_of_task, tasks[-1])

    with connected(address):
        try:
            yield ask
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
    """Index a file on the machine of a task, with the one CPU that it has."""
    import ray

    where = ray.util.get_node_ip_address()
    if version != __version__:
        return _Refused(
            f"{where}: has virnuc {__version__} and the run {version}; give every machine the same",
            of_input=False,
        )
    try:
        return _index_here(where, fasta, folder, chunk_length, threads=1)
    except InputError as error:
        is_missing = isinstance(error.__cause__, FileNotFoundError)
        return _Refused(str(error), of_input=True, missing_on=where if is_missing else None)
    except VirnucError as error:
        return _Refused(str(error), of_input=False)


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
    """A task that was not begun, or ended without an answer."""


@contextmanager
def _explained(fasta: Path) -> Iterator[None]:
    try:
        yield
    except _UnansweredError as error:
        raise RunnerError(
            f"{fasta}: could not be indexed on the Ray cluster ({error}); see its logs, and start "
            "again, or set VIRNUC_LAUNCHER=local"
        ) from error


def _outcome(answer_of: Callable[[], Indexed | _Refused], fasta: Path, folder: Path) -> Indexed:
    with _explained(fasta):
        answer = answer_of()
    if isinstance(answer, _Refused):
        if answer.missing_on is not None and fasta.exists():
            raise InputError(
                f"{fasta}: is on this machine and not on {answer.missing_on}, where the Ray "
                "cluster looked for it; put inputs on the disk that the cluster's machines share, "
                "or set VIRNUC_LAUNCHER=local"
            )
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
def _jobs(address: str) -> Iterator[_Ask]:
    from virnuc_assets.runner.ray_jobs import UNANSWERED, client_of, stop

    client = client_of(address)
    jobs: dict[str, Callable[[], bool]] = {}

    def ask(
        fasta: Path, folder: Path, chunk_length: int, version: str
    ) -> Callable[[], Indexed | _Refused]:
        program = ("python", "-m", __name__, str(fasta), str(folder), str(chunk_length), version)
        try:
            # It takes no CPU itself: Ray gives up a job that waits a quarter of an hour for one.
            name = client.submit_job(
                entrypoint=shlex.join(program),
                entrypoint_num_cpus=0,
                runtime_env={"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_ENDING_SECONDS)}},
            )
        except UNANSWERED as error:
            raise _UnansweredError(one_line(error)) from error
        jobs[name] = partial(_has_ended, client, name)
        return partial(_answer_of_job, client, name)

    try:
        yield ask
    finally:
        stop(client, jobs)


def _has_ended(client: JobSubmissionClient, name: str) -> bool:
    return bool(client.get_job_status(name).is_terminal())


def _answer_of_job(client: JobSubmissionClient, name: str) -> Indexed | _Refused:
    from virnuc_assets.runner.ray_jobs import UNANSWERED, patiently

    try:
        while not patiently(partial(_has_ended, client, name)):
            time.sleep(_LOOK_SECONDS)
        for line in patiently(partial(client.get_job_logs, name)).splitlines():
            if line.startswith(_ANSWER):
                return _read(line.removeprefix(_ANSWER))
        reason = patiently(partial(client.get_job_info, name)).message
    except UNANSWERED as error:
        reason = error
    raise _UnansweredError(f"its job {name}: {one_line(reason)}")


def _read(answer: str) -> Indexed | _Refused:
    said = json.loads(answer)
    if "manifest" not in said:
        return _Refused(**said)
    warnings = tuple(said["manifest"].pop("warnings"))
    return Indexed(IndexManifest(**said["manifest"], warnings=warnings), said["where"])


def _be_job(fasta: str, folder: str, chunk_length: str, version: str) -> None:
    """Have a task index a file, and say what came of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with _tasks("auto") as ask:
            answer = ask(Path(fasta), Path(folder), int(chunk_length), version)()
    except (RunnerError, _UnansweredError) as error:
        sys.exit(one_line(error))
    sys.stdout.write(f"{_ANSWER}{json.dumps(asdict(answer))}\n")


if __name__ == "__main__":
    # By the name that it has on a task's machine too.
    from virnuc_assets import ray_index

    ray_index._be_job(*sys.argv[1:])
