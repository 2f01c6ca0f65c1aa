"""The encoders' front door: settings in, an `Encoder` that embeds sequences out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.agreement import (
    LEAST_FOR_A_CENTRE,
    Agreement,
    agreement,
    spread_sample,
)
from virnuc_assets.encoders.arithmetic import flops
from virnuc_assets.encoders.catalog import MAX_TOKENS, EncoderName, LongSequences
from virnuc_assets.encoders.ceiling import gemm_ceiling
from virnuc_assets.encoders.in_flight import Batch, Launched, ResultMemory, launch, warm_up
from virnuc_assets.encoders.loading import Loaded, choose_token_budget, load
from virnuc_assets.encoders.pack_stream import PackStream, SharedPack
from virnuc_assets.encoders.packing import SPECIAL_TOKENS, Items, cut_items, make_packs
from virnuc_assets.encoders.pooling import join_windows
from virnuc_assets.encoders.settings import (
    DtypeName,
    EncoderSettings,
    check_token_budget,
    device_of,
    dtype_of,
)
from virnuc_assets.encoders.token_budget import is_out_of_memory
from virnuc_assets.errors import BackendError, DeviceMemoryError, SequenceError

__all__ = [
    "Embedded",
    "Encoder",
    "EncoderDescription",
    "EncoderSettings",
    "load_encoder",
]

log = logging.getLogger(__name__)

# Items of a batch in fp8 that are validated unasked, and about their tokens at most, but never too
# few for a centre: float32 is slow.
_VALIDATED_IN_FP8 = 32
_MOST_TOKENS_IN_FP8 = 4096
# Packs on the device at once: one that computes and those that keep it busy while the host is late.
_IN_FLIGHT = 3


@dataclass(frozen=True)
class EncoderDescription:
    """What an encoder turned out to be; logged, and most of it recorded with what it makes.

    `device`: the device's own name. `attention`: the backend and why. `engine`: fused layers, or
    plain ones and why, and on a CPU what computes their products. `token_budget_reason`: why so
    many slots. `gemm_flops_per_second`: what the card was measured to
    reach on the model's products in half precision (in float32, if that is the data type) and
    nothing else, from idle; fp8 may pass it. None on a CPU.
    """

    encoder: EncoderName
    label: str
    weights_digest: str
    encoder_digest: str
    dim: int
    device: str
    dtype: DtypeName
    attention: str
    engine: str
    token_budget: int
    token_budget_reason: str
    long_sequences: LongSequences
    gemm_flops_per_second: float | None


@dataclass(frozen=True)
class Embedded:
    """Embeddings of a batch of sequences and how it went.

    `values`: shape (n, dim), float32, in input order. `tokens`: slots that held a token of a
    sequence or around it. `slots`: of the packs they were in, their share. `truncated`,
    `windowed`: sequences over the model's limit. `redone_in_float32`: sequences, or windows of one,
    that overflowed in half precision. `flops`: the model's arithmetic on these tokens
    (`arithmetic.flops`), padding and what was done again or to compare left out. `busy_seconds`,
    `starved_seconds`: how long a CUDA device computed, and how long it had nothing to do before a
    pack (0 elsewhere).
    `peak_memory_bytes`: the most that this process has held on a CUDA device since the encoder was
    loaded (0 elsewhere). `agreement`: with float32 on a sample of these very sequences or windows,
    in fp8 or where it is asked for.
    """

    values: np.ndarray
    tokens: int
    slots: int
    truncated: int
    windowed: int
    redone_in_float32: int
    flops: float
    busy_seconds: float = 0.0
    starved_seconds: float = 0.0
    peak_memory_bytes: int = 0
    agreement: Agreement | None = None


class Encoder:
    """A loaded encoder; computes in one process and thread at a time."""

    def __init__(
        self, description: EncoderDescription, loaded: Loaded, settings: EncoderSettings
    ) -> None:
        self.description = description
        self._loaded = loaded
        self._settings = settings
        self._memory = ResultMemory(description.dim)

    def embed(self, sequences: Sequence[str]) -> Embedded:
        """Embed `sequences`; each one's value depends on itself alone.

        Raises:
            SequenceError: a sequence is empty, or its embedding is not finite, in float32 either.
            DeviceMemoryError: the device's memory is full.
            BackendError: in fp8, embeddings are too far from float32's.
        """
        return next(self.compute([self.prepare(sequences)]))

    def prepare(self, sequences: Sequence[str]) -> Batch:
        """Tokenise `sequences`: the host's work, which any thread may do ahead. To compute once.

        Raises:
            SequenceError: a sequence is empty.
        """
        tokens, offsets = self._loaded.tokenise(sequences)
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty):
            raise SequenceError(int(empty[0]), "it has no letters")
        limit = self._longest - SPECIAL_TOKENS
        items = cut_items(tokens, offsets, limit, self.description.long_sequences)
        return Batch(items, self._memory.take(len(items)))

    def give_back(self, embedded: Embedded) -> None:
        """Let the memory of `embedded` be used again; from any thread, once it is written."""
        self._memory.give_back(embedded.values)

    def compute(
        self, batches: Iterable[Batch | None], landed: Callable[[], None] = lambda: None
    ) -> Iterator[Embedded]:
        """Embed batch after batch, in order: the device's work.

        A batch's last items share a pack with the next batch's first, and the device is given its
        next packs before it is done with one. None among `batches` says that the next is not ready:
        what is under way is finished meanwhile. `landed` is called whenever the device is done with
        a pack.

        Raises:
            SequenceError: an embedding of the oldest batch not yet yielded is not finite, in
                float32 either.
            DeviceMemoryError: the device's memory is full.
            BackendError: in fp8, embeddings are too far from float32's.
        """
        try:
            yield from self._compute(batches, landed)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            about = self.description
            raise DeviceMemoryError(about.device, about.token_budget) from error

    def _compute(
        self, batches: Iterable[Batch | None], landed: Callable[[], None]
    ) -> Iterator[Embedded]:
        begun: deque[Batch] = deque()
        flying: deque[tuple[SharedPack[Batch], Launched]] = deque()
        # The pack before, whose end tells how long the device then waited; None after work in
        # float32, which is no waiting.
        last: Launched | None = None
        for shared in self._packs(batches, begun):
            if shared is not None:
                last = launch(self._loaded.model, shared.pack, last)
                flying.append((shared, last))
            while len(flying) >= (_IN_FLIGHT if shared is not None else 1):
                if self._land(*flying.popleft()):
                    last = None
                landed()
            while begun and (begun[0].error or not begun[0].items_left):
                done = begun[0]
                if done.error:
                    raise done.error
                if (found := self._compare(done)) is not None:
                    last = None
                begun.popleft()
                yield self._embedded(done, found)

    def _packs(
        self, batches: Iterable[Batch | None], begun: deque[Batch]
    ) -> Iterator[SharedPack[Batch] | None]:
        """Every pack, its batches noted in `begun`; None where the device may catch up."""
        stream = PackStream[Batch](self._loaded.frame, self.description.token_budget)
        for batch in batches:
            if batch is not None:
                begun.append(batch)
                yield from stream.add(batch, batch.items)
            if batch is None or not len(batch.items):
                yield from stream.flush()
                yield None
        yield from stream.flush()
        yield None

    def _land(self, shared: SharedPack[Batch], launched: Launched) -> bool:
        """Put a pack's means into its batches; whether some had to be computed again."""
        means = launched.wait()
        for share in shared.shares:
            share.batch.take(share, launched, means)
        if launched.finite.item():
            return False
        whole = np.isfinite(means).all(axis=1)
        for share in shared.shares:
            self._redo(share.batch, share.items[~whole[share.places]])
        return True

    def _redo(self, batch: Batch, broken: np.ndarray) -> None:
        """Compute the `broken` items of `batch` again, in float32.

        They alone: their neighbours keep the values they have in any other pack.
        """
        if self.description.dtype != "float32" and len(broken):
            log.warning(
                "%d sequences overflowed in %s and are computed again in float32",
                len(broken),
                self.description.dtype,
            )
            batch.values[broken] = self._means_in_float32(batch.items, broken)
        still = broken[~np.isfinite(batch.values[broken]).all(axis=1)]
        if len(still):
            batch.error = SequenceError(
                int(batch.items.rows[still].min()), "its embedding is not finite, in float32 either"
            )
        batch.redone += len(broken)

    def _means_in_float32(self, items: Items, chosen: np.ndarray) -> np.ndarray:
        """Means of the `chosen` of `items`, in their order, shape (n, dim).

        Packs have one shape here too, the least that holds every sequence, so that a value does
        not depend on what else was chosen, nor on the token budget.
        """
        some = replace(
            items, starts=items.starts[chosen], lengths=items.lengths[chosen], rows=chosen
        )
        means = np.empty((len(chosen), self.description.dim), dtype=np.float32)
        for pack in make_packs(some, self._loaded.frame, self._longest):
            means[pack.items] = launch(self._loaded.in_float32(), pack).wait()
        return means

    def _compare(self, batch: Batch) -> Agreement | None:
        """Embed a sample of `batch`, if any is wanted, in float32 and compare."""
        items = batch.items
        in_fp8 = self.description.dtype == "fp8"
        wanted = max(self._settings.validate, _VALIDATED_IN_FP8 if in_fp8 else 0)
        if not wanted or not len(items):
            return None
        if not self._settings.validate:
            affordable = _MOST_TOKENS_IN_FP8 // int(items.lengths.max())
            wanted = min(wanted, max(LEAST_FOR_A_CENTRE, affordable))
        sample = spread_sample(len(items), wanted)
        found = agreement(batch.values[sample], self._means_in_float32(items, sample))
        if in_fp8:
            check_fp8(found, self._settings.min_cosine, self._settings.min_centred_median)
        return found

    def _embedded(self, batch: Batch, found: Agreement | None) -> Embedded:
        device = self._loaded.model.device
        return Embedded(
            values=join_windows(batch.values, batch.items.rows, batch.items.lengths),
            tokens=batch.tokens,
            slots=batch.slots,
            truncated=batch.items.truncated,
            windowed=batch.items.windowed,
            redone_in_float32=batch.redone,
            flops=flops(self._loaded.config, batch.items.lengths + SPECIAL_TOKENS),
            busy_seconds=batch.busy_seconds,
            starved_seconds=batch.starved_seconds,
            peak_memory_bytes=(
                torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
            ),
            agreement=found,
        )

    @property
    def _longest(self) -> int:
        return MAX_TOKENS[self.description.encoder]


def check_fp8(found: Agreement, min_cosine: float, min_centred_median: float) -> None:
    """Stop where embeddings in fp8 are too far from float32's.

    Raises:
        BackendError: a plain cosine is under `min_cosine` or NaN, or the median of the centred
            ones, where there are any, under `min_centred_median`.
    """
    if not found.minimum >= min_cosine:
        raise BackendError(
            f"dtype=fp8: an embedding's cosine to float32 is {found.minimum:.4f}, under "
            f"{min_cosine}; use dtype=float16"
        )
    centred = found.centred_median
    if centred is not None and not centred >= min_centred_median:
        raise BackendError(
            f"dtype=fp8: the embeddings' differences from their mean have a median cosine to "
            f"float32's of {centred:.4f}, under {min_centred_median}; use dtype=float16"
        )


def load_encoder(settings: EncoderSettings, weights_digest: str | None = None) -> Encoder:
    """Load the weights that `settings` name, ready to embed.

    `weights_digest` spares hashing the weights again where it is known.

    Raises:
        WeightsError: the weights are missing, unsafe or of the wrong shape.
        BackendError: the device, data type, attention backend or token budget can't serve.
        DeviceMemoryError: the device's memory holds no pack beside the model.
    """
    device, dtype = device_of(settings), dtype_of(settings)
    check_token_budget(settings)
    if device.index is not None:
        torch.cuda.set_device(device)
    weights = catalog.resolve_weights(settings.encoder, settings.weights)
    digest = weights_digest or catalog.weights_digest(weights)
    loaded = load(settings, weights, device)
    budget, reason = choose_token_budget(settings, loaded, digest)
    ceiling = gemm_ceiling(loaded.config, device, dtype, budget)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    try:
        warm_up(loaded.model, loaded.frame, budget, MAX_TOKENS[settings.encoder])
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(name, budget) from error
    description = EncoderDescription(
        encoder=settings.encoder,
        label=weights.label,
        weights_digest=digest,
        encoder_digest=catalog.encoder_digest(settings.encoder, digest, settings.long_sequences),
        dim=loaded.config.dim,
        device=name,
        dtype=settings.dtype,
        attention=loaded.attention,
        engine=loaded.engine,
        token_budget=budget,
        token_budget_reason=reason,
        long_sequences=settings.long_sequences,
        gemm_flops_per_second=ceiling,
    )
    log.info("loaded %s", description)
    return Encoder(description, loaded, settings)
