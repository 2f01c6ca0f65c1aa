import threading
from dataclasses import replace

import numpy as np
import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.store.digests import shards_digest
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    assemble_shard,
    block_path,
    shard_path,
    write_embeddings,
)
from virnuc_assets.store.published import Published
from virnuc_assets.store.view import VIEW_FILE

DIM, ROWS = 3, 5
ORIGIN = Origin("model", "w" * 64, "CPU", "sdpa", "plain", 1024, "truncate")
SHARD, N_SHARDS = 1, 3
FOLDER = "shard-01-of-03.blocks"


def identity(block, **changes):
    made_from = Identity(
        "esm2",
        "i" * 64,
        "e" * 64,
        "float32",
        N_SHARDS,
        SHARD,
        block * ROWS,
        block * ROWS + ROWS,
    )
    return replace(made_from, **changes)


def whole(blocks):
    return replace(identity(0), stop=blocks * ROWS)


def make(folder, block, seed=0, **changes):
    numbers = np.random.default_rng([block, seed]).normal(size=(ROWS, DIM)).astype(np.float32)
    counts = Counts(tokens=10 + block)
    path = block_path(folder, SHARD, N_SHARDS, block)
    return write_embeddings(path, identity(block, **changes), ORIGIN, counts, DIM, [numbers])


@pytest.fixture
def host(objects, tmp_path):
    """Opens the output as another host does, with a folder of its own."""
    return lambda name: Published(objects, tmp_path / name)


@pytest.fixture
def local(tmp_path):
    """The shard that a run into a folder leaves, of so many blocks."""

    def made(blocks):
        files = [make(tmp_path / "local", block) for block in range(blocks)]
        return assemble_shard(tmp_path / "local", whole(blocks), files, DIM).path.read_bytes()

    return made


def test_a_shard_of_several_hosts_is_that_of_one(host, local, tmp_path, proxy):
    for block in (2, 0, 1):
        worker = host(f"worker-{block}")
        file = make(worker.folder, block)
        worker.publish(file)
        assert not file.path.exists()
    coordinator = host("coordinator")
    found = coordinator.blocks([identity(block) for block in range(4)])
    assert set(found) == {identity(block) for block in range(3)}
    finished = coordinator.finish(whole(3), [found[identity(block)] for block in range(3)])
    assert not coordinator.folder.exists()
    reader = host("reader")
    assert reader.shard(SHARD, N_SHARDS).identity == finished.identity == whole(3)
    shard = reader.fetch_shard(SHARD, N_SHARDS)
    assert shard.path == shard_path(reader.folder, SHARD, N_SHARDS)
    assert shard.path.read_bytes() == local(3)
    assert [path.name for path in reader.folder.glob("[!.]*")] == [shard.path.name]
    proxy.seen.clear()
    assert reader.fetch_shard(SHARD, N_SHARDS) == shard
    assert proxy.count("GET", FOLDER) == 0


def test_a_view_is_gone_before_a_shard_below_it_is_replaced(host):
    worker = host("worker")
    file = make(worker.folder, 0)
    worker.publish(file)
    worker.finish(whole(1), [file])
    reader = host("reader")
    reader.folder.mkdir()
    (reader.folder / VIEW_FILE).write_bytes(b"of the shards before")
    reader.fetch_shard(SHARD, N_SHARDS)
    assert not (reader.folder / VIEW_FILE).exists()
    (reader.folder / VIEW_FILE).write_bytes(b"of these shards")
    reader.fetch_shard(SHARD, N_SHARDS)
    assert (reader.folder / VIEW_FILE).exists()


def test_a_summary_says_what_the_shard_will(host):
    worker = host("worker")
    files = [make(worker.folder, block) for block in range(2)]
    for file in files:
        worker.publish(file)
    finished = worker.finish(whole(2), files)
    shard = worker.fetch_shard(SHARD, N_SHARDS)
    assert replace(finished, checksum=shard.checksum) == shard
    assert finished.checksum == shards_digest(file.checksum for file in files)


def test_a_block_counts_once_its_entry_is_there(host, objects):
    worker = host("worker")
    worker.publish(make(worker.folder, 0))
    entry = next(one.key for one in objects.list(FOLDER) if one.key.endswith(".json"))
    text = objects.read(entry)
    for half in (b"", text[: len(text) // 2]):
        objects.write(entry, half)
        assert worker.blocks([identity(0)]) == {}
    objects.delete(entry)
    assert worker.blocks([identity(0)]) == {}
    objects.write(entry, text)
    assert set(worker.blocks([identity(0)])) == {identity(0)}


def test_a_block_whose_object_is_cut_or_missing_does_not_count(host, objects):
    worker = host("worker")
    worker.publish(make(worker.folder, 0))
    block = next(one.key for one in objects.list(FOLDER) if one.key.endswith(".h5"))
    objects.write(block, objects.read(block)[:-1])
    assert worker.blocks([identity(0)]) == {}
    objects.delete(block)
    assert worker.blocks([identity(0)]) == {}


def test_a_block_is_uploaded_once(host, proxy):
    worker = host("worker")
    worker.publish(make(worker.folder, 0))
    assert proxy.count("PUT") == 2
    worker.publish(make(worker.folder, 0))
    assert proxy.count("PUT") == 2


@pytest.mark.parametrize("suffix", [".h5", ".json"])
@pytest.mark.parametrize("spoil", ["delete", "empty"])
def test_a_block_that_lost_a_part_of_it_is_published_again(suffix, spoil, host, objects):
    worker = host("worker")
    worker.publish(make(worker.folder, 0))
    part = next(one.key for one in objects.list(FOLDER) if one.key.endswith(suffix))
    if spoil == "delete":
        objects.delete(part)
    else:
        objects.write(part, b"")
    assert worker.blocks([identity(0)]) == {}
    worker.publish(make(worker.folder, 0))
    assert set(worker.blocks([identity(0)])) == {identity(0)}


def test_a_block_made_twice_with_other_numbers_harms_none(host, local, objects):
    worker, other = host("worker"), host("other")
    first, second = make(worker.folder, 0), make(other.folder, 0, seed=1)
    worker.publish(first)
    other.publish(second)
    agreed = worker.blocks([identity(0)])[identity(0)]
    assert agreed.checksum == other.blocks([identity(0)])[identity(0)].checksum
    assert agreed.checksum in (first.checksum, second.checksum)
    worker.finish(whole(1), [first])
    assert other.shard(SHARD, N_SHARDS).blocks[0].checksum == first.checksum
    assert len(objects.list(FOLDER)) == 4
    assert worker.fetch_shard(SHARD, N_SHARDS).path.read_bytes() == local(1)


def test_blocks_of_another_index_are_not_taken_and_go_when_the_shard_is_there(host, objects):
    worker = host("worker")
    worker.publish(make(worker.folder, 0, index_digest="other"))
    assert worker.blocks([identity(0)]) == {}
    wanted = make(worker.folder, 0)
    worker.publish(wanted)
    objects.write(f"{FOLDER}/notes", b"of a person")
    assert len(objects.list(FOLDER)) == 5
    worker.finish(whole(1), [wanted])
    assert len(objects.list(FOLDER)) == 3
    assert set(worker.blocks([identity(0)])) == {identity(0)}


def test_a_block_that_is_not_listed_yet_is_made_again_and_nothing_is_lost(host, proxy, local):
    worker = host("worker")
    worker.publish(make(worker.folder, 0))
    proxy.not_yet_listed = "block-00000"
    assert worker.blocks([identity(0)]) == {}
    again = make(worker.folder, 0)
    worker.publish(again)
    worker.finish(whole(1), [again])
    assert worker.fetch_shard(SHARD, N_SHARDS).path.read_bytes() == local(1)


def test_a_shard_counts_once_its_manifest_is_whole(host, objects):
    worker = host("worker")
    file = make(worker.folder, 0)
    worker.publish(file)
    assert worker.shard(SHARD, N_SHARDS) is None
    worker.finish(whole(1), [file])
    text = objects.read("shard-01-of-03.json")
    changed = text.replace(b'"tokens":10', b'"tokens":99')
    assert changed != text
    for broken in (b"", text[:-1], b"[]", changed):
        objects.write("shard-01-of-03.json", broken)
        assert worker.shard(SHARD, N_SHARDS) is None
    with pytest.raises(StoreError, match=r"folder/shard-01-of-03\.json: no such shard; embed it"):
        worker.fetch_shard(SHARD, N_SHARDS)


def test_a_finished_shard_is_one_of_this_identity_with_all_its_blocks(host, objects):
    worker = host("worker")
    files = [make(worker.folder, block) for block in range(2)]
    for file in files:
        worker.publish(file)
    assert worker.finished(whole(2)) is None
    assert worker.finish(whole(2), files) == worker.finished(whole(2))
    assert worker.finished(replace(whole(2), index_digest="other")) is None
    objects.delete(next(one.key for one in objects.list(FOLDER) if one.key.endswith(".h5")))
    assert worker.finished(whole(2)) is None
    assert set(worker.blocks([identity(0), identity(1)])) == {identity(1)}


def test_a_file_of_other_numbers_is_fetched_again(host, tmp_path, local):
    reader, worker = host("reader"), host("worker")
    without = identity(0).rows()[:1].tolist()
    numbers = np.zeros((ROWS, DIM), np.float32)
    path = shard_path(reader.folder, SHARD, N_SHARDS)
    write_embeddings(path, whole(1), ORIGIN, Counts(tokens=10), DIM, [numbers], without)
    file = make(worker.folder, 0)
    worker.publish(file)
    worker.finish(whole(1), [file])
    assert reader.fetch_shard(SHARD, N_SHARDS).set_aside == ()
    assert path.read_bytes() == local(1)


def test_a_fetch_that_was_interrupted_goes_on(host, proxy):
    worker, reader = host("worker"), host("reader")
    files = [make(worker.folder, block) for block in range(3)]
    for file in files:
        worker.publish(file)
    worker.finish(whole(3), files)
    reader.fetch(files[1])
    proxy.seen.clear()
    reader.fetch_shard(SHARD, N_SHARDS)
    assert proxy.count("GET", "block-00000") == proxy.count("GET", "block-00002") == 1
    assert proxy.count("GET", "block-00001") == 0


def test_a_block_changed_in_the_store_is_named_and_made_again_once_deleted(host, objects, local):
    worker, reader = host("worker"), host("reader")
    file = make(worker.folder, 0)
    worker.publish(file)
    worker.finish(whole(1), [file])
    block = next(one.key for one in objects.list(FOLDER) if one.key.endswith(".h5"))
    text = bytearray(objects.read(block))
    text[-100] ^= 1
    objects.write(block, bytes(text))
    damaged = (
        r"^s3://.*block-00000.*\.h5: does not match its checksum; delete this object and embed"
    )
    with pytest.raises(StoreError, match=damaged):
        reader.fetch_shard(SHARD, N_SHARDS)
    objects.delete(block)
    assert worker.finished(whole(1)) is None
    assert worker.blocks([identity(0)]) == {}
    again = make(worker.folder, 0)
    worker.publish(again)
    worker.finish(whole(1), [again])
    assert reader.fetch_shard(SHARD, N_SHARDS).path.read_bytes() == local(1)


def test_another_block_under_the_name_is_found_and_named(host, objects):
    worker, reader = host("worker"), host("reader")
    file, other = make(worker.folder, 0), make(reader.folder, 0, seed=1)
    worker.publish(file)
    block = next(one.key for one in objects.list(FOLDER) if one.key.endswith(".h5"))
    objects.publish(other.path, block)
    other.path.unlink()
    with pytest.raises(StoreError, match=r"s3://.*block-00000.*: is another block than was publ"):
        reader.fetch(file)


def test_an_upload_that_ends_between_a_block_and_its_entry_goes_on(host, proxy, slow_down):
    """The block's object is there and does not count; made again, it does."""
    worker = host("worker")
    file = make(worker.folder, 0)
    proxy.fault = lambda method, path: slow_down if method == "PUT" and ".json" in path else None
    impatient = Published(replace(worker.objects, patience=0), worker.folder)
    with pytest.raises(StoreError, match="throttling for too long"):
        impatient.publish(file)
    proxy.fault = lambda method, path: None
    assert file.path.exists()
    assert worker.blocks([identity(0)]) == {}
    worker.publish(file)
    assert set(worker.blocks([identity(0)])) == {identity(0)}


@pytest.mark.platform
def test_a_thousand_blocks(host, objects, proxy, local, slow_down):
    """Every tenth upload is throttled, and every seventh block is published by two workers."""
    blocks = 1000
    uploads = iter(range(10**9))
    proxy.fault = lambda method, path: (
        slow_down if method == "PUT" and next(uploads) % 10 == 0 else None
    )

    def work(name, numbers):
        worker = host(name)
        for block in numbers:
            worker.publish(make(worker.folder, block))

    shares = [range(start, blocks, 4) for start in range(4)] + [range(0, blocks, 7)]
    workers = [
        threading.Thread(target=work, args=(f"worker-{number}", share))
        for number, share in enumerate(shares)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    proxy.fault = lambda method, path: None
    assert len(objects.list(FOLDER)) == 2 * blocks
    proxy.seen.clear()
    coordinator = host("coordinator")
    wanted = [identity(block) for block in range(blocks)]
    found = coordinator.blocks(wanted)
    assert set(found) == set(wanted)
    assert proxy.count("GET", "list-type=2") == 2
    assert proxy.count("GET", ".h5") == 0
    assert proxy.count("GET", ".json") == proxy.count("HEAD", ".json") == blocks
    coordinator.finish(whole(blocks), [found[one] for one in wanted])
    assert proxy.count("GET", ".h5") == 0
    proxy.seen.clear()
    reader = host("reader")
    shard = reader.fetch_shard(SHARD, N_SHARDS)
    assert proxy.count("GET", ".h5") == blocks
    assert shard.path.read_bytes() == local(blocks)
