"""Distinct sequences come longest first, then by their bytes, and rows lead back to them."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.sequences.unique import total_letters, unique_longest_first


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.lists(st.lists(st.text("ACG*-x", max_size=4), max_size=12), max_size=4))
def test_as_sorted_sets_do(parts):
    given_sequences = [sequence for part in parts for sequence in part]
    chunks = [pa.array(part, pa.large_string()) for part in parts]
    unique, rows = unique_longest_first(pa.chunked_array(chunks, pa.large_string()))
    assert unique.to_pylist() == sorted(set(given_sequences), key=lambda s: (-len(s), s))
    assert unique.take(pa.array(rows)).to_pylist() == given_sequences
    assert total_letters(unique) == sum(map(len, set(given_sequences)))
