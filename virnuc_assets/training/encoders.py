"""The engine's own encoder modules, trainable: padded batches in place of packs, gradients on.

What is trained here is what the engine runs: the modules are `encoders.esm2.ESM2` and
`encoders.dnabert_s.DNABERTS`; only attention is another, over rows of one padded length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from virnuc_assets.encoders.attention import Attention, Segments
from virnuc_assets.encoders.dnabert_s import DNABERTS, DNABERTSConfig, alibi_slopes
from virnuc_assets.encoders.esm2 import ESM2, ESM2Config


@dataclass(frozen=True)
class Rows:
    """Tokens of b sequences padded to one length.

    `tokens`: int32, (b, l). `real`: which are tokens of the sequence, special ones too, bool,
    (b, l). `counted`: which the mean is over, bool, (b, l).
    """

    tokens: Tensor
    real: Tensor
    counted: Tensor

    def to(self, device: torch.device) -> Rows:
        """The same on `device`."""
        return Rows(*(x.to(device, non_blocking=True) for x in vars(self).values()))


@dataclass(frozen=True)
class _PaddedRows(Segments):
    """Stands where a pack's segments stand; `bias` (b, 1 or heads, l, l) is added to the scores."""

    shape: tuple[int, int] = (0, 0)
    bias: Tensor | None = None


def pad_rows(
    tokens: np.ndarray,
    offsets: np.ndarray,
    first: int,
    last: int,
    pad: int,
    count_special: bool,
    multiple: int,
) -> Rows:
    """Frame every sequence by tokens `first` and `last` and pad to a multiple of `multiple`.

    Args:
        tokens: all sequences end to end, int32.
        offsets: where each starts, int64, (b + 1,).
        first: token before each sequence.
        last: token after it.
        pad: token of the places left over.
        count_special: whether `first` and `last` count in the mean.
        multiple: the padded length is one of this number.
    """
    lengths = np.diff(offsets)
    width = -(-(int(lengths.max()) + 2) // multiple) * multiple
    place = np.arange(width)
    real = place < (lengths + 2)[:, None]
    inner = (place >= 1) & (place <= lengths[:, None])
    rows = np.full(real.shape, pad, np.int32)
    rows[inner] = tokens
    rows[:, 0] = first
    rows[np.arange(len(rows)), lengths + 1] = last
    counted = real if count_special else inner
    return Rows(torch.from_numpy(rows), torch.from_numpy(real), torch.from_numpy(counted))


def _attend(q: Tensor, k: Tensor, v: Tensor, segments: Segments, slopes: Tensor | None) -> Tensor:
    assert isinstance(segments, _PaddedRows)
    # The bias holds ALiBi already: it is the same in every layer.
    q, k, v = (x.unflatten(0, segments.shape).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=segments.bias)
    return out.transpose(1, 2).flatten(0, 1)


_PADDED = Attention("sdpa", "training", _attend)

Encoder = TypeVar("Encoder", ESM2, DNABERTS)


class PaddedEncoder(nn.Module, Generic[Encoder]):
    """An encoder over `Rows`, and the mean of its states over what is counted."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder: Encoder = encoder
        self.dim = encoder.config.dim

    def forward(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """Means (b, dim), float32, with attention computed in `dtype`."""
        shape = rows.tokens.shape
        positions = torch.arange(shape[1], device=rows.tokens.device).expand(shape).flatten()
        segments = _PaddedRows(
            cu_seqlens=positions,
            max_seqlen=shape[1],
            runs=(),
            shape=(shape[0], shape[1]),
            bias=self._bias(rows, dtype),
        )
        states = self.encoder(rows.tokens.flatten(), positions, segments).unflatten(0, shape)
        counted = rows.counted[..., None]
        return (states.float() * counted).sum(1) / counted.sum(1)

    def _bias(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """Added to scores: −∞ where a key is padding, and ALiBi, (b, 1 or heads, l, l)."""
        hidden = torch.zeros(rows.real.shape, dtype=dtype, device=rows.real.device)
        hidden = hidden.masked_fill(~rows.real, float("-inf"))[:, None, None, :]
        if not isinstance(self.encoder, DNABERTS):
            return hidden.expand(-1, -1, rows.real.shape[1], -1)
        slopes = alibi_slopes(self.encoder.config.heads, rows.real.device)
        place = torch.arange(rows.real.shape[1], device=rows.real.device)
        distance = (place[:, None] - place).abs()
        return hidden - (slopes[:, None, None] * distance).to(dtype)


def new_esm2(config: ESM2Config) -> PaddedEncoder[ESM2]:
    """An ESM-2 with fresh weights, from torch's generator."""
    return PaddedEncoder(_initialised(ESM2(config, _PADDED), config.layers))


def new_dnabert_s(config: DNABERTSConfig) -> PaddedEncoder[DNABERTS]:
    """A DNABERT-S with fresh weights, from torch's generator."""
    model = DNABERTS(config, _PADDED)
    nn.init.normal_(model.token_type, std=0.02)
    return PaddedEncoder(_initialised(model, config.layers))


def _initialised(model: Encoder, layers: int) -> Encoder:
    """Normal weights, less where they are added to the residual stream, as GPT-2 has it.

    Radford et al. 2019 (Language Models are Unsupervised Multitask Learners). ESM-2's embedding is
    larger: no norm follows it.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02 if isinstance(model, DNABERTS) else 0.5)
        elif isinstance(module, nn.Linear):
            into_stream = name.endswith((".out", ".down"))
            nn.init.normal_(module.weight, std=0.03 / (2 * layers) ** 0.5 if into_stream else 0.03)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model.requires_grad_(True)
