"""DNABERT-S's byte-pair tokeniser, many sequences at a time.

A GPU embeds 67 000 reads a second while the interpreter runs one thread at a time, so neither
tokens nor sequences may each become a few Python objects.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from virnuc_assets.encoders.packing import Frame
from virnuc_assets.errors import WeightsError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

_BOUNDARY = "[SEP]"
# Sequences in one text of the tokeniser: the more, the fewer Python objects. Other threads wait
# while the tokens of a text become numbers, some 50 µs for these of 150 bases.
_TOGETHER = 64
# Texts given to the tokeniser at once: enough for many cores; they are copied, and others wait.
_TEXTS = 128
_NONE = np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class Tokeniser:
    """A byte-pair tokeniser of many sequences at once, without special tokens.

    `boundary`: the token that stands between sequences of one text. `apart`: whether that changes
    none of their tokens.
    """

    tokenizer: Tokenizer
    boundary: int
    apart: bool

    def __call__(self, sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All tokens end to end, int32, and each sequence's boundaries in them, (n + 1,), int64.

        Lower-case (soft-masked) bases count as upper-case, which alone the vocabulary knows.
        """
        if self.apart:
            starts = range(0, len(sequences), _TOGETHER)
            groups = [sequences[start : start + _TOGETHER] for start in starts]
            texts = self._encode([_BOUNDARY.join([*group, ""]) for group in groups])
            parts = [self._cut(text, group) for text, group in zip(texts, groups, strict=True)]
        else:
            parts = [self._one_by_one(sequences)]
        offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
        np.cumsum(np.concatenate([_NONE, *(lengths for _, lengths in parts)]), out=offsets[1:])
        return np.concatenate([_NONE, *(tokens for tokens, _ in parts)]), offsets

    def _encode(self, texts: list[str]) -> Iterator[np.ndarray]:
        for start in range(0, len(texts), _TEXTS):
            upper = [text.upper() for text in texts[start : start + _TEXTS]]
            for one in self.tokenizer.encode_batch_fast(upper, add_special_tokens=False):
                yield np.fromiter(one.ids, np.int32, len(one))

    def _cut(self, tokens: np.ndarray, group: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        boundary = tokens == self.boundary
        ends = np.flatnonzero(boundary)
        if len(ends) == len(group):
            return tokens[~boundary], np.diff(ends, prepend=-1) - 1
        log.warning("a sequence holds %s: %d are tokenised one by one", _BOUNDARY, len(group))
        return self._one_by_one(group)

    def _one_by_one(self, sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        each = list(self._encode(list(sequences)))
        return np.concatenate([_NONE, *each]), np.array([len(one) for one in each], dtype=np.int64)


def load_tokeniser(folder: Path) -> tuple[Tokeniser, Frame]:
    """The folder's tokeniser and the frame that adds special tokens.

    They are added by the frame alone, so that exactly one [CLS] and one [SEP] stand around a
    sequence whatever post-processor the file has.

    Raises:
        WeightsError: the file is no tokeniser or lacks a special token.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        content = file.read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:
        raise WeightsError(f"{file}: is not a tokeniser ({error}); copy the model again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def special(token: str) -> int:
        number = tokenizer.token_to_id(token)
        if number is None:
            raise WeightsError(f"{file}: has no token {token}; use DNABERT-S's own tokenizer.json")
        return int(number)

    frame = Frame(special("[CLS]"), special(_BOUNDARY), special("[PAD]"))
    apart = _keeps_apart(json.loads(content))
    if not apart:
        log.warning("%s: is not as published, so sequences are tokenised one by one", file)
    return Tokeniser(tokenizer, frame.last, apart), frame


def _keeps_apart(settings: dict[str, Any]) -> bool:
    """Whether a sequence's tokens are the same beside others, [SEP] between them.

    They are where [SEP] is cut out of a text first, and nothing then looks beyond a piece.
    """
    plain = {"content": _BOUNDARY, "single_word": False, "lstrip": False, "rstrip": False}
    return (
        settings.get("normalizer") is None
        and settings.get("pre_tokenizer") == {"type": "Whitespace"}
        and any(plain.items() <= token.items() for token in settings.get("added_tokens", []))
    )
