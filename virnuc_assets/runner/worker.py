"""A worker: one spawned process that owns one device and embeds one block after another."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from virnuc_assets.errors import SequenceError, VirnucError
from virnuc_assets.runner.devices import CPU, bind
from virnuc_assets.runner.job import Job
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
    """A block file was published."""

    block: Block
    file: EmbeddingFile
    seconds: float


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
    block: Block | None = None
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
            ),
            weights_digest=digests.weights,
        )
        about = encoder.description
        origin = Origin(
            model=about.label,
            weights_digest=about.weights_digest,
            device=about.device,
            attention=about.attention,
            token_budget=about.token_budget,
            long_sequences=about.long_sequences,
        )
        table = SequenceTable(Path(job.sequences))
        # Again, in every worker: the index may have been renewed since the coordinator looked.
        table.verify(job.sequences_sha256)
        connection.send(Ready())
        while (block := connection.recv()) is not None:
            started = time.monotonic()
            identity = block_identity(job, digests, block)
            rows = identity.rows()
            try:
                embedded = encoder.embed(table.take(rows))
            except SequenceError as error:
                raise SequenceError(int(rows[error.row]), error.why, job.sequences) from error
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
                identity,
                origin,
                counts,
                about.dim,
                [embedded.values],
            )
            connection.send(Finished(block, file, time.monotonic() - started))
    except (EOFError, BrokenPipeError):
        return
    except VirnucError as error:
        # Inside this process the device is always number 0; a person knows it by its own id.
        text = str(error) if device == CPU else f"GPU {device}: {error}"
        connection.send(Broke(block, text, explained=True))
    except Exception:  # noqa: BLE001  reported to the coordinator with its traceback
        connection.send(Broke(block, traceback.format_exc(), explained=False))


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
