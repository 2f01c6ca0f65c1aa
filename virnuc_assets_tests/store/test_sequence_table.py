import numpy as np
import pyarrow as pa
import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.sequence_table import SequenceTable, write_sequence_table


def test_rows_come_back_in_the_order_asked_for(tmp_path):
    path = tmp_path / "table.arrow"
    write_sequence_table(path, pa.array(["CCC", "AA", "G"]))
    table = SequenceTable(path)
    assert len(table) == 3
    assert table.lengths().tolist() == [3, 2, 1]
    assert table.take(np.array([2, 0, 2])) == ["G", "CCC", "G"]


def test_a_table_that_was_replaced_after_it_was_opened_is_noticed(tmp_path):
    path = tmp_path / "table.arrow"
    write_sequence_table(path, pa.array(["AAA"]))
    digest = sha256_file(path)
    table = SequenceTable(path)
    table.verify(digest)
    write_sequence_table(path, pa.array(["CCC"]))
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
