import numpy as np
import pyarrow as pa
import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.store import sequence_table
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.sequence_table import SequenceTable, write_sequence_table


def test_rows_come_back_in_the_order_asked_for(tmp_path):
    path = tmp_path / "table.arrow"
    write_sequence_table(path, [pa.array(["CCC", "AA", "G"], pa.large_string())])
    table = SequenceTable(path)
    assert len(table) == 3
    assert table.lengths().tolist() == [3, 2, 1]
    assert table.take(np.array([2, 0, 2])) == ["G", "CCC", "G"]


def test_a_table_that_was_replaced_after_it_was_opened_is_noticed(tmp_path):
    path = tmp_path / "table.arrow"
    write_sequence_table(path, [pa.array(["AAA"], pa.large_string())])
    digest = sha256_file(path)
    table = SequenceTable(path)
    table.verify(digest)
    write_sequence_table(path, [pa.array(["CCC"], pa.large_string())])
    with pytest.raises(StoreError, match="is not the sequence table its index describes"):
        table.verify(digest)
    with pytest.raises(StoreError, match="is not the sequence table its index describes"):
        table.verify(sha256_file(path))
    assert table.take(np.array([0])) == ["AAA"]


def test_what_is_no_table_is_named(tmp_path):
    path = tmp_path / "table.arrow"
    with pytest.raises(StoreError, match=r"table\.arrow: no such sequence table"):
        SequenceTable(path)
    path.write_text("hello")
    with pytest.raises(StoreError, match=r"table\.arrow: is not a sequence table"):
        SequenceTable(path)


@pytest.mark.parametrize(
    "column",
    [pa.array([1, 2]), pa.array(["A"]), pa.array(["A", None], pa.large_string())],
    ids=["numbers", "strings", "nulls"],
)
def test_a_column_of_another_type_is_no_table(column, tmp_path):
    path = tmp_path / "table.arrow"
    table = pa.table({"sequence": column})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(StoreError, match=r"table\.arrow: is not a sequence table \(its column"):
        SequenceTable(path)


def test_a_flipped_bit_is_explained_wherever_it_is(tmp_path):
    path = tmp_path / "table.arrow"
    write_sequence_table(path, [pa.array(["AAA", "C"], pa.large_string())])
    whole = path.read_bytes()
    digest = sha256_file(path)
    for bit in range(0, len(whole) * 8, 7):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(StoreError):
            SequenceTable(path).verify(digest)


@pytest.mark.parametrize("parts", [[8], [3, 5], [0, 1, 0, 2, 5], [4, 4], [1] * 8])
def test_the_file_does_not_depend_on_the_parts_it_came_in(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(sequence_table, "_BATCH_ROWS", 3)
    letters = pa.array(["GGGG", "TTTT", "CCC", "AA", "AC", "G", "T", ""], pa.large_string())
    ends = np.cumsum(parts)
    pieces = [letters[end - size : end] for size, end in zip(parts, ends, strict=True)]
    write_sequence_table(tmp_path / "whole", [letters])
    write_sequence_table(tmp_path / "parts", pieces)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    table = SequenceTable(tmp_path / "parts")
    assert table.take(np.arange(8)) == letters.to_pylist()
