"""A run from its job to its outcome: what is there already, what is left, and its record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from virnuc_assets.encoders import catalog
from virnuc_assets.errors import StoreError
from virnuc_assets.runner.background import in_thread
from virnuc_assets.runner.between_jobs import BetweenJobs
from virnuc_assets.runner.books import Books
from virnuc_assets.runner.devices import described
from virnuc_assets.runner.dispatcher import Dispatcher
from virnuc_assets.runner.events import Event, Failed, ShardDone, Started, Warned
from virnuc_assets.runner.identity import Digests
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.logs import Logs
from virnuc_assets.runner.output import place_of, sole_run, work_folder
from virnuc_assets.runner.pool import LocalPool, Pool
from virnuc_assets.runner.resume import (
    Emit,
    find_finished_blocks,
    finished_shard,
    plan_shards,
    remove_leftovers,
)
from virnuc_assets.runner.shards import shard_metadata
from virnuc_assets.runner.telemetry import Record
from virnuc_assets.runner.worker import work
from virnuc_assets.store.embeddings import EmbeddingFile

_log = logging.getLogger(__name__)

# To load an encoder again takes about as long.
_UNUSED_SECONDS = 20.0


@dataclass(frozen=True)
class Outcome:
    """Which shards a run left finished, and which not."""

    done: tuple[int, ...]
    failed: tuple[int, ...]


def run(
    job: Job,
    emit: Emit,
    worker: Callable[..., None] = work,
    make_pool: Callable[..., Pool] | None = None,
    log_folder: Path | None = None,
    between: BetweenJobs | None = None,
) -> Outcome:
    """Embed the job's shards; what is already there and verifies is kept.

    `worker`: what a worker runs, as `worker(link, device, job, digests, logs)`. `make_pool`: the
    pool to run it in, made as `make_pool(worker, (digests, logs))`; None: of this machine, or of
    the job's Ray cluster. `log_folder`: where each worker has a log file, seen from the job's own
    folder. `between`: what jobs before this one left for it, and what it leaves for others.

    Raises:
        VirnucError: nothing could be started (bad weights, damaged table, no such device), or what
            went wrong would go wrong with every block.
    """
    if between is None:
        with closing(BetweenJobs()) as between:
            return run(job, emit, worker, make_pool, log_folder, between)
    job = job.resolved()
    encoding = job.encoding
    weights = catalog.resolve_weights(encoding.encoder, encoding.weights)
    hashed = between.weights_digest(weights)
    digests = Digests(
        weights=hashed,
        encoder=catalog.encoder_digest(encoding.encoder, hashed, encoding.long_sequences),
    )

    def wait_for_another(text: str) -> None:
        # It may need a device that a worker of ours holds, which has nothing to do meanwhile.
        between.workers.end()
        emit(Warned(text))

    with sole_run(job, wait_for_another) as own:
        shards = plan_shards(job)
        remove_leftovers(job)
        done: dict[int, EmbeddingFile] = {}
        for number, shard in shards.items():
            if (finished := finished_shard(job, digests, shard, number, emit)) is not None:
                done[number] = finished
                shard.sequences_done = shard.sequences
            else:
                find_finished_blocks(job, digests, shard, emit)
        blocks_done = sum(
            len(shard.blocks) if number in done else len(shard.files)
            for number, shard in shards.items()
        )
        emit(
            Started(
                sequences=sum(shard.sequences for shard in shards.values()),
                sequences_done=sum(shard.sequences_done for shard in shards.values()),
                blocks=sum(len(shard.blocks) for shard in shards.values()),
                blocks_done=blocks_done,
                devices=described(encoding.devices),
                model=weights.label,
            )
        )
        for number, file in done.items():
            emit(ShardDone(number, place_of(job, file), reused=True, metadata=shard_metadata(file)))
        if len(done) == len(shards):
            between.workers.end_after(_UNUSED_SECONDS)
        else:
            own.hide_view()
            folder = None if log_folder is None else work_folder(job) / job.own(log_folder)
            logs = Logs(logging.getLogger().getEffectiveLevel(), folder)
            logs.clear()
            pool = (make_pool or _pool_of(job, between))(worker, (digests, logs))
            with (
                _recorded(Record(job, blocks_reused=blocks_done), emit) as (record, tell),
                between.embedding(encoding, digests),
            ):
                books = Books(record, digests, shards, done, tell)
                Dispatcher(books, pool, between).run()
        in_thread(own.give_back, done).result()
        failed = tuple(number for number in shards if number not in done)
        return Outcome(tuple(sorted(done)), failed)


def _pool_of(job: Job, between: BetweenJobs) -> Callable[..., Pool]:
    if job.encoding.ray is None:
        return partial(LocalPool, idle=between.workers)
    # Loads Ray, which nothing else needs.
    from virnuc_assets.runner.ray_pool import RayPool

    return partial(RayPool, job.encoding.ray.address)


@contextmanager
def _recorded(record: Record, emit: Emit) -> Iterator[tuple[Record, Emit]]:
    """Keep a record of what is emitted and write it, however the run ends; tidy up after it."""

    def tell(event: Event) -> None:
        match event:
            case Warned(message=message):
                record.warnings.append(message)
            case Failed(message=message):
                record.failures.append(message)
        emit(event)

    end = "all shards done"
    try:
        yield record, tell
        if record.failures:
            end = "some shards failed"
    except BaseException as error:
        end = str(error) or type(error).__name__
        raise
    finally:
        remove_leftovers(record.job)
        try:
            record.write(end)
        except StoreError as error:
            _log.warning("the run's record could not be written: %s", error)
