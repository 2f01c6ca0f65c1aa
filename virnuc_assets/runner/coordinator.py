"""The coordinator: hands out what is left of a job, assembles what is finished."""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from virnuc_assets.encoders import catalog
from virnuc_assets.errors import RunnerError
from virnuc_assets.runner.events import (
    BlockDone,
    Failed,
    Progress,
    ShardDone,
    Started,
    Warned,
)
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.pool import Died, LocalPool
from virnuc_assets.runner.resume import (
    Emit,
    ShardState,
    find_finished_blocks,
    finished_shard,
    plan_shards,
    remove_leftovers,
    sequences_done,
)
from virnuc_assets.runner.worker import (
    Broke,
    Digests,
    Finished,
    Message,
    Ready,
    block_identity,
    work,
)
from virnuc_assets.store.embeddings import (
    EmbeddingFile,
    assemble_shard,
    blocks_directory,
)
from virnuc_assets.store.lock import sole_writer

_ATTEMPTS = 2
_BLOCKS_OF_A_DEVICE = 2


@dataclass(frozen=True)
class Outcome:
    """Which shards a run left finished, and which not."""

    done: tuple[int, ...]
    failed: tuple[int, ...]


def run(job: Job, emit: Emit, worker: Callable[..., None] = work) -> Outcome:
    """Embed the job's shards; what is already there and verifies is kept.

    `worker` is what a worker process runs.

    Raises:
        VirnucError: nothing could be started (bad weights, damaged table, no such device).
    """
    job = job.resolved()
    encoding = job.encoding
    weights = catalog.resolve_weights(encoding.encoder, encoding.weights)
    hashed = catalog.weights_digest(weights)
    digests = Digests(
        weights=hashed,
        encoder=catalog.encoder_digest(encoding.encoder, hashed, encoding.long_sequences),
    )
    output = Path(job.output)
    with sole_writer(output, lambda text: emit(Warned(text))):
        shards = plan_shards(job)
        remove_leftovers(job)
        done: dict[int, EmbeddingFile] = {}
        for number, shard in shards.items():
            if (finished := finished_shard(job, digests, shard, number, emit)) is not None:
                done[number] = finished
            else:
                find_finished_blocks(job, digests, shard, emit)
        emit(
            Started(
                sequences=sum(shard.sequences for shard in shards.values()),
                sequences_done=sequences_done(shards, done),
                blocks=sum(len(shard.blocks) for shard in shards.values()),
                blocks_done=sum(
                    len(shard.blocks) if number in done else len(shard.files)
                    for number, shard in shards.items()
                ),
                devices=encoding.devices,
                model=weights.label,
            )
        )
        for number, file in done.items():
            emit(ShardDone(number, str(file.path), reused=True, metadata=shard_metadata(file)))
        embedding = _Embedding(job, digests, shards, done, emit, worker)
        embedding.run()
        failed = tuple(number for number in shards if number not in embedding.done)
        return Outcome(tuple(sorted(embedding.done)), failed)


class _Embedding:
    """The loop that hands blocks to devices until none is left."""

    def __init__(
        self,
        job: Job,
        digests: Digests,
        shards: dict[int, ShardState],
        done: dict[int, EmbeddingFile],
        emit: Emit,
        worker: Callable[..., None],
    ) -> None:
        self.job, self.digests, self.shards, self.done = job, digests, shards, done
        self.emit, self.worker = emit, worker
        # Longest first, so that the last blocks handed out are the short ones and all devices
        # finish together.
        self.queue = deque(
            sorted(
                (b for n, shard in shards.items() if n not in done for b in shard.pending),
                key=lambda b: (-b.letters, b.shard, b.block),
            )
        )
        # What each device that takes blocks has: the one it computes, then the one it prepares.
        self.handed: dict[str, deque[Block]] = {}
        self.starting: set[str] = set()
        self.failed_on: defaultdict[Block, list[str]] = defaultdict(list)
        self.failed_starts: Counter[str] = Counter()
        self.failures: dict[int, tuple[str, bool]] = {}
        self.started_at: float | None = None
        self.tokens = self.letters = 0

    def run(self) -> None:
        for number, shard in self.shards.items():
            if number not in self.done:
                self._assemble_if_whole(number, shard)
        log_level = logging.getLogger().getEffectiveLevel()
        with LocalPool(self.worker, (self.job, self.digests, log_level)) as pool:
            for device in self.job.encoding.devices[: len(self.queue)]:
                self._start(pool, device)
            while self.queue or any(self.handed.values()):
                for device, message in pool.wait():
                    self._handle(pool, device, message)
                self._hand_out(pool)
        for number, (text, explained) in sorted(self.failures.items()):
            self.emit(Failed(text, number, explained))

    def _start(self, pool: LocalPool, device: str) -> None:
        pool.start(device)
        self.starting.add(device)

    def _handle(self, pool: LocalPool, device: str, message: Message | Died) -> None:
        match message:
            case Ready():
                if self.started_at is None:
                    self.started_at = time.monotonic()
                self.starting.discard(device)
                self.handed[device] = deque()
            case Finished(block=block):
                self.handed[device].remove(block)
                # The device goes on while this one is booked.
                self._hand_out(pool)
                self._book(message, device)
            case Broke(block=None, message=text, explained=explained):
                raise RunnerError(text) if explained else RuntimeError(text)
            case Broke(block=block, message=text, explained=explained):
                self._replace(pool, device, text, explained, block)
            case Died(exit_code=code):
                text = f"the worker on {device} ended by itself (exit code {code})"
                self._replace(pool, device, text, explained=True)

    def _hand_out(self, pool: LocalPool) -> None:
        """Give each device a block to compute and, while there are plenty, one to prepare."""
        for most in range(_BLOCKS_OF_A_DEVICE):
            for device, blocks in self.handed.items():
                # A block that another device could begin at once is not kept waiting.
                scarce = len(self.queue) <= most * (len(self.handed) - 1)
                if len(blocks) == most and not scarce and (block := self._next(device)):
                    self.queue.remove(block)
                    blocks.append(block)
                    pool.send(device, block)

    def _next(self, device: str) -> Block | None:
        """The first block in the queue that `device` may have.

        One that is tried again goes alone, because of two that a device has at once it may not be
        known which made it fail; and to another device while there is one, because the fault may be
        the device's own.
        """
        held = self.handed[device]
        for block in self.queue:
            alone = bool(self.failed_on[block]) or any(self.failed_on[other] for other in held)
            elsewhere = device in self.failed_on[block] and any(
                other not in self.failed_on[block] for other in self.handed
            )
            if not elsewhere and not (held and alone):
                return block
        return None

    def _replace(
        self,
        pool: LocalPool,
        device: str,
        text: str,
        explained: bool,
        at_fault: Block | None = None,
    ) -> None:
        # A device whose code raised may be left in any state; a fresh process is the one sure cure.
        pool.retire(device)
        if device in self.starting:
            self.starting.discard(device)
            self.failed_starts[device] += 1
        blocks = self.handed.pop(device, deque())
        if at_fault is None and blocks:
            at_fault = blocks[0]
        again = [
            block
            for block in blocks
            if block != at_fault or self._is_tried_again(block, device, text, explained)
        ]
        self.queue.extendleft(reversed(again))
        self._hand_out(pool)
        if not self.queue:
            return
        if self.failed_starts[device] < _ATTEMPTS:
            self._start(pool, device)
        elif not (self.starting or self.handed):
            raise RunnerError(f"{text} before it could take a block; see the log above")
        else:
            self.emit(Warned(f"{text} twice before it could take a block and is left out"))

    def _is_tried_again(self, block: Block, device: str, text: str, explained: bool) -> bool:
        self.failed_on[block].append(device)
        if len(self.failed_on[block]) == _ATTEMPTS:
            self.failures.setdefault(block.shard, (text, explained))
            return False
        self.emit(
            Warned(
                f"shard {block.shard}, block {block.block} failed on {device} and is tried again: "
                f"{text.strip().splitlines()[-1]}"
            )
        )
        return True

    def _book(self, finished: Finished, device: str) -> None:
        block, file = finished.block, finished.file
        shard = self.shards[block.shard]
        shard.files[block.block] = file
        shard.seconds += finished.seconds
        shard.busy_seconds += finished.busy_seconds
        shard.starved_seconds += finished.starved_seconds
        if finished.agreement is not None:
            shard.agreement += finished.agreement
        shard.tokens += file.counts.tokens
        self.tokens += file.counts.tokens
        self.letters += block.letters
        self.emit(
            BlockDone(
                block.shard,
                block.block,
                block.stop - block.start,
                file.counts.tokens,
                finished.seconds,
                device,
                finished.busy_seconds,
                finished.starved_seconds,
            )
        )
        if redone := file.counts.redone_in_float32:
            self.emit(
                Warned(
                    f"shard {block.shard}, block {block.block}: {redone} sequences overflowed in "
                    f"{file.identity.dtype} and were redone in float32"
                )
            )
        self._assemble_if_whole(block.shard, shard)
        self.emit(self._progress())

    def _progress(self) -> Progress:
        elapsed = time.monotonic() - (self.started_at or 0.0)
        waiting = chain(self.queue, *self.handed.values())
        left = sum(block.letters for block in waiting)
        return Progress(
            sequences_done=sequences_done(self.shards, self.done),
            sequences=sum(shard.sequences for shard in self.shards.values()),
            tokens_per_second=self.tokens / elapsed,
            eta_seconds=elapsed * left / self.letters if self.letters else None,
        )

    def _assemble_if_whole(self, number: int, shard: ShardState) -> None:
        if shard.pending:
            return
        output = Path(self.job.output)
        files = [shard.files[block.block] for block in shard.blocks]
        whole = block_identity(self.job, self.digests, Block(number, 0, 0, shard.sequences, 0))
        file = self.done[number] = assemble_shard(output, whole, files, files[0].dim)
        shutil.rmtree(blocks_directory(output, number, self.job.n_shards))
        metadata = shard_metadata(file) | {
            "blocks": len(shard.blocks),
            "blocks_reused": shard.reused_blocks,
        }
        if shard.seconds:
            metadata["tokens_per_second"] = shard.tokens / shard.seconds
        if shard.busy_seconds:
            metadata["starved_seconds"] = shard.starved_seconds
            metadata["busy_share"] = shard.busy_seconds / (
                shard.busy_seconds + shard.starved_seconds
            )
        if shard.agreement.cosines:
            metadata["float32_cosine_min"] = shard.agreement.minimum
            metadata["float32_cosine_p1"] = shard.agreement.quantile(0.01)
            metadata["float32_cosine_median"] = shard.agreement.quantile(0.5)
            metadata["float32_cosine_of"] = len(shard.agreement.cosines)
        self.emit(ShardDone(number, str(file.path), reused=False, metadata=metadata))


def shard_metadata(file: EmbeddingFile) -> dict[str, Any]:
    """What a person wants to know of a shard file, JSON-ready."""
    return {
        "model": file.origin.model,
        "rows": file.identity.stop - file.identity.start,
        "dim": file.dim,
        "tokens": file.counts.tokens,
        "packing_efficiency": file.counts.packing_efficiency,
        "truncated": file.counts.truncated,
        "windowed": file.counts.windowed,
        "redone_in_float32": file.counts.redone_in_float32,
        "device": file.origin.device,
        "attention": file.origin.attention,
        "engine": file.origin.engine,
        "dtype": file.identity.dtype,
        "token_budget": file.origin.token_budget,
        "weights_digest": file.origin.weights_digest,
        "encoder_digest": file.identity.encoder_digest,
        "index_digest": file.identity.index_digest,
        "checksum": file.checksum,
        "bytes": file.path.stat().st_size,
    }
