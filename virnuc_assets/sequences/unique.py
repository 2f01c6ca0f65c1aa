"""The distinct sequences among many, in the order that tables keep them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def unique_longest_first(sequences: pa.ChunkedArray) -> tuple[pa.LargeStringArray, np.ndarray]:
    """Distinct sequences, and where each of the given ones lies among them.

    The distinct ones are ordered longest first and, within a length, by their bytes; so the order
    does not depend on that of `sequences`. The rows are int64 of shape (len(sequences),).
    """
    encoded = sequences.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary
    columns = pa.table({"length": pc.binary_length(distinct), "sequence": distinct})
    order = pc.sort_indices(
        columns, sort_keys=[("length", "descending"), ("sequence", "ascending")]
    )
    row = np.empty(len(distinct), np.int64)
    row[order.to_numpy()] = np.arange(len(distinct))
    return distinct.take(order), row[encoded.indices.to_numpy()]


def total_letters(sequences: pa.LargeStringArray) -> int:
    """How many letters `sequences` hold together."""
    return pc.sum(pc.binary_length(sequences), min_count=0).as_py()
