"""From weights on disk to a model on its device, with the token budget that its memory holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from virnuc_assets.encoders import alphabet, byte_pairs, dnabert_s, esm2
from virnuc_assets.encoders.arithmetic import Config
from virnuc_assets.encoders.attention import SDPA, Attention, choose_backend
from virnuc_assets.encoders.catalog import MAX_TOKENS, Weights
from virnuc_assets.encoders.fusing import load_fused, obstacle_to_fusing
from virnuc_assets.encoders.in_flight import launch
from virnuc_assets.encoders.packed_model import Architecture, PackedModel, load_model
from virnuc_assets.encoders.packing import SPECIAL_TOKENS, Frame, Items, Pack, make_packs
from virnuc_assets.encoders.settings import DEFAULT_BUDGET, EncoderSettings, dtype_of
from virnuc_assets.encoders.token_budget import (
    Circumstances,
    cache_file,
    fit_remembered,
    is_out_of_memory,
)
from virnuc_assets.errors import BackendError

log = logging.getLogger(__name__)

Tokenise = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Loaded:
    """A model on its device and what feeds it.

    `in_float32` loads the same weights in float32 when first called, and keeps them. `attention`
    and `engine`: what serves and why.
    """

    config: Config
    model: PackedModel
    in_float32: Callable[[], PackedModel]
    tokenise: Tokenise
    frame: Frame
    attention: str
    engine: str


def load(settings: EncoderSettings, weights: Weights, device: torch.device) -> Loaded:
    """Load `weights` as `settings` say.

    Raises:
        WeightsError: the weights are unsafe or of the wrong shape.
        BackendError: the data type or attention backend can't serve, or the device's memory does
            not hold the model.
    """
    dtype = dtype_of(settings)
    config, state = _read(weights)
    architecture: Architecture
    tokenise: Tokenise
    if isinstance(config, esm2.ESM2Config):
        architecture, pooling_margin = partial(esm2.ESM2, config), 1
        tokenise, frame = alphabet.tokenise, Frame(alphabet.CLS, alphabet.EOS, alphabet.PAD)
    else:
        architecture, pooling_margin = partial(dnabert_s.DNABERTS, config), 0
        tokenise, frame = byte_pairs.load_tokeniser(weights.path)
    attention = choose_backend(
        settings.attention,
        device,
        dtype,
        needs_alibi=isinstance(config, dnabert_s.DNABERTSConfig),
        head_dim=config.head_dim,
    )
    if device.type == "cuda":
        # Partial sums of a product stay in float32, so that they don't overflow.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    obstacle = obstacle_to_fusing(attention, device, config.dim, config.ffn_dim, config.head_dim)
    float8_layers = _float8_layers(settings, config, obstacle)

    def on_device(state: Mapping[str, Tensor], of: torch.dtype, by: Attention) -> PackedModel:
        return load_model(architecture, state, by, device, of, pooling_margin)

    @cache
    def in_float32() -> PackedModel:
        # From the checkpoint, not from the half-precision weights: what these lost is the point.
        return on_device(_read(weights)[1], torch.float32, SDPA)

    try:
        if obstacle is None:
            model = load_fused(
                config, state, attention, device, dtype, pooling_margin, float8_layers
            )
        else:
            model = on_device(state, dtype, attention)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise BackendError(
            f"device={settings.device}: its free memory does not hold {weights.label} in "
            f"{settings.dtype}; end what else uses it, or use a smaller model or dtype=float16"
        ) from error
    return Loaded(
        config,
        model,
        in_float32,
        tokenise,
        frame,
        attention=f"{attention.name} ({attention.reason})",
        engine="fused" if obstacle is None else f"plain ({obstacle}), {model.products}",
    )


def _read(weights: Weights) -> tuple[Config, dict[str, Tensor]]:
    return esm2.read(weights) if weights.encoder == "esm2" else dnabert_s.read(weights)


def _float8_layers(settings: EncoderSettings, config: Config, obstacle: str | None) -> range:
    if settings.dtype != "fp8":
        return range(0)
    if obstacle or settings.encoder != "esm2":
        raise BackendError(
            f"dtype=fp8: can't serve here ({obstacle or 'only ESM-2 has it'}); use dtype=float16"
        )
    if not 0 <= 2 * settings.float16_ends < config.layers:
        raise BackendError(
            f"float16_ends={settings.float16_ends}: leaves none of {config.layers} layers in fp8; "
            "use a smaller number"
        )
    return range(settings.float16_ends, config.layers - settings.float16_ends)


def choose_token_budget(
    settings: EncoderSettings, loaded: Loaded, weights_digest: str
) -> tuple[int, str]:
    """The slots of a pack, and why so many, in words.

    On CUDA, where none is set, the largest that runs beside the model; beside its weights in
    float32 too, where sequences are to be compared with float32's.

    Raises:
        DeviceMemoryError: not even the smallest runs.
    """
    device = loaded.model.device
    default = DEFAULT_BUDGET[device.type][settings.encoder]
    if settings.token_budget is not None:
        return settings.token_budget, "set"
    if device.type != "cuda":
        return default, "the default"
    if settings.validate or settings.dtype == "fp8":
        loaded.in_float32()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    circumstances = Circumstances(
        card=torch.cuda.get_device_name(device),
        card_bytes=total,
        weights_digest=weights_digest,
        dtype=settings.dtype,
        engine=f"{loaded.engine}; {loaded.attention}; validate={bool(settings.validate)}",
        torch=torch.__version__,
        default=default,
    )
    longest = MAX_TOKENS[settings.encoder]
    holds = partial(_holds, loaded, longest)
    found = fit_remembered(circumstances, longest, free, holds, cache_file())
    if found.token_budget == default:
        return default, "the default"
    reason = f"{default} did not fit in {found.free_bytes / 2**30:.1f} GiB of free memory"
    log.warning("%s: token budget %d (%s)", circumstances.card, found.token_budget, reason)
    return found.token_budget, reason


def full_pack(config: Config, frame: Frame, budget: int, longest: int) -> Pack:
    """A pack of `budget` slots filled with random tokens, in sequences of `longest` slots."""
    whole, rest = divmod(budget, longest)
    slots = np.array([longest] * whole + [rest] * (rest > SPECIAL_TOKENS))
    lengths = slots - SPECIAL_TOKENS
    ends = np.cumsum(lengths)
    tokens = np.random.default_rng(0).integers(0, config.vocabulary, ends[-1]).astype(np.int32)
    items = Items(tokens, ends - lengths, lengths, np.arange(len(lengths)), 0, 0)
    (pack,) = make_packs(items, frame, budget)
    return pack


def _holds(loaded: Loaded, longest: int, budget: int) -> bool:
    try:
        launch(loaded.model, full_pack(loaded.config, loaded.frame, budget, longest)).wait()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        torch.cuda.empty_cache()
    return True
