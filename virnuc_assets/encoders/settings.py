"""What to embed with, and what of it can be told wrong before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from virnuc_assets.encoders.catalog import MAX_TOKENS, EncoderName, LongSequences
from virnuc_assets.errors import BackendError

DtypeName = Literal["float32", "float16", "bfloat16", "fp8"]

# What activations are in between products; fp8 is what most of its products are in.
_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8": torch.float16,
}
DEFAULT_BUDGET: dict[str, dict[EncoderName, int]] = {
    "cpu": {"esm2": 4096, "dnabert-s": 4096},
    # Launching a pack takes the host 6 to 10 ms whatever its size; DNABERT-S computes 16 896 slots
    # in as long.
    "cuda": {"esm2": 16896, "dnabert-s": 67584},
}
"""Token budget of each kind of device, where its memory allows."""


@dataclass(frozen=True)
class EncoderSettings:
    """What to embed with.

    `weights`: a path or a public name. `device`: cpu, cuda or cuda:N. `attention`: auto or a
    backend. `token_budget`: slots of a pack, None for what the device's memory holds, at most the
    default. `long_sequences`: of a sequence over the model's limit, keep the start or
    average over windows. `float16_ends`: layers at either end that fp8 leaves in float16.
    `validate`: sequences of each batch that are embedded in float32 too, to compare. `min_cosine`:
    what an embedding in fp8 must reach; `min_centred_median`: what half of a batch's sample must,
    centred.
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
    min_centred_median: float = 0.9


def device_of(settings: EncoderSettings) -> torch.device:
    """The device named.

    Raises:
        BackendError: there is no such device, or none that can serve.
    """
    name = settings.device
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"device={name}: no such device; use cpu, cuda or cuda:N") from error
    if device.type not in DEFAULT_BUDGET:
        raise BackendError(f"device={name}: can't serve; use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices that torch "
            "can use; use device=cpu or run `virnuc doctor`"
        )
    return device


def dtype_of(settings: EncoderSettings) -> torch.dtype:
    """What activations are in.

    Raises:
        BackendError: there is no such data type.
    """
    if settings.dtype not in _DTYPES:
        raise BackendError(
            f"dtype={settings.dtype}: no such data type; use one of {', '.join(_DTYPES)}"
        )
    return _DTYPES[settings.dtype]


def check_token_budget(settings: EncoderSettings) -> None:
    """Refuse a budget that a longest sequence does not fit in.

    Raises:
        BackendError: it is too small.
    """
    longest = MAX_TOKENS[settings.encoder]
    if settings.token_budget is not None and settings.token_budget < longest:
        raise BackendError(
            f"token_budget={settings.token_budget}: holds no sequence of the longest length; use "
            f"{longest} or more for {settings.encoder}"
        )
