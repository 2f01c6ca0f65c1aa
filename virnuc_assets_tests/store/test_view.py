"""A sample's embeddings as one dataset."""

from __future__ import annotations

import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.errors import StoreError
from virnuc_assets.store.embeddings import (
    Counts,
    EmbeddingFile,
    Identity,
    Origin,
    shard_path,
    write_embeddings,
)
from virnuc_assets.store.sharded import ShardedEmbeddings
from virnuc_assets.store.view import VIEW_FILE, View, read_view, renew_view, verify_view

DIM = 3
ORIGIN = Origin("model", "w" * 64, "CPU", "sdpa", "plain", 1024, "truncate")


def table(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)


def write_shard(
    folder: Path,
    shard: int,
    n_shards: int,
    values: np.ndarray,
    set_aside: tuple[int, ...] = (),
    digest: str = "e",
) -> EmbeddingFile:
    mine = values[shard::n_shards]
    about = Identity("esm2", "i", digest, "float32", n_shards, shard, 0, len(mine))
    lost = [row for row in set_aside if row % n_shards == shard]
    path = shard_path(folder, shard, n_shards)
    return write_embeddings(path, about, ORIGIN, Counts(), DIM, [mine], lost)


def rows_of(view: Path) -> np.ndarray:
    with h5py.File(view) as file:
        return file["embeddings"][:]


@pytest.fixture
def shown(tmp_path) -> View:
    """The view of 20 rows in 3 shards."""
    folder = tmp_path / "esm2"
    for shard in range(3):
        write_shard(folder, shard, 3, table(20), set_aside=(4, 6))
    view = renew_view(folder, 3, {})
    assert view is not None
    return view


@settings(deadline=None, max_examples=25)
@given(n_rows=st.integers(0, 40), n_shards=st.integers(1, 5), data=st.data())
def test_row_i_of_the_table_is_row_i_of_the_view(tmp_path_factory, n_rows, n_shards, data) -> None:
    folder = tmp_path_factory.mktemp("view")
    lost = tuple(row for row in range(n_rows) if data.draw(st.integers(0, 5)) == 0)
    files = {s: write_shard(folder, s, n_shards, table(n_rows), lost) for s in range(n_shards)}
    known = {shard: file for shard, file in files.items() if data.draw(st.booleans())}
    view = renew_view(folder, n_shards, known)
    stored = ShardedEmbeddings(folder, n_shards, n_rows, "i")
    expected = stored.take(np.arange(n_rows))
    assert np.array_equal(rows_of(folder / VIEW_FILE), expected, equal_nan=True)
    assert read_view(folder / VIEW_FILE) == view
    assert (view.rows, view.dim, view.set_aside) == (n_rows, DIM, lost)
    assert view.checksums == tuple(file.checksum for file in files.values())
    assert verify_view(view) == []


def test_the_folder_can_be_moved_and_read_from_anywhere(shown, tmp_path, monkeypatch) -> None:
    expected = rows_of(shown.path)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shown.path.parent.rename(moved)
    monkeypatch.chdir("/")
    assert np.array_equal(rows_of(moved / VIEW_FILE), expected, equal_nan=True)
    assert verify_view(read_view(moved / VIEW_FILE)) == []
    monkeypatch.chdir(moved)
    assert np.array_equal(rows_of(Path(VIEW_FILE)), expected, equal_nan=True)


def test_the_same_shards_give_the_same_bytes_at_any_time(shown) -> None:
    before = shown.path.read_bytes()
    shown.path.unlink()
    time.sleep(1.1)  # HDF5 would note the time in seconds
    renew_view(shown.path.parent, 3, {})
    assert shown.path.read_bytes() == before


def test_a_view_that_is_right_is_left_alone_and_another_made_anew(shown) -> None:
    before, content = shown.path.stat(), shown.path.read_bytes()
    assert renew_view(shown.path.parent, 3, {}) == shown
    assert shown.path.stat() == before
    shown.path.write_bytes(content[:-1])
    assert renew_view(shown.path.parent, 3, {}) == shown
    assert shown.path.read_bytes() == content
    for shard in range(3):
        write_shard(shown.path.parent, shard, 3, table(20, seed=1))
    assert renew_view(shown.path.parent, 3, {}) != shown
    assert np.array_equal(rows_of(shown.path), table(20, seed=1))


def test_a_view_does_not_grow_with_its_rows(tmp_path) -> None:
    sizes = []
    for n in (10, 10_000):
        folder = tmp_path / str(n)
        for shard in range(2):
            write_shard(folder, shard, 2, table(n))
        renew_view(folder, 2, {})
        sizes.append((folder / VIEW_FILE).stat().st_size)
    assert sizes[0] == sizes[1]


def test_a_shard_that_went_missing_is_never_a_number(shown) -> None:
    lost = shown.path.parent / shown.shards[1]
    lost.unlink()
    assert np.isnan(rows_of(shown.path)[1::3]).all()
    assert verify_view(shown) == [f"{lost}: no such embedding file; embed this shard first"]


def test_a_shard_that_was_damaged_or_replaced_is_named(shown) -> None:
    folder = shown.path.parent
    damaged = bytearray((folder / shown.shards[0]).read_bytes())
    damaged[-7] ^= 1
    (folder / shown.shards[0]).write_bytes(damaged)
    write_shard(folder, 2, 3, table(20, seed=1))
    first, second = verify_view(shown)
    assert first.startswith(f"{folder / shown.shards[0]}: does not match its checksum")
    assert second.startswith(f"{folder / shown.shards[2]}: is not the shard that view.h5 was made")


def test_there_is_no_view_until_the_last_shard_is_there(tmp_path) -> None:
    for shard in range(2):
        write_shard(tmp_path, shard, 3, table(20))
        assert renew_view(tmp_path, 3, {}) is None
    write_shard(tmp_path, 2, 3, table(20))
    assert renew_view(tmp_path, 3, {}) is not None
    shard_path(tmp_path, 0, 3).unlink()
    assert renew_view(tmp_path, 3, {}) is None
    assert not (tmp_path / VIEW_FILE).exists()


def test_there_is_no_view_of_shards_that_do_not_belong_together(shown, caplog) -> None:
    write_shard(shown.path.parent, 1, 3, table(20), digest="another")
    assert renew_view(shown.path.parent, 3, {}) is None
    assert not shown.path.exists()
    assert "shard-01-of-03.h5: was made from another index, encoder" in caplog.text


def test_a_bit_flipped_anywhere_in_a_view_is_noticed(shown) -> None:
    whole = shown.path.read_bytes()
    for at in range(0, len(whole), 13):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        shown.path.write_bytes(flipped)
        with pytest.raises(StoreError, match=r"view\.h5: "):
            read_view(shown.path)


def test_another_file_is_not_a_view(shown) -> None:
    with pytest.raises(StoreError, match=r"shard-00-of-03\.h5: is not a view of embeddings"):
        read_view(shown.path.parent / shown.shards[0])
    with pytest.raises(StoreError, match="no such"):
        read_view(Path(os.devnull + ".h5"))
