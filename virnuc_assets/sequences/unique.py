"""The distinct sequences among many, in the order that tables keep them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from virnuc_assets.sequences.compiled import compiled
from virnuc_assets.sequences.ragged import flat

_ALPHABET = b"*-.ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # every letter a sequence may hold, in byte order
_BITS = 5
_KEY_BITS = 64
_CODE = np.zeros(256, np.uint64)
_CODE[list(_ALPHABET)] = np.arange(len(_ALPHABET))


def unique_longest_first(sequences: pa.LargeStringArray) -> tuple[pa.LargeStringArray, np.ndarray]:
    """Distinct sequences of upper-case letters, and where each of the given ones is among them.

    The distinct ones are ordered longest first and, within a length, by their bytes; so the order
    does not depend on that of `sequences`. The rows are int64 of shape (len(sequences),).

    They are sorted by 64-bit integers that hold each one's length and, in the bits that this
    leaves, its first letters; those that agree in them by the next letters in which they differ,
    and so on. (For comparison: Arrow's own sort took ten times as long on half a million reads.)
    """
    letters, offsets = flat(sequences)
    order = np.arange(len(sequences))
    repeated = np.zeros(len(sequences), bool)

    # What is still to be ordered: places in `order`, in groups (never decreasing) that agree in
    # length and in as many first letters as `depth` says.
    places = np.arange(len(sequences))
    lengths = np.diff(offsets)
    group = lengths.max(initial=0) - lengths
    depth = np.zeros(len(sequences), np.int64)
    while places.size:
        letters_of_key = (_KEY_BITS - int(group.max()).bit_length()) // _BITS
        members = order[places]
        keys = np.empty(places.size, np.uint64)
        _pack(letters, offsets, members, group, depth, letters_of_key, keys)
        by_key = np.argsort(keys)
        members, keys, known = members[by_key], keys[by_key], depth[by_key] + letters_of_key
        order[places] = members
        left = _find_repeated(
            letters, offsets, members, keys, known, places, repeated, group, depth
        )
        places, group, depth = places[:left], group[:left], depth[:left]

    rows = np.empty(len(sequences), np.int64)
    rows[order] = np.cumsum(~repeated) - 1
    return sequences.take(pa.array(order[~repeated])), rows


@compiled
def _pack(
    letters: np.ndarray,
    offsets: np.ndarray,
    members: np.ndarray,
    group: np.ndarray,
    depth: np.ndarray,
    letters_of_key: int,
    keys: np.ndarray,
) -> None:
    """Integers that compare as groups do and, within one, as the letters after `depth` do."""
    for i, member in enumerate(members):
        first = offsets[member] + depth[i]
        known = min(offsets[member + 1] - first, letters_of_key)
        key = np.uint64(group[i])
        for place in range(first, first + known):
            key = key << np.uint64(_BITS) | _CODE[letters[place]]
        keys[i] = key << np.uint64(_BITS * (letters_of_key - known))


@compiled
def _find_repeated(
    letters: np.ndarray,
    offsets: np.ndarray,
    members: np.ndarray,
    keys: np.ndarray,
    known: np.ndarray,
    places: np.ndarray,
    repeated: np.ndarray,
    group: np.ndarray,
    depth: np.ndarray,
) -> int:
    """Mark in `repeated` the places of members that equal the one before; how many are left.

    Those of one key agree in `known` letters, or in all they have. Where they are not all equal
    they are to be ordered by further letters: they are left at the start of `places`, of `group`,
    where they are numbered anew, and of `depth`.
    """
    left = groups = first = 0
    for end in range(1, members.size + 1):
        if end < members.size and keys[end] == keys[first]:
            continue
        repeated[places[first]] = False
        if end - first > 1:
            length = offsets[members[first] + 1] - offsets[members[first]]
            least = length
            for i in range(first + 1, end):
                one, other = offsets[members[i - 1]], offsets[members[i]]
                letter = min(known[first], length)
                while letter < length and letters[one + letter] == letters[other + letter]:
                    letter += 1
                repeated[places[i]] = letter == length
                least = min(least, letter)
            if least < length:
                for i in range(first, end):
                    places[left], group[left], depth[left] = places[i], groups, least
                    left += 1
                groups += 1
        first = end
    return left
