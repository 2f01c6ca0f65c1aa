"""Two records with one id are found, however far apart and whatever their ids hash to."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from virnuc_assets.errors import InputError
from virnuc_assets.sequences import repeated_ids
from virnuc_assets.sequences.repeated_ids import IdHashes, check_ids, hash_ids


def fnv_1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def test_hashes_are_fnv_1a():
    ids = ["", "a", "read_1", "NC_001416.1|x"]
    assert hash_ids(pa.array(ids, pa.large_string())).tolist() == [fnv_1a(name) for name in ids]


@pytest.mark.parametrize("at_a_time", [1, 3, 1000])
def test_repeated_hashes_are_found_in_any_number_of_shares(at_a_time, tmp_path, monkeypatch):
    monkeypatch.setattr(repeated_ids, "_AT_A_TIME", at_a_time)
    hashes = IdHashes(tmp_path / "ids")
    hashes.add(np.array([5, 2**63, 7], np.uint64))
    hashes.add(np.array([2**63, 8, 5, 5], np.uint64))
    assert sorted(hashes.repeated().tolist()) == [5, 2**63]


def test_ids_that_only_hash_alike_are_no_fault(write, tmp_path, monkeypatch):
    monkeypatch.setattr(repeated_ids, "hash_ids", lambda ids: np.zeros(len(ids), np.uint64))
    hashes = IdHashes(tmp_path / "ids")
    hashes.add(np.zeros(3, np.uint64))
    check_ids(write(">a\nA\n>b\nA\n>c\nA\n"), "nucleotide", hashes)
    with pytest.raises(InputError, match="'b' belongs to more than one record"):
        check_ids(write(">a\nA\n>b\nA\n>b\nA\n>a\nA\n"), "nucleotide", hashes)
