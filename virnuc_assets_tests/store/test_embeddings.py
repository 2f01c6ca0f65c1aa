import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.errors import StoreError
from virnuc_assets.store import sharded
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    assemble_shard,
    block_path,
    read_attributes,
    shard_path,
    shard_rows,
    verify,
    verify_contents,
    write_embeddings,
)
from virnuc_assets.store.seal import seal
from virnuc_assets.store.sharded import ShardedEmbeddings

DIM = 3
ORIGIN = Origin("model", "w" * 64, "CPU", "sdpa", "plain", 1024, "truncate")


def identity(shard=0, n_shards=1, start=0, stop=5, **changes):
    facts = {
        "encoder": "esm2",
        "index_digest": "i" * 64,
        "encoder_digest": "e" * 64,
        "dtype": "float32",
    }
    return Identity(**{**facts, **changes}, n_shards=n_shards, shard=shard, start=start, stop=stop)


def values(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)


def write(path, about, data):
    counts = Counts(tokens=10)
    return write_embeddings(path, about, ORIGIN, counts, DIM, [data])


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "block.h5"
    written = write(path, identity(), values(5))
    assert read_attributes(path) == written == verify(path, identity())
    with h5py.File(path) as file:
        assert np.array_equal(file["embeddings"][:], values(5))
        assert file["row"][:].tolist() == [0, 1, 2, 3, 4]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, identity(), values(5))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"index_digest": "x"},
        {"encoder_digest": "x"},
        {"dtype": "float16"},
        {"encoder": "dnabert-s"},
        {"shard": 1, "n_shards": 2},
        {"start": 1, "stop": 6},
    ],
)
def test_a_foreign_file_is_refused_and_says_what_differs(tmp_path, change):
    path = tmp_path / "block.h5"
    write(path, identity(**change), values(5))
    with pytest.raises(StoreError, match=f"was made from something else .*{next(iter(change))}"):
        verify(path, identity())


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def damage_torn(path):
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))


def damage_only_begun(path):
    path.write_bytes(path.read_bytes()[:100])


def damage_flip(path):
    with h5py.File(path) as file:
        offset = file["embeddings"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[offset + 7] ^= 1
    path.write_bytes(data)


def damage_empty(path):
    path.write_bytes(b"")


def damage_not_sealed(path):
    path.write_bytes(bytes(512) + path.read_bytes()[512:])


def damage_other_kind(path):
    path.write_bytes(b">a\nMKV\n")


def damage_rows(path):
    with h5py.File(path, "r+") as file:
        file["row"][0] = 7
    seal(path)


def damage_attribute(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum"]
    seal(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_truncate, "was cut short or written in part"),
        (damage_torn, "does not match its checksum"),
        (damage_only_begun, "was cut short or written in part"),
        (damage_flip, "does not match its checksum"),
        (damage_empty, "is empty"),
        (damage_not_sealed, "is no embedding file of this version"),
        (damage_other_kind, "is no embedding file of this version"),
        (damage_rows, "its rows are not those it says it holds"),
        (damage_attribute, "is not an embedding file"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage, reason):
    path = tmp_path / "block.h5"
    write(path, identity(stop=1000), values(1000))
    damage(path)
    with pytest.raises(StoreError, match=rf"block\.h5: {reason}"):
        verify(path, identity(stop=1000))


def test_a_bit_flipped_anywhere_is_noticed(tmp_path):
    # Attributes, counts and HDF5's own structures included: some such flips would crash its reader.
    path = tmp_path / "block.h5"
    write(path, identity(), values(5))
    whole = path.read_bytes()
    for at in range(0, len(whole), 11):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        with pytest.raises(StoreError, match=r"block\.h5: "):
            verify(path, identity())


def test_values_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "block.h5"
    data = values(5)
    data[3, 1] = np.nan
    write(path, identity(), data)
    with pytest.raises(StoreError, match="not finite"):
        verify_contents(path)


def test_rows_set_aside_are_nan_and_listed(tmp_path):
    path = tmp_path / "block.h5"
    about = identity(shard=1, n_shards=3, start=2, stop=7)
    data = values(5)
    written = write_embeddings(path, about, ORIGIN, Counts(), DIM, [data[:3], data[3:]], [19, 7])
    assert written.set_aside == (7, 19)
    assert verify(path, about) == written == read_attributes(path)
    with h5py.File(path) as file:
        assert file["row"][:].tolist() == [7, 10, 13, 16, 19]
        assert file["set_aside"][:].tolist() == [7, 19]
        assert np.isnan(file["embeddings"][:]).all(axis=1).tolist() == [True, *[False] * 3, True]
        assert np.array_equal(file["embeddings"][1:4], data[1:4])


def test_a_row_of_another_file_cannot_be_set_aside(tmp_path):
    with pytest.raises(ValueError, match="are not all of"):
        write_embeddings(
            tmp_path / "b.h5", identity(start=1), ORIGIN, Counts(), DIM, [values(4)], [0]
        )
    assert not any(tmp_path.iterdir())


def list_one_more(file):
    del file["set_aside"]
    file["set_aside"] = np.array([1, 3])


def list_one_less(file):
    del file["set_aside"]
    file["set_aside"] = np.empty(0, np.int64)


def list_another(file):
    file["set_aside"][0] = 2


def list_twice(file):
    del file["set_aside"]
    file["set_aside"] = np.array([1, 1])


@pytest.mark.parametrize("change", [list_one_more, list_one_less, list_another, list_twice])
def test_rows_without_values_are_those_listed_and_no_others(tmp_path, change):
    path = tmp_path / "block.h5"
    write_embeddings(path, identity(), ORIGIN, Counts(), DIM, [values(5)], [1])
    with h5py.File(path, "r+") as file:
        change(file)
    seal(path)
    with pytest.raises(StoreError, match="other than the rows it lists as set aside"):
        verify(path, identity())


def test_too_few_embeddings_are_never_published(tmp_path):
    with pytest.raises(StoreError, match="4 embeddings for 5 rows"):
        write(tmp_path / "block.h5", identity(), values(4))
    assert not any(tmp_path.iterdir())


@settings(deadline=None, max_examples=25)
@given(n_rows=st.integers(0, 40), n_shards=st.integers(1, 5), data=st.data())
def test_rows_are_found_again_whatever_the_sharding(tmp_path_factory, n_rows, n_shards, data):
    folder = tmp_path_factory.mktemp("shards")
    table = values(n_rows)
    set_aside = [row for row in range(n_rows) if data.draw(st.integers(0, 7)) == 0]
    for shard in range(n_shards):
        of_shard = table[shard::n_shards]
        cut = data.draw(st.integers(0, len(of_shard)))
        blocks = [
            write_embeddings(
                block_path(folder, shard, n_shards, number),
                about := identity(shard, n_shards, start, stop),
                ORIGIN,
                Counts(tokens=10),
                DIM,
                [of_shard[start:stop]],
                [row for row in set_aside if row in about.rows()],
            )
            for number, (start, stop) in enumerate([(0, cut), (cut, len(of_shard))])
        ]
        assemble_shard(folder, identity(shard, n_shards, 0, len(of_shard)), blocks, DIM)
    embeddings = ShardedEmbeddings(folder, n_shards, n_rows, "i" * 64)
    rows = data.draw(st.lists(st.integers(0, max(n_rows - 1, 0)), max_size=20 if n_rows else 0))
    table[set_aside] = np.nan
    found = embeddings.take(np.array(rows, np.int64))
    assert np.array_equal(found, table[rows], equal_nan=True)
    assert embeddings.set_aside.tolist() == set_aside
    assert embeddings.counts.tokens == 20 * n_shards


@pytest.mark.parametrize(
    "change", [{"index_digest": "x"}, {"encoder_digest": "x"}, {"dtype": "float16"}, {"stop": 4}]
)
def test_shards_that_do_not_belong_together_are_refused(tmp_path, change):
    for shard in range(2):
        about = identity(shard, 2, stop=shard_rows(10, shard, 2))
        write(shard_path(tmp_path, shard, 2), about, values(5))
    ShardedEmbeddings(tmp_path, 2, 10, "i" * 64)
    odd = identity(1, 2, **{"stop": 5, **change})
    write(shard_path(tmp_path, 1, 2), odd, values(odd.stop))
    with pytest.raises(StoreError, match=r"shard-01-of-02\.h5: was made from another"):
        ShardedEmbeddings(tmp_path, 2, 10, "i" * 64)


def test_a_shard_that_rotted_is_refused(tmp_path):
    for shard in range(2):
        about = identity(shard, 2, stop=shard_rows(10, shard, 2))
        write(shard_path(tmp_path, shard, 2), about, values(5))
    damage_flip(shard_path(tmp_path, 1, 2))
    with pytest.raises(StoreError, match=r"shard-01-of-02\.h5: does not match its checksum"):
        ShardedEmbeddings(tmp_path, 2, 10, "i" * 64)


def test_a_shard_that_is_replaced_after_its_verification_is_refused(tmp_path, monkeypatch):
    """An embedding run publishes a shard just then."""
    path = shard_path(tmp_path, 0, 1)
    write(path, identity(0, 1, stop=5), values(5))

    def verified_then_replaced(path):
        file = verify_contents(path)
        write(path, identity(0, 1, stop=5, encoder_digest="x"), values(5))
        return file

    monkeypatch.setattr(sharded, "verify_contents", verified_then_replaced)
    with pytest.raises(StoreError, match=r"shard-00-of-01\.h5: was replaced while it was opened"):
        ShardedEmbeddings(tmp_path, 1, 5, "i" * 64)


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"shard-00-of-02\.h5: no such embedding file"):
        ShardedEmbeddings(tmp_path, 2, 10, "i" * 64)
