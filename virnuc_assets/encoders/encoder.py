"""The encoders' front door: settings in, an `Encoder` that embeds sequences out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from virnuc_assets.encoders import alphabet, catalog, dnabert_s, esm2
from virnuc_assets.encoders.attention import SDPA, choose_backend
from virnuc_assets.encoders.catalog import MAX_TOKENS, EncoderName, LongSequences
from virnuc_assets.encoders.packed_model import Architecture, PackedModel, load_model
from virnuc_assets.encoders.packing import SPECIAL_TOKENS, Frame, Items, Pack, cut_items, make_packs
from virnuc_assets.encoders.pooling import join_windows
from virnuc_assets.errors import BackendError, SequenceError

log = logging.getLogger(__name__)

DtypeName = Literal["float32", "float16", "bfloat16"]
Tokenise = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_DEFAULT_BUDGET = {"cpu": 4096, "cuda": 16896}
# Packs on the device at once: the host reads one while the next computes.
_IN_FLIGHT = 2


@dataclass(frozen=True)
class EncoderSettings:
    """What to embed with.

    `weights`: a path or a public name. `device`: cpu, cuda or cuda:N. `attention`: auto or a
    backend. `token_budget`: slots of a pack, None for the device's default. `long_sequences`: of
    a sequence over the model's limit, keep the start or average over windows.
    """

    encoder: EncoderName
    weights: str
    device: str = "cpu"
    dtype: DtypeName = "float32"
    attention: str = "auto"
    token_budget: int | None = None
    long_sequences: LongSequences = "truncate"


@dataclass(frozen=True)
class EncoderDescription:
    """What an encoder turned out to be; recorded with everything it makes.

    `device`: the device's own name. `attention`: the backend and why. `parameters`: weights held.
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
    token_budget: int
    long_sequences: LongSequences


@dataclass(frozen=True)
class Embedded:
    """Embeddings of a batch of sequences and how it went.

    `values`: shape (n, dim), float32, in input order. `tokens`: slots that held a token of a
    sequence or around it, of all `slots` in `packs`. `truncated`, `windowed`: sequences over the
    model's limit. `redone_in_float32`: sequences, or windows of one, that overflowed in half
    precision.
    """

    values: np.ndarray
    tokens: int
    slots: int
    packs: int
    truncated: int
    windowed: int
    redone_in_float32: int


class Encoder:
    """A loaded encoder; one process and thread at a time."""

    def __init__(
        self,
        description: EncoderDescription,
        model: PackedModel,
        load_float32: Callable[[], PackedModel],
        tokenise: Tokenise,
        frame: Frame,
    ) -> None:
        self.description = description
        self._model = model
        self._load_float32 = load_float32
        self._tokenise = tokenise
        self._frame = frame

    @cached_property
    def _in_float32(self) -> PackedModel:
        return self._load_float32()

    def embed(self, sequences: Sequence[str]) -> Embedded:
        """Embed `sequences`; each one's value depends on itself alone.

        Raises:
            SequenceError: a sequence is empty, or its embedding is not finite, in float32 either.
        """
        items = self._items(sequences)
        budget = self.description.token_budget
        packs = make_packs(items, self._frame, budget)
        values = np.empty((len(items), self.description.dim), dtype=np.float32)
        redone = 0
        with torch.inference_mode():
            flying: deque[_Launched] = deque()
            for pack in packs:
                flying.append(_launch(self._model, pack))
                if len(flying) == _IN_FLIGHT:
                    redone += self._land(flying.popleft(), items, values)
            redone += sum(self._land(launched, items, values) for launched in flying)
        return Embedded(
            values=join_windows(values, items.rows, items.lengths),
            tokens=sum(pack.real_tokens for pack in packs),
            slots=len(packs) * budget,
            packs=len(packs),
            truncated=items.truncated,
            windowed=items.windowed,
            redone_in_float32=redone,
        )

    def _items(self, sequences: Sequence[str]) -> Items:
        tokens, offsets = self._tokenise(sequences)
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty):
            raise SequenceError(int(empty[0]), "it has no letters")
        limit = MAX_TOKENS[self.description.encoder] - SPECIAL_TOKENS
        return cut_items(tokens, offsets, limit, self.description.long_sequences)

    def _land(self, launched: _Launched, items: Items, values: np.ndarray) -> int:
        """Put a pack's means into `values`; how many had to be computed again in float32.

        Only those that are not finite are replaced: their neighbours keep the values they have in
        any other pack.
        """
        means, pack = launched.wait(), launched.pack
        values[pack.items] = means
        if launched.finite.item():
            return 0
        broken = ~np.isfinite(means).all(axis=1)
        if self.description.dtype != "float32":
            log.warning(
                "%d of a pack's %d sequences overflowed in %s and are computed again in float32",
                broken.sum(),
                len(pack.items),
                self.description.dtype,
            )
            means = _launch(self._in_float32, pack).wait()
            values[pack.items[broken]] = means[broken]
        still = pack.items[broken & ~np.isfinite(means).all(axis=1)]
        if len(still):
            raise SequenceError(
                int(items.rows[still].min()), "its embedding is not finite, in float32 either"
            )
        return int(broken.sum())


@dataclass(frozen=True)
class _Launched:
    """A pack whose means (items, dim) are on their way to the host."""

    pack: Pack
    means: Tensor
    finite: Tensor
    copied: torch.cuda.Event | None

    def wait(self) -> np.ndarray:
        """The means, once they have arrived."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.means.numpy()


def _launch(model: PackedModel, pack: Pack) -> _Launched:
    means = model.means(pack)
    finite = torch.isfinite(means).all()
    copied = None
    if model.device.type == "cuda":
        # Without waiting, into pinned memory; the event says when they have arrived.
        means = means.to("cpu", non_blocking=True)
        finite = finite.to("cpu", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
    return _Launched(pack, means, finite, copied)


def load_encoder(settings: EncoderSettings, weights_digest: str | None = None) -> Encoder:
    """Load the weights that `settings` name, ready to embed.

    `weights_digest` spares hashing the weights again where it is known.

    Raises:
        WeightsError: the weights are missing, unsafe or of the wrong shape.
        BackendError: the device, data type, attention backend or token budget can't serve.
    """
    device, dtype = _device(settings.device), _dtype(settings.dtype)
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
        token_budget=budget,
        long_sequences=settings.long_sequences,
    )
    log.info("loaded %s", description)
    return Encoder(description, model, load_float32, tokenise, frame)


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
