"""Where a run's files lie: a folder, or an object store and a folder of each host beside it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from virnuc_assets.errors import StoreError
from virnuc_assets.runner.background import in_thread
from virnuc_assets.runner.events import Event, ShardDone
from virnuc_assets.runner.job import Job
from virnuc_assets.store.cache import cache_folder, local_file, publish_file
from virnuc_assets.store.claims import sole_writer_of
from virnuc_assets.store.digests import sha256_json
from virnuc_assets.store.embeddings import EmbeddingFile
from virnuc_assets.store.entries import blocks_key
from virnuc_assets.store.objects import Objects, is_url, open_objects
from virnuc_assets.store.published import Published
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets.store.shard_locks import OwnShards, own_shards


def work_folder(job: Job) -> Path:
    """The job's folder on this host: its output, or where blocks lie until they are published."""
    if not is_url(job.output):
        return Path(job.output)
    return cache_folder() / "outputs" / sha256_json(job.output)[:16]


def published(job: Job) -> Published | None:
    """The job's output where that is in an object store; None: it is a folder.

    Raises:
        SettingsError: it is a URL that cannot be used.
        StoreError: the store cannot be reached.
    """
    return Published(_open(job.output), work_folder(job)) if is_url(job.output) else None


@lru_cache
def _open(url: str) -> Objects:
    return open_objects(url)


def sequence_table(job: Job) -> SequenceTable:
    """The job's sequence table, checked; from an object store it is fetched once a host.

    Raises:
        StoreError: it is missing, or not the one the job was made for.
    """
    if is_url(job.sequences):
        # Checked there; what is kept under a digest is not replaced by anything else.
        return SequenceTable(local_file(job.sequences, job.sequences_sha256, cache_folder()))
    table = SequenceTable(Path(job.sequences))
    table.verify(job.sequences_sha256)
    return table


@contextmanager
def sole_run(job: Job, tell: Callable[[str], None]) -> Iterator[OwnShards]:
    """Be the only run that makes the job's shards; wait for another, which `tell` is told.

    Raises:
        StoreError: the output cannot be written.
    """
    folder = work_folder(job)
    with own_shards(folder, job.n_shards, job.shards, tell) as own, ExitStack() as claimed:
        if (store := published(job)) is not None:
            names = [blocks_key(shard, job.n_shards) for shard in job.shards]
            claimed.enter_context(sole_writer_of(store.objects, names, tell))
        yield own


def place_of(job: Job, shard: EmbeddingFile) -> str:
    """Where a finished shard is: its file, or the URL of its manifest."""
    store = published(job)
    if store is None:
        return str(shard.path)
    return store.manifest_url(shard.identity.shard, shard.identity.n_shards)


def exchanged(job: Job, stream: Callable[[Job], Generator[Event]]) -> Generator[Event]:
    """The events of `stream(job)`; by way of an object store, where the job's cluster has one.

    Raises:
        StoreError, DiskFullError: as `through`.
    """
    cluster = job.encoding.ray
    if cluster is None or cluster.exchange is None:
        return stream(job)
    return through(cluster.exchange, job, stream)


def through(url: str, job: Job, stream: Callable[[Job], Generator[Event]]) -> Generator[Event]:
    """Run a job of this host on machines that share no disk with it, by way of an object store.

    Its sequences are published below the folder `url`, unless they are there, and its output is
    there: `stream` yields the events of that job, wherever it runs. A shard is in the job's own
    folder, checked, before it is said to be done, and the view of all of them at the end: just
    what a run on this host leaves.

    Raises:
        StoreError: the store cannot be used, or what is fetched is damaged.
        DiskFullError: the folder has no room for a shard.
    """
    folder = Path(job.output)
    name = f"{job.encoding.encoder}-{job.index_digest[:16]}-{job.n_shards}"
    there = replace(
        job,
        sequences=publish_file(
            Path(job.sequences), f"{url.rstrip('/')}/sequences", job.sequences_sha256
        ),
        output=f"{url.rstrip('/')}/embeddings/{name}",
    )
    store = Published(open_objects(there.output), folder)
    done: dict[int, EmbeddingFile] = {}
    fetched: deque[tuple[ShardDone, Future[EmbeddingFile]]] = deque()
    turn = threading.Lock()

    def fetch(shard: int) -> EmbeddingFile:
        with turn:
            return store.fetch_shard(shard, job.n_shards)

    def landed() -> ShardDone:
        event, future = fetched.popleft()
        shard = done[event.shard] = _of_this_run(future.result(), event)
        facts = {"checksum": shard.checksum, "bytes": shard.path.stat().st_size}
        return replace(event, path=str(shard.path), metadata={**event.metadata, **facts})

    with (
        own_shards(folder, job.n_shards, job.shards) as own,
        closing(stream(there)) as events,
    ):
        for event in events:
            if isinstance(event, ShardDone):
                # Beside the events: a run whose words nobody reads comes to a halt.
                fetched.append((event, in_thread(fetch, event.shard)))
            else:
                yield event
            while fetched and fetched[0][1].done():
                yield landed()
        while fetched:
            yield landed()
        in_thread(own.give_back, done).result()


def _of_this_run(shard: EmbeddingFile, event: ShardDone) -> EmbeddingFile:
    said = tuple(event.metadata[name] for name in ("index_digest", "encoder_digest", "dtype"))
    identity = shard.identity
    if (identity.index_digest, identity.encoder_digest, identity.dtype) != said:
        raise StoreError(
            f"{shard.path}: what was fetched is of another run into the same place, with another "
            "model or precision; let one end before the other, or give each a place of its own"
        )
    return shard
