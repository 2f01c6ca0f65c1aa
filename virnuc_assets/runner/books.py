"""The books of a run: blocks that are done, sequences set aside, shards that are assembled."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import CancelledError, Future, wait
from types import TracebackType

from virnuc_assets.errors import DiskFullError, RunnerError
from virnuc_assets.runner.background import in_thread
from virnuc_assets.runner.events import BlockDone, Progress, ShardDone, Warned
from virnuc_assets.runner.identity import Digests
from virnuc_assets.runner.messages import Finished
from virnuc_assets.runner.output import place_of, published, work_folder
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.resume import Emit
from virnuc_assets.runner.shards import ShardState, assemble, join_pieces, row_of, shard_metadata
from virnuc_assets.runner.telemetry import Record
from virnuc_assets.store.embeddings import EmbeddingFile
from virnuc_assets.store.space import Unfinished, bytes_needed, check_space

# More than this is not the sequences' fault but the machine's or the weights'.
_MOST_SET_ASIDE = 100
# Nor is every one of a block of so many; one of fewer may well have none that is sound.
_SEQUENCES_TO_JUDGE_A_BLOCK = 8
# A shard that is being assembled when the process is ended has so long to get done.
_GRACE_SECONDS = 4.0


class Books:
    """What is done, in memory, on disk and told.

    Shards are assembled in threads of their own, because devices want their blocks meanwhile.

    A context manager: on leaving it no shard is being assembled, and none will be, so that others
    may have the run's shards; where a signal ends the process, one has a moment to get done.
    """

    def __init__(
        self,
        record: Record,
        digests: Digests,
        shards: dict[int, ShardState],
        done: dict[int, EmbeddingFile],
        emit: Emit,
    ) -> None:
        """`done`: files of shards that were there already; those to come are added to it.

        Raises:
            DiskFullError: there are blocks of an earlier run, and no room for the rest.
        """
        self.record, self.job, self.digests = record, record.job, digests
        self.shards, self.done, self.emit = shards, done, emit
        self._assembling: dict[Future[EmbeddingFile], ShardState] = {}
        # One at a time: the space that a run is said to need is that of one beside its blocks.
        self._turn = threading.Lock()
        self._closed = threading.Event()
        blocks = (
            file for n, shard in shards.items() if n not in done for file in shard.files.values()
        )
        first = next(blocks, None)
        self._dim = None if first is None else first.dim
        if self._dim is not None:
            self.check_space(self._dim)
        self._tokens = self._letters = 0
        for number, shard in shards.items():
            if number not in done:
                self._assemble_if_whole(shard)

    def book(self, finished: Finished, device: str) -> None:
        """Book a block, or a piece of one, that `device` finished."""
        block, counts = finished.block, finished.file.counts
        shard = self.shards[block.shard]
        shard.book(finished)
        self.record.device(device).book(finished)
        self.record.blocks_done += block.whole
        self._tokens += counts.tokens
        self._letters += block.letters
        self.emit(
            BlockDone(
                block.shard,
                block.block,
                block.sequences,
                counts.tokens,
                finished.seconds,
                device,
                finished.busy_seconds,
                finished.starved_seconds,
            )
        )
        if redone := counts.redone_in_float32:
            self.emit(
                Warned(
                    f"shard {block.shard}, block {block.block}: {redone} sequences overflowed in "
                    f"{self.job.encoding.dtype} and were redone in float32"
                )
            )
        self._join_if_whole(shard, block)

    def set_aside(self, block: Block, position: int, why: str) -> bool:
        """Book the sequence at `position` of the block's shard as one without an embedding.

        Returns:
            Whether every sequence of the block is set aside by now. The block then becomes whole
            by an empty piece, from which its width and origin are known.

        Raises:
            RunnerError: there are too many for this to be the sequences' own fault.
        """
        shard = self.shards[block.shard]
        row = row_of(self.job, block, position)
        shard.leave_out(block.block, position)
        self.record.set_aside.append(row)
        self.emit(
            Warned(
                f"{self.job.sequences}: row {row} breaks its block (shard {block.shard}, block "
                f"{block.block}) and is set aside, without an embedding: {why}"
            )
        )
        none_left = shard.is_set_aside(block.block)
        sequences = shard.blocks[block.block].sequences
        whole_block = none_left and sequences >= _SEQUENCES_TO_JUDGE_A_BLOCK
        if whole_block or len(self.record.set_aside) > _MOST_SET_ASIDE:
            raise RunnerError(
                f"{len(self.record.set_aside)} sequences broke their blocks"
                f"{', every one of a block' if whole_block else ''}, the last with: {why}; the "
                "machine or the weights are at fault, see the log and run `virnuc doctor`"
            )
        self._join_if_whole(shard, block)
        return none_left

    def check_space(self, dim: int) -> None:
        """Check that the disk has room for what is left, of embeddings `dim` wide.

        Raises:
            DiskFullError: it has not; the message says how much is needed.
        """
        self._dim = dim
        if published(self.job) is None:
            check_space(work_folder(self.job), self._bytes_needed(dim))

    def disk_full(self, machine: str | None) -> DiskFullError:
        """The error that says how much room is still needed; `machine` of a cluster noticed."""
        output = work_folder(self.job)
        needed = None if self._dim is None else self._bytes_needed(self._dim)
        return DiskFullError(output, needed, shutil.disk_usage(output).free, machine)

    def _bytes_needed(self, dim: int) -> int:
        unfinished = []
        for number, shard in self.shards.items():
            if number not in self.done:
                pending = shard.pending
                rows = sum(block.sequences for block in pending)
                unfinished.append(Unfinished(shard.sequences, rows, len(pending)))
        return bytes_needed(unfinished, dim)

    def progress(self, seconds: float, letters_left: int) -> Progress:
        """How far the run is after `seconds`, with `letters_left` still to be embedded."""
        return Progress(
            sequences_done=sum(shard.sequences_done for shard in self.shards.values()),
            sequences=sum(shard.sequences for shard in self.shards.values()),
            tokens_per_second=self._tokens / seconds if seconds else 0.0,
            eta_seconds=seconds * letters_left / self._letters if self._letters else None,
        )

    def collect(self) -> None:
        """Announce the shards that are assembled by now.

        Raises:
            StoreError: one could not be written.
        """
        for future in [future for future in self._assembling if future.done()]:
            shard = self._assembling.pop(future)
            file = self.done[shard.number] = future.result()
            metadata = shard_metadata(file) | shard.telemetry()
            place = place_of(self.job, file)
            self.emit(ShardDone(shard.number, place, reused=False, metadata=metadata))

    def collect_all(self) -> None:
        """Announce every shard that is whole, once it is assembled.

        Raises:
            StoreError: one could not be written.
        """
        while self._assembling:
            wait(self._assembling, return_when="FIRST_COMPLETED")
            self.collect()

    def __enter__(self) -> Books:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        goes_on = error is None or isinstance(error, Exception)
        wait(self._assembling, None if goes_on else _GRACE_SECONDS)

    def _join_if_whole(self, shard: ShardState, block: Block) -> None:
        if not block.whole:
            joined = in_thread(join_pieces, self.job, self.digests, shard, block.block)
            self.record.blocks_done += joined.result()
        self._assemble_if_whole(shard)

    def _assemble_if_whole(self, shard: ShardState) -> None:
        if shard.is_whole:
            self._assembling[in_thread(self._assemble_alone, shard)] = shard

    def _assemble_alone(self, shard: ShardState) -> EmbeddingFile:
        with self._turn:
            if self._closed.is_set():
                raise CancelledError
            return assemble(self.job, self.digests, shard)
