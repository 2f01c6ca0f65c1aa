"""What an earlier run left: blocks that verify are kept, any other is named and made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from virnuc_assets.runner.identity import Digests, block_file, block_identity
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.resume import (
    find_finished_blocks,
    finished_shard,
    plan_shards,
    remove_leftovers,
)
from virnuc_assets.store.embeddings import (
    Counts,
    Origin,
    assemble_shard,
    blocks_directory,
    write_embeddings,
)

DIGESTS = Digests(weights="w", encoder="e")
ORIGIN = Origin("pretended", "w", "CPU", "none", "plain", 1, "truncate")
DIM = 40


def write(path, job, digests, block):
    identity = block_identity(job, digests, block)
    values = np.repeat(identity.rows()[:, None], DIM, axis=1).astype(np.float32)
    return write_embeddings(path, identity, ORIGIN, Counts(), DIM, [values])


@pytest.fixture
def job(make_job):
    """60 rows in 2 shards of 3 blocks."""
    return make_job().resolved()


@pytest.fixture
def resume(job):
    """Look what is left of shard 0, whose three blocks were done: reused blocks, warnings."""

    def look(spoil):
        shard = plan_shards(job)[0]
        for block in shard.blocks:
            write(block_file(job, block), job, DIGESTS, block)
        spoil(block_file(job, shard.blocks[1]))
        events = []
        find_finished_blocks(job, DIGESTS, shard, events.append)
        return sorted(shard.files), [event.message for event in events]

    return look


def torn(path):
    """Pages that never reached the disk."""
    data = path.read_bytes()
    path.write_bytes(data[:1024] + bytes(len(data) - 1024))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def flipped(at):
    def flip(path):
        data = bytearray(path.read_bytes())
        data[at] ^= 16
        path.write_bytes(data)

    return flip


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (torn, "does not match its checksum"),
        (truncated, "was cut short or written in part"),
        (flipped(0), "is no embedding file of this version"),
        (flipped(600), "does not match its checksum"),  # HDF5's own structures
        (flipped(2800), "does not match its checksum"),  # the numbers
        (flipped(-40), "does not match its checksum"),  # what is said of them
        (lambda path: path.write_text("dear reader"), "is no embedding file of this version"),
    ],
)
def test_a_spoilt_block_is_named_and_made_again(resume, job, spoil, reason):
    done, warnings = resume(spoil)
    assert done == [0, 2]
    path = blocks_directory(Path(job.output), 0, 2) / "block-00001.h5"
    assert warnings == [f"{path}: {reason}; it is made again"]


@pytest.mark.parametrize(
    ("name", "of", "is_now"),
    [
        ("index_digest", lambda job: replace(job, index_digest="other"), "index"),
        ("dtype", lambda job: replace(job, encoding=replace(job.encoding, dtype="x")), "float32"),
        ("encoder_digest", lambda job: Digests(weights="v", encoder="other"), "e"),
        ("n_shards", lambda job: replace(job, n_shards=3), 2),
    ],
)
def test_a_foreign_block_is_named_and_made_again(resume, job, name, of, is_now):
    def replace_by_foreign(path):
        other = of(job)
        digests = other if isinstance(other, Digests) else DIGESTS
        write(path, job if other is digests else other, digests, Block(0, 1, 10, 20, 0))

    done, (warning,) = resume(replace_by_foreign)
    assert done == [0, 2]
    assert f"was made from something else ({name} is " in warning
    assert warning.endswith(f", not {is_now!r}); it is made again")


def test_a_block_in_another_blocks_place_is_named_and_made_again(resume, job):
    done, (warning,) = resume(
        lambda path: path.write_bytes(path.with_name("block-00002.h5").read_bytes())
    )
    assert done == [0, 2]
    assert "was made from something else (start is 20, not 10; stop is 30, not 20)" in warning


def test_blocks_that_verify_are_kept_without_a_word(resume):
    assert resume(lambda path: None) == ([0, 1, 2], [])


def test_a_spoilt_shard_is_named_and_its_blocks_are_looked_at(job):
    shard = plan_shards(job)[0]
    files = [write(block_file(job, block), job, DIGESTS, block) for block in shard.blocks]
    whole = block_identity(job, DIGESTS, Block(0, 0, 0, shard.sequences, 0))
    path = assemble_shard(Path(job.output), whole, files, DIM).path
    flipped(2800)(path)
    events = []
    assert finished_shard(job, DIGESTS, shard, 0, events.append) is None
    assert [event.message for event in events] == [
        f"{path}: does not match its checksum; it is made again"
    ]
    find_finished_blocks(job, DIGESTS, shard, events.append)
    assert sorted(shard.files) == [0, 1, 2]


def test_blocks_of_another_number_of_shards_are_removed(job):
    """Those of the same number stay, whether or not the job makes their shards."""
    job = replace(job, shards=(0,))
    output = Path(job.output)
    same = [blocks_directory(output, shard, 2) for shard in range(2)]
    other = [blocks_directory(output, 0, 1), blocks_directory(output, 3, 12)]
    for folder in (*same, *other):
        folder.mkdir(parents=True)
        (folder / "block-00000.h5").touch()
    remove_leftovers(job)
    assert sorted(output.glob("*.blocks")) == same
    assert all((folder / "block-00000.h5").exists() for folder in same)


def test_a_stray_folder_stays(job):
    stray = Path(job.output) / "shard-00-of-08 (1).blocks"
    stray.mkdir(parents=True)
    remove_leftovers(job)
    assert stray.is_dir()
