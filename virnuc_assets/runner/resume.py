"""What of a job is already done: shard and block files that exist and verify; no other.

Resume, retry and a changed number of devices are all this one rule.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from virnuc_assets.errors import UnusableFileError
from virnuc_assets.runner.events import Event, Warned
from virnuc_assets.runner.identity import Digests, block_file, block_identity
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.output import published, sequence_table, work_folder
from virnuc_assets.runner.plan import Block, plan_shard
from virnuc_assets.runner.shards import ShardState
from virnuc_assets.runner.telemetry import RECORD_FILE
from virnuc_assets.store.atomic import leftovers_of
from virnuc_assets.store.embeddings import (
    EmbeddingFile,
    Identity,
    blocks_directory,
    shard_path,
    verify,
)
from virnuc_assets.store.shard_locks import is_being_made, whole_folder

Emit = Callable[[Event], None]
_BLOCKS = re.compile(r"shard-(\d+)-of-(\d+)\.blocks")


def plan_shards(job: Job) -> dict[int, ShardState]:
    """Cut the job's shards into blocks, none of them done yet.

    Raises:
        StoreError: the sequence table is missing, or not the one the job was made for.
    """
    lengths = sequence_table(job).lengths()
    if job.block_sequences is None or job.block_letters is None:
        raise ValueError("an unresolved job")
    return {
        number: ShardState(
            number,
            plan_shard(lengths, number, job.n_shards, job.block_sequences, job.block_letters),
        )
        for number in job.shards
    }


def finished_shard(
    job: Job, digests: Digests, shard: ShardState, number: int, emit: Emit
) -> EmbeddingFile | None:
    """The shard's file if it is there and verifies; what is left of its blocks is removed.

    One that is published is not fetched: the file is what it will be then.
    """
    output = work_folder(job)
    whole = block_identity(job, digests, Block(number, 0, 0, shard.sequences, 0))
    if (store := published(job)) is not None:
        return store.finished(whole)
    file = _verified(shard_path(output, number, job.n_shards), whole, emit)
    if file is not None:
        # A run that was killed between publishing the shard and removing its blocks leaves them.
        shutil.rmtree(blocks_directory(output, number, job.n_shards), ignore_errors=True)
    return file


def find_finished_blocks(job: Job, digests: Digests, shard: ShardState, emit: Emit) -> None:
    """Book the shard's blocks that are there and verify; the others are named.

    A block with sequences set aside is made again: what broke it then may be mended now.
    """
    if (store := published(job)) is not None:
        wanted = {block_identity(job, digests, block): block for block in shard.blocks}
        for identity, found in store.blocks(wanted).items():
            if not found.set_aside:
                shard.reuse(wanted[identity], found)
        return
    for block in shard.blocks:
        file = _verified(block_file(job, block), block_identity(job, digests, block), emit)
        if file is not None and not file.set_aside:
            shard.reuse(block, file)


def _verified(path: Path, identity: Identity, emit: Emit) -> EmbeddingFile | None:
    if not path.exists():
        return None
    try:
        return verify(path, identity)
    except UnusableFileError as error:
        emit(Warned(f"{path}: {error.fault}; it is made again"))
        return None


def remove_leftovers(job: Job) -> None:
    """Remove what ended runs of these shards left: temporary files and pieces of blocks.

    Blocks go too that nobody needs: those of another number of shards that nobody makes, and, where
    the output is in an object store, those that were not published. To be called by who holds the
    job's shards.
    """
    output = work_folder(job)
    with whole_folder(output):
        for blocks in output.glob("shard-*-of-*.blocks"):
            if (numbers := _BLOCKS.fullmatch(blocks.name)) is None:
                continue  # none of ours
            shard, n_shards = map(int, numbers.groups())
            if n_shards != job.n_shards and not is_being_made(output, shard, n_shards):
                shutil.rmtree(blocks, ignore_errors=True)
                _remove(leftovers_of(shard_path(output, shard, n_shards)))
    for shard in job.shards:
        blocks = blocks_directory(output, shard, job.n_shards)
        if published(job) is not None:
            shutil.rmtree(blocks, ignore_errors=True)
        _remove((*blocks.glob(".*.tmp"), *blocks.glob("block-*.piece-*.h5")))
        _remove(leftovers_of(shard_path(output, shard, job.n_shards)))
    _remove(leftovers_of(output / job.own(RECORD_FILE)))


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
