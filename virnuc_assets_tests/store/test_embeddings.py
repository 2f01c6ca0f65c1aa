import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.errors import StoreError
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    ShardedEmbeddings,
    assemble_shard,
    block_path,
    read_attributes,
    shard_path,
    shard_rows,
    verify,
    verify_contents,
    write_embeddings,
)

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
    counts = Counts(tokens=10, slots=16, packs=1)
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


def damage_flip(path):
    with h5py.File(path) as file:
        offset = file["embeddings"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[offset + 7] ^= 1
    path.write_bytes(data)


def damage_empty(path):
    path.write_bytes(b"")


def damage_rows(path):
    with h5py.File(path, "r+") as file:
        file["row"][0] = 7


def damage_attribute(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum"]


@pytest.mark.parametrize(
    "damage", [damage_truncate, damage_flip, damage_empty, damage_rows, damage_attribute]
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "block.h5"
    write(path, identity(stop=1000), values(1000))
    damage(path)
    with pytest.raises(StoreError, match=r"block\.h5"):
        verify(path, identity(stop=1000))


def test_values_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "block.h5"
    data = values(5)
    data[3, 1] = np.nan
    write(path, identity(), data)
    with pytest.raises(StoreError, match="not finite"):
        verify_contents(path)


def test_too_few_embeddings_are_never_published(tmp_path):
    with pytest.raises(StoreError, match="4 embeddings for 5 rows"):
        write(tmp_path / "block.h5", identity(), values(4))
    assert not any(tmp_path.iterdir())


@settings(deadline=None, max_examples=25)
@given(n_rows=st.integers(0, 40), n_shards=st.integers(1, 5), data=st.data())
def test_rows_are_found_again_whatever_the_sharding(tmp_path_factory, n_rows, n_shards, data):
    folder = tmp_path_factory.mktemp("shards")
    table = values(n_rows)
    for shard in range(n_shards):
        of_shard = table[shard::n_shards]
        cut = data.draw(st.integers(0, len(of_shard)))
        blocks = [
            write(
                block_path(folder, shard, n_shards, number),
                identity(shard, n_shards, start, stop),
                of_shard[start:stop],
            )
            for number, (start, stop) in enumerate([(0, cut), (cut, len(of_shard))])
        ]
        assemble_shard(folder, identity(shard, n_shards, 0, len(of_shard)), blocks, DIM)
    embeddings = ShardedEmbeddings(folder, n_shards, n_rows, "i" * 64)
    rows = data.draw(st.lists(st.integers(0, max(n_rows - 1, 0)), max_size=20 if n_rows else 0))
    assert np.array_equal(embeddings.take(np.array(rows, np.int64)), table[rows])
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
    with pytest.raises(StoreError, match=r"shard-01-of-02\.h5: its contents do not match"):
        ShardedEmbeddings(tmp_path, 2, 10, "i" * 64)


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"shard-00-of-02\.h5: no such embedding file"):
        ShardedEmbeddings(tmp_path, 2, 10, "i" * 64)
