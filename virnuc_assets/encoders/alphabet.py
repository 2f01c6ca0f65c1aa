"""ESM-2's alphabet: one token per residue.

The token order is fair-esm's "ESM-1b" alphabet, which is also the order of the Hugging Face
ESM-2 vocabularies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOKENS = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
CLS, PAD, EOS, UNK = 0, 1, 2, 3
MASK = TOKENS.index("<mask>")


def _lookup() -> np.ndarray:
    table = np.full(256, UNK, dtype=np.uint8)
    for token, letter in enumerate(TOKENS):
        if len(letter) == 1:
            table[ord(letter)] = table[ord(letter.lower())] = token
    return table


_TOKEN_OF_BYTE = _lookup()


def tokenise(sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Residue tokens of `sequences`, without BOS and EOS.

    Lower-case (soft-masked) residues count as upper-case. A letter outside the alphabet (J, *)
    becomes <unk>, as in Hugging Face's tokeniser; fair-esm's stops with a KeyError on both.

    Returns:
        All tokens end to end, int32, and where each sequence starts and ends in them,
        shape (n + 1,), int64.
    """
    # latin-1 with replacement keeps one byte per letter whatever the letter is.
    letters = [sequence.encode("latin-1", "replace") for sequence in sequences]
    offsets = np.zeros(len(letters) + 1, dtype=np.int64)
    np.cumsum([len(letter) for letter in letters], out=offsets[1:])
    flat = np.frombuffer(b"".join(letters), dtype=np.uint8)
    return _TOKEN_OF_BYTE[flat].astype(np.int32), offsets
