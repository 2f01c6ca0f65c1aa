"""What a block's file is called and must say of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from virnuc_assets.runner.job import Job
from virnuc_assets.runner.output import work_folder
from virnuc_assets.runner.plan import Block
from virnuc_assets.store.embeddings import Identity, block_path


@dataclass(frozen=True)
class Digests:
    """What the coordinator has already hashed, so that no worker hashes gigabytes again."""

    weights: str
    encoder: str


def block_identity(job: Job, digests: Digests, block: Block) -> Identity:
    """What the file of `block` must say of itself."""
    return Identity(
        encoder=job.encoding.encoder,
        index_digest=job.index_digest,
        encoder_digest=digests.encoder,
        dtype=job.encoding.dtype,
        n_shards=job.n_shards,
        shard=block.shard,
        start=block.start,
        stop=block.stop,
    )


def block_file(job: Job, block: Block) -> Path:
    """The file of `block`; a piece of a block has one of its own, which is no block's."""
    path = block_path(work_folder(job), block.shard, job.n_shards, block.block)
    if block.whole:
        return path
    return path.with_name(f"{path.stem}.piece-{block.start}-{block.stop}{path.suffix}")
