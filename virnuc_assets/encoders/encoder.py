"""The encoders' front door: settings in, an `Encoder` that embeds sequences out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from virnuc_assets.encoders import alphabet, catalog, dnabert_s, esm2
from virnuc_assets.encoders.agreement import Agreement, agreement, spread_sample
from virnuc_assets.encoders.attention import SDPA, choose_backend
from virnuc_assets.encoders.catalog import MAX_TOKENS, EncoderName, LongSequences
from virnuc_assets.encoders.fusing import load_fused, obstacle_to_fusing
from virnuc_assets.encoders.packed_model import Architecture, PackedModel, load_model
from virnuc_assets.encoders.packing import SPECIAL_TOKENS, Frame, Items, Pack, cut_items, make_packs
from virnuc_assets.encoders.pooling import join_windows
from virnuc_assets.errors import BackendError, SequenceError

log = logging.getLogger(__name__)

DtypeName = Literal["float32", "float16", "bfloat16", "fp8"]
Tokenise = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]

# What activations are in between products; fp8 is what most of its products are in.
_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8": torch.float16,
}
_DEFAULT_BUDGET = {"cpu": 4096, "cuda": 16896}
# Items of a batch in fp8 that are validated unasked, and their tokens at most: float32 is slow.
_VALIDATED_IN_FP8 = 32
_MOST_TOKENS_IN_FP8 = 4096
# Packs on the device at once: the host reads one while the next computes. With more, packs of two
# batches could land in one step, and an error would be put down to the wrong one.
_IN_FLIGHT = 2


@dataclass(frozen=True)
class EncoderSettings:
    """What to embed with.

    `weights`: a path or a public name. `device`: cpu, cuda or cuda:N. `attention`: auto or a
    backend. `token_budget`: slots of a pack, None for the device's default. `long_sequences`: of
    a sequence over the model's limit, keep the start or average over windows. `float16_ends`:
    layers at either end that fp8 leaves in float16. `validate`: sequences of each batch that are
    embedded in float32 too, to compare. `min_cosine`: what an embedding in fp8 must reach.
    """

    encoder: EncoderName
    weights: str
    device: str = "cpu"
    dtype: DtypeName = "float32"
    attention: str = "auto"
    token_budget: int | None = None
    long_sequences: LongSequences = "truncate"
    float16_ends: int = 1
    validate: int = 0
    min_cosine: float = 0.99


@dataclass(frozen=True)
class EncoderDescription:
    """What an encoder turned out to be; recorded with everything it makes.

    `device`: the device's own name. `attention`: the backend and why. `engine`: fused layers, or
    plain ones and why. `parameters`: weights held.
    """

    encoder: EncoderName
    label: str
    weights_digest: str
    encoder_digest: str
    dim: int
    layers: int
    parameters: int
    device: str
    dtype: DtypeName
    attention: str
    engine: str
    token_budget: int
    long_sequences: LongSequences


@dataclass(frozen=True)
class Embedded:
    """Embeddings of a batch of sequences and how it went.

    `values`: shape (n, dim), float32, in input order. `tokens`: slots that held a token of a
    sequence or around it, of all `slots` in `packs`. `truncated`, `windowed`: sequences over the
    model's limit. `redone_in_float32`: sequences, or windows of one, that overflowed in half
    precision. `busy_seconds`, `starved_seconds`: how long a CUDA device computed, and how long it
    had nothing to do before a pack (0 elsewhere). `agreement`: with float32 on a sample of these
    very sequences or windows, in fp8 or where it is asked for.
    """

    values: np.ndarray
    tokens: int
    slots: int
    packs: int
    truncated: int
    windowed: int
    redone_in_float32: int
    busy_seconds: float = 0.0
    starved_seconds: float = 0.0
    agreement: Agreement | None = None


@dataclass(frozen=True)
class Prepared:
    """Sequences tokenised and packed, ready for the device."""

    items: Items
    packs: list[Pack]


class Encoder:
    """A loaded encoder; computes in one process and thread at a time."""

    def __init__(
        self,
        description: EncoderDescription,
        model: PackedModel,
        load_float32: Callable[[], PackedModel],
        tokenise: Tokenise,
        frame: Frame,
        validate: int,
        min_cosine: float,
    ) -> None:
        self.description = description
        self._model = model
        self._load_float32 = load_float32
        self._tokenise = tokenise
        self._frame = frame
        self._validate = validate
        self._min_cosine = min_cosine

    @cached_property
    def _in_float32(self) -> PackedModel:
        return self._load_float32()

    def embed(self, sequences: Sequence[str]) -> Embedded:
        """Embed `sequences`; each one's value depends on itself alone.

        Raises:
            SequenceError: a sequence is empty, or its embedding is not finite, in float32 either.
        """
        return next(self.compute([self.prepare(sequences)]))

    def prepare(self, sequences: Sequence[str]) -> Prepared:
        """Tokenise and pack `sequences`: the host's work, which any thread may do ahead.

        Raises:
            SequenceError: a sequence is empty.
        """
        items = self._items(sequences)
        return Prepared(items, make_packs(items, self._frame, self.description.token_budget))

    def compute(self, batches: Iterable[Prepared | None]) -> Iterator[Embedded]:
        """Embed batch after batch, in order: the device's work.

        The device is given its next pack before it is done with one, across batches too. None
        among `batches` says that the next is not ready: what is under way is finished meanwhile.

        Raises:
            SequenceError: an embedding of the oldest batch not yet yielded is not finite, in
                float32 either.
            BackendError: in fp8, an embedding is too far from float32's.
        """
        begun: deque[_Batch] = deque()
        flying: deque[_Launched] = deque()
        # The pack before, whose end tells how long the device then waited; None after work in
        # float32, which is no waiting.
        last: _Launched | None = None
        for batch, pack in _packs(batches, begun, self.description.dim):
            if batch is not None and pack is not None:
                last = _launch(self._model, batch, pack, last)
                flying.append(last)
            while len(flying) >= (_IN_FLIGHT if pack is not None else 1):
                if self._land(flying.popleft()):
                    last = None
            while begun and not begun[0].left:
                done = begun.popleft()
                embedded = done.embedded(self.description.token_budget)
                if (found := self._compare(done)) is not None:
                    last = None
                yield replace(embedded, agreement=found)

    def _items(self, sequences: Sequence[str]) -> Items:
        tokens, offsets = self._tokenise(sequences)
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty):
            raise SequenceError(int(empty[0]), "it has no letters")
        limit = MAX_TOKENS[self.description.encoder] - SPECIAL_TOKENS
        return cut_items(tokens, offsets, limit, self.description.long_sequences)

    def _land(self, launched: _Launched) -> bool:
        """Put a pack's means into its batch; whether some had to be computed again.

        Only those that are not finite are computed again, in float32: their neighbours keep the
        values they have in any other pack.
        """
        batch, pack = launched.batch, launched.pack
        means = launched.wait()
        batch.take(launched, means)
        if launched.finite.item():
            return False
        broken = ~np.isfinite(means).all(axis=1)
        if self.description.dtype != "float32":
            log.warning(
                "%d of a pack's %d sequences overflowed in %s and are computed again in float32",
                broken.sum(),
                len(pack.items),
                self.description.dtype,
            )
            means = _launch(self._in_float32, batch, pack, None).wait()
            batch.values[pack.items[broken]] = means[broken]
        still = pack.items[broken & ~np.isfinite(means).all(axis=1)]
        if len(still):
            raise SequenceError(
                int(batch.items.rows[still].min()), "its embedding is not finite, in float32 either"
            )
        batch.redone += int(broken.sum())
        return True

    def _compare(self, batch: _Batch) -> Agreement | None:
        """Embed a sample of `batch`, if any is wanted, in float32 and compare."""
        items = batch.items
        in_fp8 = self.description.dtype == "fp8"
        wanted = max(self._validate, _VALIDATED_IN_FP8 if in_fp8 else 0)
        if not wanted or not len(items):
            return None
        if not self._validate:
            wanted = min(wanted, max(1, _MOST_TOKENS_IN_FP8 // int(items.lengths.max())))
        sample = spread_sample(len(items), wanted)
        chosen = replace(
            items, starts=items.starts[sample], lengths=items.lengths[sample], rows=sample
        )
        slots = int((chosen.lengths + SPECIAL_TOKENS).sum())
        (pack,) = make_packs(chosen, self._frame, slots)
        reference = _launch(self._in_float32, batch, pack, None).wait()
        found = agreement(batch.values[sample[pack.items]], reference)
        if in_fp8 and not found.minimum >= self._min_cosine:
            raise BackendError(
                f"dtype=fp8: an embedding's cosine to float32 is {found.minimum:.4f}, under "
                f"{self._min_cosine}; use dtype=float16"
            )
        return found


class _Batch:
    """A batch on its way through the device: what has arrived, and how many packs have not."""

    def __init__(self, prepared: Prepared, dim: int) -> None:
        self.items = prepared.items
        self.packs = prepared.packs
        self.values = np.empty((len(prepared.items), dim), dtype=np.float32)
        self.left = len(prepared.packs)
        self.redone = 0
        self.busy_seconds = self.starved_seconds = 0.0

    def take(self, launched: _Launched, means: np.ndarray) -> None:
        self.values[launched.pack.items] = means
        self.busy_seconds += launched.busy_seconds
        self.starved_seconds += launched.starved_seconds
        self.left -= 1

    def embedded(self, budget: int) -> Embedded:
        return Embedded(
            values=join_windows(self.values, self.items.rows, self.items.lengths),
            tokens=sum(pack.real_tokens for pack in self.packs),
            slots=len(self.packs) * budget,
            packs=len(self.packs),
            truncated=self.items.truncated,
            windowed=self.items.windowed,
            redone_in_float32=self.redone,
            busy_seconds=self.busy_seconds,
            starved_seconds=self.starved_seconds,
        )


def _packs(
    batches: Iterable[Prepared | None], begun: deque[_Batch], dim: int
) -> Iterator[tuple[_Batch | None, Pack | None]]:
    """Every pack with its batch, noted in `begun`; no pack where the device may catch up."""
    for prepared in batches:
        if prepared is not None:
            batch = _Batch(prepared, dim)
            begun.append(batch)
            for pack in batch.packs:
                yield batch, pack
            if batch.packs:
                continue
        yield None, None
    yield None, None


@dataclass(frozen=True)
class _Launched:
    """A pack whose means (items, dim) are on their way to the host.

    `before`: when the device was done with the pack before; `begin` and `end`: when it began this
    one's first kernel and was done with its last; `copied`: when the means had arrived. None where
    there is no device to wait for.
    """

    batch: _Batch
    pack: Pack
    means: Tensor
    finite: Tensor
    before: torch.cuda.Event | None = None
    begin: torch.cuda.Event | None = None
    end: torch.cuda.Event | None = None
    copied: torch.cuda.Event | None = None

    def wait(self) -> np.ndarray:
        """The means, once they have arrived."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.means.numpy()

    @property
    def busy_seconds(self) -> float:
        """How long the device computed, once the means have arrived."""
        if self.begin is None or self.end is None:
            return 0.0
        return float(self.begin.elapsed_time(self.end)) / 1000

    @property
    def starved_seconds(self) -> float:
        """How long the device had had nothing to do before."""
        if self.before is None or self.begin is None:
            return 0.0
        return float(self.before.elapsed_time(self.begin)) / 1000


@torch.inference_mode()
def _launch(model: PackedModel, batch: _Batch, pack: Pack, after: _Launched | None) -> _Launched:
    if model.device.type != "cuda":
        means = model.means(pack)
        return _Launched(batch, pack, means, torch.isfinite(means).all())
    # Without waiting, into pinned memory; the events say when what is done.
    # Events and kernels go to the stream of the device that is the current one.
    with torch.cuda.device(model.device):
        begin, end, copied = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        begin.record()
        means = model.means(pack)
        finite = torch.isfinite(means).all()
        end.record()
        on_host = means.to("cpu", non_blocking=True), finite.to("cpu", non_blocking=True)
        copied.record()
    before = None if after is None else after.end
    return _Launched(batch, pack, *on_host, before, begin, end, copied)


def load_encoder(settings: EncoderSettings, weights_digest: str | None = None) -> Encoder:
    """Load the weights that `settings` name, ready to embed.

    `weights_digest` spares hashing the weights again where it is known.

    Raises:
        WeightsError: the weights are missing, unsafe or of the wrong shape.
        BackendError: the device, data type, attention backend or token budget can't serve.
    """
    device, dtype = _device(settings.device), _dtype(settings.dtype)
    if device.index is not None:
        torch.cuda.set_device(device)
    budget = _token_budget(settings, device)
    weights = catalog.resolve_weights(settings.encoder, settings.weights)
    config: esm2.ESM2Config | dnabert_s.DNABERTSConfig
    architecture: Architecture
    tokenise: Tokenise
    if settings.encoder == "esm2":
        config, state = esm2.read(weights)
        architecture, pooling_margin = partial(esm2.ESM2, config), 1
        tokenise, frame = alphabet.tokenise, Frame(alphabet.CLS, alphabet.EOS, alphabet.PAD)
    else:
        config, state = dnabert_s.read(weights)
        architecture, pooling_margin = partial(dnabert_s.DNABERTS, config), 0
        tokenise, frame = dnabert_s.load_tokeniser(weights.path)
    attention = choose_backend(
        settings.attention,
        device,
        dtype,
        needs_alibi=settings.encoder == "dnabert-s",
        head_dim=config.head_dim,
    )
    if device.type == "cuda":
        # Partial sums of a product stay in float32, so that they don't overflow.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    obstacle = obstacle_to_fusing(attention, device, config.dim, config.ffn_dim, config.head_dim)
    if settings.dtype == "fp8" and (obstacle or settings.encoder != "esm2"):
        raise BackendError(
            f"dtype=fp8: can't serve here ({obstacle or 'only ESM-2 has it'}); use dtype=float16"
        )
    if settings.dtype == "fp8" and not 0 <= 2 * settings.float16_ends < config.layers:
        raise BackendError(
            f"float16_ends={settings.float16_ends}: leaves none of {config.layers} layers in fp8; "
            "use a smaller number"
        )
    if obstacle is None:
        float8_layers = range(0)
        if settings.dtype == "fp8":
            float8_layers = range(settings.float16_ends, config.layers - settings.float16_ends)
        model = load_fused(config, state, attention, device, dtype, pooling_margin, float8_layers)
    else:
        model = load_model(architecture, state, attention, device, dtype, pooling_margin)

    def load_float32() -> PackedModel:
        # From the checkpoint, not from the half-precision weights: what these lost is the point.
        _, state = esm2.read(weights) if settings.encoder == "esm2" else dnabert_s.read(weights)
        return load_model(architecture, state, SDPA, device, torch.float32, pooling_margin)

    digest = weights_digest or catalog.weights_digest(weights)
    description = EncoderDescription(
        encoder=settings.encoder,
        label=weights.label,
        weights_digest=digest,
        encoder_digest=catalog.encoder_digest(settings.encoder, digest, settings.long_sequences),
        dim=config.dim,
        layers=config.layers,
        parameters=sum(tensor.numel() for tensor in state.values()),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        dtype=settings.dtype,
        attention=f"{attention.name} ({attention.reason})",
        engine="fused" if obstacle is None else f"plain ({obstacle})",
        token_budget=budget,
        long_sequences=settings.long_sequences,
    )
    log.info("loaded %s", description)
    return Encoder(
        description, model, load_float32, tokenise, frame, settings.validate, settings.min_cosine
    )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"device={name}: no such device; use cpu, cuda or cuda:N") from error
    if device.type not in _DEFAULT_BUDGET:
        raise BackendError(f"device={name}: can't serve; use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices that torch "
            "can use; use device=cpu or run `virnuc doctor`"
        )
    return device


def _dtype(name: str) -> torch.dtype:
    if name not in _DTYPES:
        raise BackendError(f"dtype={name}: no such data type; use one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _token_budget(settings: EncoderSettings, device: torch.device) -> int:
    budget = settings.token_budget
    if budget is None:
        return _DEFAULT_BUDGET[device.type]
    if budget < MAX_TOKENS[settings.encoder]:
        raise BackendError(
            f"token_budget={budget}: holds no sequence of the longest length; use "
            f"{MAX_TOKENS[settings.encoder]} or more for {settings.encoder}"
        )
    return budget
