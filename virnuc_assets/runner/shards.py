"""Shards on their way: what is booked of them, and their files once they are whole."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from virnuc_assets.encoders.agreement import Agreement
from virnuc_assets.runner.identity import Digests, block_file, block_identity
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.messages import Finished
from virnuc_assets.runner.output import published, work_folder
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.telemetry import Tally
from virnuc_assets.store.embeddings import (
    Counts,
    EmbeddingFile,
    assemble_shard,
    blocks_directory,
    merge_origins,
    write_embeddings,
)

_TELEMETRY = ("packing_efficiency", "tokens_per_second", "busy_share")


@dataclass
class ShardState:
    """A shard on its way."""

    number: int
    blocks: list[Block]
    files: dict[int, EmbeddingFile] = field(default_factory=dict)
    """Of whole blocks, by their number."""
    pieces: defaultdict[int, list[EmbeddingFile]] = field(default_factory=lambda: defaultdict(list))
    """Of blocks that go on in pieces."""
    set_aside: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Positions of sequences that broke their block, by its number."""
    sequences_done: int = 0
    """In whole blocks and pieces; those set aside are done with, too."""
    reused_blocks: int = 0
    tally: Tally = field(default_factory=Tally)
    """Of this run."""
    agreement: Agreement = field(default_factory=Agreement)
    """Of blocks of this run with float32, where their precision has it checked."""

    @property
    def sequences(self) -> int:
        """Sequences in the shard."""
        return self.blocks[-1].stop

    @property
    def pending(self) -> list[Block]:
        """Blocks still to be made."""
        return [block for block in self.blocks if block.block not in self.files]

    @property
    def is_whole(self) -> bool:
        """Every block has its file."""
        return len(self.files) == len(self.blocks)

    def reuse(self, block: Block, file: EmbeddingFile) -> None:
        """Book a block file of an earlier run."""
        self.files[block.block] = file
        self.reused_blocks += 1
        self.sequences_done += block.sequences

    def book(self, finished: Finished) -> None:
        """Book a block, or a piece of one, of this run."""
        block, file = finished.block, finished.file
        if block.whole:
            self.files[block.block] = file
        else:
            self.pieces[block.block].append(file)
        self.sequences_done += block.sequences
        self.tally.book(finished)
        if finished.agreement is not None:
            self.agreement += finished.agreement

    def leave_out(self, block: int, position: int) -> None:
        """Book a sequence that has no embedding."""
        self.set_aside[block].append(position)
        self.sequences_done += 1

    def is_set_aside(self, number: int) -> bool:
        """Whether every sequence of block `number` is."""
        return len(self.set_aside[number]) == self.blocks[number].sequences

    def telemetry(self) -> dict[str, Any]:
        """What this run's making of the shard was like, JSON-ready."""
        found: dict[str, Any] = {
            "blocks": len(self.blocks),
            "blocks_reused": self.reused_blocks,
        }
        made = self.tally.summary()
        found |= {name: made[name] for name in _TELEMETRY if made[name] is not None}
        if made["busy_share"] is not None:
            found["starved_seconds"] = made["starved_seconds"]
        if self.agreement.cosines:
            found["float32_cosine_min"] = self.agreement.minimum
            found["float32_cosine_p1"] = self.agreement.quantile(0.01)
            found["float32_cosine_median"] = self.agreement.quantile(0.5)
            found["float32_cosine_of"] = len(self.agreement.cosines)
        return found


def join_pieces(job: Job, digests: Digests, shard: ShardState, number: int) -> bool:
    """Make the file of block `number` of its pieces once they are all there; whether they were.

    Sequences set aside are NaN in it. The pieces' files are removed.

    Raises:
        StoreError: the file cannot be written.
    """
    block = shard.blocks[number]
    pieces = sorted(shard.pieces[number], key=lambda file: file.identity.start)
    missing = sorted(shard.set_aside[number])
    there = sum(file.identity.stop - file.identity.start for file in pieces)
    if not pieces or there + len(missing) < block.sequences:
        return False
    dim = pieces[0].dim
    store = published(job)
    if store is not None:
        pieces = [store.fetch(piece) for piece in pieces]
    shard.files[number] = write_embeddings(
        block_file(job, block),
        block_identity(job, digests, block),
        merge_origins(pieces),
        sum((piece.counts for piece in pieces), Counts()),
        dim,
        _values(pieces, block, dim),
        [row_of(job, block, position) for position in missing],
    )
    if store is not None:
        store.publish(shard.files[number])
    for piece in pieces:
        piece.path.unlink()
    del shard.pieces[number]
    return True


def row_of(job: Job, block: Block, position: int) -> int:
    """Row of the sequence table of the sequence at `position` within the block's shard."""
    return block.shard + job.n_shards * position


def position_of(job: Job, row: int) -> int:
    """Position within its shard of row `row` of the sequence table."""
    return row // job.n_shards


def _values(pieces: Iterable[EmbeddingFile], block: Block, dim: int) -> Iterable[np.ndarray]:
    """The pieces' embeddings in order, and NaN where there is none."""
    position = block.start
    for piece in pieces:
        yield np.full((piece.identity.start - position, dim), np.nan, np.float32)
        with h5py.File(piece.path, "r") as file:
            yield file["embeddings"][:]
        position = piece.identity.stop
    yield np.full((block.stop - position, dim), np.nan, np.float32)


def assemble(job: Job, digests: Digests, shard: ShardState) -> EmbeddingFile:
    """Join a whole shard's blocks into its file and remove them; or publish which they are.

    Raises:
        StoreError: the file cannot be written.
    """
    files = [shard.files[block.block] for block in shard.blocks]
    whole = block_identity(job, digests, Block(shard.number, 0, 0, shard.sequences, 0))
    if (store := published(job)) is not None:
        return store.finish(whole, files)
    file = assemble_shard(work_folder(job), whole, files, files[0].dim)
    shutil.rmtree(blocks_directory(work_folder(job), shard.number, job.n_shards))
    return file


def shard_metadata(file: EmbeddingFile) -> dict[str, Any]:
    """What a person wants to know of a shard, JSON-ready; its bytes too if its file is here."""
    found = {
        "model": file.origin.model,
        "rows": file.identity.stop - file.identity.start,
        "dim": file.dim,
        "tokens": file.counts.tokens,
        "truncated": file.counts.truncated,
        "windowed": file.counts.windowed,
        "redone_in_float32": file.counts.redone_in_float32,
        "set_aside": len(file.set_aside),
        "device": file.origin.device,
        "attention": file.origin.attention,
        "engine": file.origin.engine,
        "dtype": file.identity.dtype,
        "token_budget": file.origin.token_budget,
        "weights_digest": file.origin.weights_digest,
        "encoder_digest": file.identity.encoder_digest,
        "index_digest": file.identity.index_digest,
        "checksum": file.checksum,
    }
    return found | ({"bytes": file.path.stat().st_size} if file.path.exists() else {})
