"""A worker: one spawned process that owns one device and embeds one block after another."""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from virnuc_assets.encoders.agreement import Agreement
from virnuc_assets.errors import SequenceError, VirnucError
from virnuc_assets.runner.devices import CPU, bind
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.pipeline import BlockError, Pipeline
from virnuc_assets.runner.plan import Block
from virnuc_assets.store.embeddings import (
    Counts,
    EmbeddingFile,
    Identity,
    Origin,
    block_path,
    write_embeddings,
)
from virnuc_assets.store.sequence_table import SequenceTable

if TYPE_CHECKING:
    from virnuc_assets.encoders.encoder import Embedded, Encoder, Prepared

LOG_FORMAT = "%(asctime)s %(name)s: %(message)s"


@dataclass(frozen=True)
class Digests:
    """What the coordinator has already hashed, so that no worker hashes gigabytes again."""

    weights: str
    encoder: str


@dataclass(frozen=True)
class Ready:
    """The encoder is loaded; the worker waits for a block."""


@dataclass(frozen=True)
class Finished:
    """A block file was published.

    `busy_seconds`, `starved_seconds`: of the `seconds` it took, what a CUDA device did.
    `agreement`: with float32, where the precision has it checked.
    """

    block: Block
    file: EmbeddingFile
    seconds: float
    busy_seconds: float = 0.0
    starved_seconds: float = 0.0
    agreement: Agreement | None = None


@dataclass(frozen=True)
class Broke:
    """A block (or, with block None, loading the encoder) raised."""

    block: Block | None
    message: str
    explained: bool


Message = Ready | Finished | Broke


def block_identity(job: Job, digests: Digests, block: Block) -> Identity:
    """What a block file of this job must say of itself."""
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


def work(connection: Connection, device: str, job: Job, digests: Digests, log_level: int) -> None:
    """Embed the blocks that arrive on `connection` until it says None or closes."""
    # A spawned process starts with no logging at all.
    logging.basicConfig(level=log_level, format=LOG_FORMAT)
    # A Ctrl-C reaches the whole foreground group; the coordinator alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch_device = bind(device)
    try:
        from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder

        encoding = job.encoding
        encoder = load_encoder(
            EncoderSettings(
                encoder=encoding.encoder,
                weights=encoding.weights,
                device=torch_device,
                dtype=encoding.dtype,  # type: ignore[arg-type]  # refused there if unknown
                attention=encoding.attention,
                token_budget=encoding.token_budget,
                long_sequences=encoding.long_sequences,
                validate=encoding.validate,
            ),
            weights_digest=digests.weights,
        )
        table = SequenceTable(Path(job.sequences))
        # Again, in every worker: the index may have been renewed since the coordinator looked.
        table.verify(job.sequences_sha256)
        connection.send(Ready())
        _embed_blocks(connection, job, digests, encoder, table)
    except (EOFError, BrokenPipeError):
        return
    except BlockError as error:
        cause = error.__cause__ or error
        if not isinstance(cause, BrokenPipeError):  # nobody is there to be told
            connection.send(_broke(error.block, device, cause))
    except Exception as error:  # noqa: BLE001  reported to the coordinator
        connection.send(_broke(None, device, error))


def _embed_blocks(
    connection: Connection, job: Job, digests: Digests, encoder: Encoder, table: SequenceTable
) -> None:
    about = encoder.description
    origin = Origin(
        model=about.label,
        weights_digest=about.weights_digest,
        device=about.device,
        attention=about.attention,
        engine=about.engine,
        token_budget=about.token_budget,
        long_sequences=about.long_sequences,
    )

    def prepare(block: Block) -> Prepared:
        rows = block_identity(job, digests, block).rows()
        return encoder.prepare(table.take(rows))

    def publish(block: Block, embedded: Embedded, seconds: float) -> None:
        counts = Counts(
            tokens=embedded.tokens,
            slots=embedded.slots,
            packs=embedded.packs,
            truncated=embedded.truncated,
            windowed=embedded.windowed,
            redone_in_float32=embedded.redone_in_float32,
        )
        file = write_embeddings(
            block_path(Path(job.output), block.shard, job.n_shards, block.block),
            block_identity(job, digests, block),
            origin,
            counts,
            about.dim,
            [embedded.values],
        )
        busy, starved = embedded.busy_seconds, embedded.starved_seconds
        connection.send(Finished(block, file, seconds, busy, starved, embedded.agreement))

    try:
        Pipeline(connection.recv, prepare, encoder.compute, publish).run()
    except BlockError as error:
        if isinstance(error.__cause__, SequenceError):
            cause = error.__cause__
            row = int(block_identity(job, digests, error.block).rows()[cause.row])
            raise error from SequenceError(row, cause.why, job.sequences)
        raise


def _broke(block: Block | None, device: str, error: BaseException) -> Broke:
    if isinstance(error, VirnucError):
        # Inside this process the device is always number 0; a person knows it by its own id.
        text = str(error) if device == CPU else f"GPU {device}: {error}"
        return Broke(block, text, explained=True)
    return Broke(block, "".join(traceback.format_exception(error)), explained=False)


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
