"""FASTA files → calls and a report of each, below one folder, without Dagster.

A file that cannot be done does not stop the others. What an earlier, interrupted call finished is
kept: indexes that fit their files, and every shard and block of embeddings that verifies.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from virnuc_assets import console, pipeline
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import InputError, StoreError, VirnucError
from virnuc_assets.ray_index import Begin, indexing
from virnuc_assets.runner import client
from virnuc_assets.runner.job import Job
from virnuc_assets.sample_batches import batches, file_bytes
from virnuc_assets.sequences.manifest import IndexManifest
from virnuc_assets.settings import ENCODERS, Settings
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.lock import sole_writer
from virnuc_assets.store.samples import register, sample_name

FAILURES_FILE = "failed.tsv"


@dataclass(frozen=True)
class Failure:
    """Why a file was not done; a file may have several."""

    sample: str
    file: str
    reason: str


def predict_files(files: list[Path], settings: Settings) -> list[Failure]:
    """Call the records of `files`, one sample each, into `settings.store`.

    All files are indexed before the first is embedded: a broken one is told in seconds and not
    after hours. `failed.tsv` in the store lists the failures, and is absent when there are none.

    Returns:
        The failures.

    Raises:
        StoreError: the store cannot be written.
    """
    _check_writable(settings.store)
    layout = Layout(settings.store)
    failures: list[Failure] = []
    indexed: dict[str, Path] = {}

    def fail(path: Path, error: VirnucError) -> None:
        console.fail(str(error))
        failures.append(Failure(sample_name(path), str(path), str(error)))

    with indexing(settings.models.ray) as begin:
        begun: dict[str, tuple[Path, Callable[[], IndexManifest]]] = {}
        for path in files:
            name = sample_name(path)
            try:
                if name in begun:
                    raise InputError(
                        f"{path}: would be sample {name}, as {begun[name][0]} is; rename one of "
                        "them"
                    )
                begun[name] = path, _index(begin, layout, name, path, settings.models.chunk_length)
            except VirnucError as error:
                fail(path, error)
        for name, (path, manifest_of) in begun.items():
            try:
                _say(name, manifest_of())
                indexed[name] = path
            except VirnucError as error:
                fail(path, error)
    for batch in batches(list(indexed), partial(file_bytes, layout)):
        failures += _predict(layout, {name: indexed[name] for name in batch}, settings)
    try:
        _write_failures(settings.store / FAILURES_FILE, failures)
    except StoreError as error:
        console.fail(str(error))
    return failures


def _index(
    begin: Begin, layout: Layout, name: str, path: Path, chunk_length: int
) -> Callable[[], IndexManifest]:
    """Begin to index a file whose index is not there; what is returned waits for its manifest."""
    register(layout, name, path)
    manifest = pipeline.index_there(layout.index(name), path, chunk_length)
    if manifest is not None:
        return lambda: manifest
    wait = pipeline.begin_index(begin, layout, name, chunk_length)
    return lambda: wait().manifest


def _say(name: str, manifest: IndexManifest) -> None:
    console.say(
        f"{name}: {manifest.records} records, {manifest.chunks} chunks; to embed: "
        f"{manifest.unique_nucleotides} nucleotide and {manifest.unique_proteins} protein sequences"
    )


def _predict(layout: Layout, files: dict[str, Path], settings: Settings) -> list[Failure]:
    """Embed samples, by loads of the encoders that they share, and call them; the failures."""
    failures: list[Failure] = []
    jobs: dict[str, dict[EncoderName, Job]] = {}

    def fail(name: str, *reasons: str) -> None:
        jobs.pop(name, None)
        failures.extend(Failure(name, str(files[name]), reason) for reason in reasons)

    with ExitStack() as own:
        # In the same order whoever calls, or two calls might wait for each other.
        for name in sorted(files):
            try:
                own.enter_context(_own(layout, name, files[name], settings.models.chunk_length))
                jobs[name] = _jobs(layout, name, settings)
            except VirnucError as error:
                console.fail(str(error))
                fail(name, str(error))
        for encoder in ENCODERS:
            names = [name for name in files if name in jobs]
            stream = client.stream_where_set([jobs[name][encoder] for name in names])
            titles = [f"{name}, {encoder}" for name in names]
            for number, failed in console.follow_each(stream, titles):
                console.fail_run(failed)
                fail(names[number], *failed.reasons)
        for name in [name for name in files if name in jobs]:
            try:
                _call(layout, name, settings)
            except VirnucError as error:
                console.fail(str(error))
                fail(name, str(error))
    return failures


@contextmanager
def _own(layout: Layout, name: str, path: Path, chunk_length: int) -> Iterator[None]:
    """Be the only call on a sample; index it again if one before this cut it differently."""
    with sole_writer(layout.sample(name).parent, console.warn):
        if pipeline.index_there(layout.index(name), path, chunk_length) is None:
            pipeline.index_sample(layout, name, chunk_length)
        yield


def _jobs(layout: Layout, name: str, settings: Settings) -> dict[EncoderName, Job]:
    shards = tuple(range(settings.n_shards))
    return {
        encoder: pipeline.embedding_job(
            layout, name, settings.models.encoding(encoder), settings.n_shards, shards
        )
        for encoder in ENCODERS
    }


def _call(layout: Layout, name: str, settings: Settings) -> None:
    from virnuc_assets.reporting import report_sample

    results = layout.predictions(name)
    with console.stage(f"{name}: calling records"):
        pipeline.predict_sample(layout, name, settings.n_shards, settings.models)
        report = report_sample(layout, name)
    console.print_calls(results, name)
    console.files_made({"calls and scores": results, "report": report.path})


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}); choose another output folder or "
            "change its permissions"
        ) from error


def _write_failures(path: Path, failures: list[Failure]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(("sample", "file", "reason"))
        writer.writerows((failure.sample, failure.file, failure.reason) for failure in failures)
