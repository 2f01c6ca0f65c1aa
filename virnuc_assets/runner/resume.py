"""What of a job is already done: shard and block files that exist and verify; no other.

Resume, retry and a changed number of devices are all this one rule.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from virnuc_assets.encoders.agreement import Agreement
from virnuc_assets.errors import StoreError
from virnuc_assets.runner.events import Event, Warned
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.plan import Block, plan_shard
from virnuc_assets.runner.worker import Digests, block_identity
from virnuc_assets.store.embeddings import (
    EmbeddingFile,
    Identity,
    block_path,
    blocks_directory,
    shard_path,
    verify,
)
from virnuc_assets.store.sequence_table import SequenceTable

Emit = Callable[[Event], None]


@dataclass
class ShardState:
    """A shard on its way."""

    blocks: list[Block]
    files: dict[int, EmbeddingFile] = field(default_factory=dict)
    reused_blocks: int = 0
    seconds: float = 0.0
    """Seconds that devices spent on this shard in this run."""
    busy_seconds: float = 0.0
    starved_seconds: float = 0.0
    """Of these, how long CUDA devices computed, and how long they waited for the host."""
    agreement: Agreement = field(default_factory=Agreement)
    """Of blocks of this run with float32, where their precision has it checked."""
    tokens: int = 0
    """Real tokens embedded in this run."""

    @property
    def sequences(self) -> int:
        """Sequences in the shard."""
        return self.blocks[-1].stop

    @property
    def pending(self) -> list[Block]:
        """Blocks still to be made."""
        return [block for block in self.blocks if block.block not in self.files]


def plan_shards(job: Job) -> dict[int, ShardState]:
    """Cut the job's shards into blocks, none of them done yet.

    Raises:
        StoreError: the sequence table is missing, or not the one the job was made for.
    """
    table = SequenceTable(Path(job.sequences))
    table.verify(job.sequences_sha256)
    lengths = table.lengths()
    if job.block_letters is None:
        raise ValueError("an unresolved job")
    return {
        number: ShardState(
            plan_shard(lengths, number, job.n_shards, job.block_sequences, job.block_letters)
        )
        for number in job.shards
    }


def finished_shard(
    job: Job, digests: Digests, shard: ShardState, number: int, emit: Emit
) -> EmbeddingFile | None:
    """The shard's file if it is there and verifies; what is left of its blocks is removed."""
    output = Path(job.output)
    whole = block_identity(job, digests, Block(number, 0, 0, shard.sequences, 0))
    file = _verified(shard_path(output, number, job.n_shards), whole, emit)
    if file is not None:
        # A run that was killed between publishing the shard and removing its blocks leaves them.
        shutil.rmtree(blocks_directory(output, number, job.n_shards), ignore_errors=True)
    return file


def find_finished_blocks(job: Job, digests: Digests, shard: ShardState, emit: Emit) -> None:
    """Book the shard's blocks that are there and verify; the others are named."""
    for block in shard.blocks:
        path = block_path(Path(job.output), block.shard, job.n_shards, block.block)
        file = _verified(path, block_identity(job, digests, block), emit)
        if file is not None:
            shard.files[block.block] = file
            shard.reused_blocks += 1


def _verified(path: Path, identity: Identity, emit: Emit) -> EmbeddingFile | None:
    if not path.exists():
        return None
    try:
        return verify(path, identity)
    except StoreError as error:
        emit(Warned(f"{error}; it is made again"))
        return None


def sequences_done(shards: dict[int, ShardState], done: dict[int, EmbeddingFile]) -> int:
    """Sequences embedded so far, over all shards."""
    return sum(
        shard.sequences
        if number in done
        else sum(block.stop - block.start for block in shard.blocks if block.block in shard.files)
        for number, shard in shards.items()
    )


def remove_leftovers(job: Job) -> None:
    """Remove the temporary files of runs that were killed."""
    output = Path(job.output)
    folders = [blocks_directory(output, number, job.n_shards) for number in job.shards]
    for folder in (output, *folders):
        for temporary in folder.glob(".*.tmp"):
            temporary.unlink(missing_ok=True)
