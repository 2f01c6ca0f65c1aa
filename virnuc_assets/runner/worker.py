"""A worker: one spawned process that owns one device and embeds one block after another."""

from __future__ import annotations

import gc
import logging
import platform
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from virnuc_assets.errors import (
    BackendError,
    DeviceMemoryError,
    DeviceTakenError,
    DiskFullError,
    SequenceError,
    StoreError,
    VirnucError,
    WeightsError,
)
from virnuc_assets.runner.device_lock import sole_user
from virnuc_assets.runner.devices import CPU, bind
from virnuc_assets.runner.identity import Digests, block_file, block_identity
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.link import Link
from virnuc_assets.runner.logs import Logs
from virnuc_assets.runner.messages import (
    Broke,
    DiskFull,
    Finished,
    Message,
    NextJob,
    OutOfMemory,
    Ready,
    Taken,
)
from virnuc_assets.runner.output import published, sequence_table
from virnuc_assets.runner.pipeline import BlockError, Pipeline
from virnuc_assets.runner.plan import Block
from virnuc_assets.store.embeddings import Counts, Origin, write_embeddings
from virnuc_assets.store.sequence_table import SequenceTable

if TYPE_CHECKING:
    from virnuc_assets.encoders.encoder import Embedded, Encoder
    from virnuc_assets.encoders.in_flight import Batch

_log = logging.getLogger(__name__)

# How long a thread may keep the interpreter from the others. The one that feeds the device lets go
# of it with every kernel, a hundred times a pack; Python's 5 ms would be most of a pack each time.
_SWITCH_SECONDS = 1e-4


def work(link: Link, device: str, job: Job, digests: Digests, logs: Logs) -> None:
    """Embed the blocks that arrive on `link`, of one job after another, until it closes."""
    # A spawned process starts with no logging at all.
    logs.begin(device)
    try:
        with ExitStack() as stack:
            if device != CPU:
                stack.enter_context(sole_user(device))
            encoder = _loaded(bind(device), job, digests)
            _embed(link, device, encoder, NextJob(0, job, (digests, logs)))
    except (EOFError, BrokenPipeError):
        return
    except BlockError as error:
        cause = error.__cause__ or error
        if not isinstance(cause, BrokenPipeError):  # nobody is there to be told
            link.send(_broke(error.block, device, cause))
    except Exception as error:  # noqa: BLE001  reported to the coordinator
        link.send(_broke(None, device, error))


def _loaded(torch_device: str, job: Job, digests: Digests) -> Encoder:
    import torch

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
        # On another machine the same path may hold another file.
        weights_digest=None if encoding.ray else digests.weights,
    )
    _check(encoder, job, digests)
    sys.setswitchinterval(_SWITCH_SECONDS)
    if torch_device != CPU:
        # What is left to the host are small copies. Torch would share one of 33 000 numbers out
        # among threads on all cores, which the tokenisers of all workers keep busy.
        torch.set_num_threads(1)
    # What is loaded stays: looking through it for garbage would halt every thread for 0.1 s.
    gc.freeze()
    return encoder


def _check(encoder: Encoder, job: Job, digests: Digests) -> None:
    if encoder.description.encoder_digest != digests.encoder:
        raise WeightsError(
            f"{job.encoding.weights} on {platform.node()}: is not the model that the run began "
            "with, or virnuc is of another version there; give every machine the same of both"
        )


def _embed(link: Link, device: str, encoder: Encoder, first: NextJob) -> None:
    job: NextJob | None = first
    while job is not None:
        # Who loaded for long may be behind.
        while link.poll():
            job = link.recv()
        job = _embed_job(link, device, encoder, job)


def _embed_job(link: Link, device: str, encoder: Encoder, mine: NextJob) -> NextJob | None:
    """Embed the blocks of a job; which is the next, once it is told."""
    job, (digests, logs) = mine.job, mine.arguments
    link.turn = mine.turn
    if mine.turn:
        logs.begin(device)
        _log.info("job %d of this worker, with the encoder it has loaded", mine.turn + 1)
        _check(encoder, job, digests)
    # Checked again, in every worker: the index may have been renewed since the coordinator looked.
    table = sequence_table(job)
    link.send(Ready(encoder.description.dim))
    following: NextJob | None = None

    def receive() -> Block | None:
        nonlocal following
        message: Block | NextJob = link.recv()
        if isinstance(message, NextJob):
            following = message
            return None
        return message

    _embed_blocks(link, receive, job, digests, encoder, table)
    return following


def _embed_blocks(
    link: Link,
    receive: Callable[[], Block | None],
    job: Job,
    digests: Digests,
    encoder: Encoder,
    table: SequenceTable,
) -> None:
    about = encoder.description
    store = published(job)
    origin = Origin(
        model=about.label,
        weights_digest=about.weights_digest,
        device=about.device,
        attention=about.attention,
        engine=about.engine,
        token_budget=about.token_budget,
        long_sequences=about.long_sequences,
    )

    def prepare(block: Block) -> Batch:
        rows = block_identity(job, digests, block).rows()
        return encoder.prepare(table.take(rows))

    def publish(block: Block, embedded: Embedded, seconds: float) -> None:
        counts = Counts(
            tokens=embedded.tokens,
            truncated=embedded.truncated,
            windowed=embedded.windowed,
            redone_in_float32=embedded.redone_in_float32,
        )
        file = write_embeddings(
            block_file(job, block),
            block_identity(job, digests, block),
            origin,
            counts,
            about.dim,
            [embedded.values],
        )
        encoder.give_back(embedded)
        if store is not None:
            store.publish(file)
        link.send(
            Finished(
                block,
                file,
                seconds,
                embedded.slots,
                embedded.busy_seconds,
                embedded.starved_seconds,
                embedded.agreement,
                embedded.flops,
                embedded.peak_memory_bytes or None,
                about.gemm_flops_per_second,
            )
        )

    compute = partial(encoder.compute, landed=link.landed)
    try:
        Pipeline(receive, prepare, compute, publish).run()
    except BlockError as error:
        if isinstance(error.__cause__, SequenceError):
            cause = error.__cause__
            row = int(block_identity(job, digests, error.block).rows()[cause.row])
            raise error from SequenceError(row, cause.why, job.sequences)
        raise


def _broke(block: Block | None, device: str, error: BaseException) -> Message:
    # Inside this process the device is always number 0; a person knows it by its own id.
    text = str(error) if device == CPU else f"GPU {device}: {error}"
    match error:
        case SequenceError(row=row):
            return Broke(block, text, explained=True, row=row)
        case DeviceMemoryError(token_budget=token_budget):
            return OutOfMemory(text, token_budget)
        case DeviceTakenError():
            return Taken(text)
        case DiskFullError():
            return DiskFull(text)
        case StoreError():
            return Broke(None, text, explained=True)  # another block could not be written either
        case WeightsError() | BackendError() if block is None:
            return Broke(None, text, explained=True, encoder=not _may_pass(error, device))
        case VirnucError():
            return Broke(block, text, explained=True)
    return Broke(block, "".join(traceback.format_exception(error)), explained=False)


def _may_pass(error: WeightsError | BackendError, device: str) -> bool:
    """Whether another load may go well: files can be read then, or a GPU is there and has room."""
    of_device = device != CPU and isinstance(error, BackendError)
    return of_device or isinstance(error.__cause__, OSError | RuntimeError)
