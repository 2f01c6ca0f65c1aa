"""What a run needs of the disk, by arithmetic and on a real disk that fills up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.errors import DiskFullError, as_size
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    assemble_shard,
    block_path,
    blocks_directory,
    shard_path,
    verify,
    write_embeddings,
)
from virnuc_assets.store.space import Unfinished, bytes_needed, check_space

DIM = 64
DISK_BYTES = 2 << 20
ORIGIN = Origin("model", "w" * 64, "CPU", "sdpa", "plain", 1024, "truncate")


def about(shard: int, start: int, stop: int) -> Identity:
    return Identity("esm2", "i" * 64, "e" * 64, "float32", 2, shard, start, stop)


def write(path: Path, identity: Identity, dim: int = DIM):
    n = identity.stop - identity.start
    pieces = (np.ones((min(500, n - at), dim), np.float32) for at in range(0, n, 500))
    return write_embeddings(path, identity, ORIGIN, Counts(), dim, pieces)


def used(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def test_nothing_to_do_needs_nothing() -> None:
    assert bytes_needed([], DIM) == 0


def test_all_blocks_and_the_largest_shard_lie_there_at_once() -> None:
    row = 4 * DIM + 8
    shards = [Unfinished(100, 30, 3), Unfinished(200, 0, 0)]
    assert bytes_needed(shards, DIM) == (30 + 200) * row + (3 + 1) * 16_384


@settings(deadline=None, max_examples=25)
@given(
    cuts=st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=4), min_size=1, max_size=3),
    dim=st.sampled_from([1, 64, 320]),
    data=st.data(),
)
def test_no_run_takes_more_than_was_estimated(tmp_path_factory, cuts, dim, data) -> None:
    folder = tmp_path_factory.mktemp("run")
    blocks = [
        (shard, number, sum(sizes[:number]), sum(sizes[: number + 1]))
        for shard, sizes in enumerate(cuts)
        for number in range(len(sizes))
    ]
    order = data.draw(st.permutations(blocks))
    n_done = data.draw(st.integers(0, len(blocks)))
    done = {}
    for shard, number, start, stop in order[:n_done]:
        path = block_path(folder, shard, 2, number)
        done[shard, number] = write(path, about(shard, start, stop), dim)
    todo = order[n_done:]
    needed = bytes_needed(
        [
            Unfinished(
                sum(sizes),
                sum(stop - start for s, _, start, stop in todo if s == shard),
                sum(s == shard for s, *_ in todo),
            )
            for shard, sizes in enumerate(cuts)
        ],
        dim,
    )
    at_start = used(folder)
    for shard, number, start, stop in todo:
        path = block_path(folder, shard, 2, number)
        done[shard, number] = write(path, about(shard, start, stop), dim)
    most = used(folder)
    for shard, sizes in enumerate(cuts):
        files = [done[shard, number] for number in range(len(sizes))]
        assemble_shard(folder, about(shard, 0, sum(sizes)), files, dim)
        most = max(most, used(folder))
        for file in files:
            file.path.unlink()
    assert most - at_start <= needed


def test_too_little_space_is_told_before_the_start(tmp_path) -> None:
    check_space(tmp_path / "not" / "made", 1)
    with pytest.raises(DiskFullError) as caught:
        check_space(tmp_path / "not" / "made", 10**18)
    assert (caught.value.needed, caught.value.path) == (10**18, tmp_path / "not" / "made")
    assert "1000000.0 TB are still needed and" in str(caught.value)
    assert "free some space" in str(caught.value)


def test_sizes_are_written_for_people() -> None:
    sizes = [0, 999, 1000, 12_345_678, 2 * 10**12]
    assert [as_size(size) for size in sizes] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "12.3 MB",
        "2.0 TB",
    ]


@pytest.fixture
def small_disk(tmp_path) -> Path:
    """A disk of 2 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_costs_nothing_that_is_finished(small_disk) -> None:
    blocks = []
    with pytest.raises(DiskFullError, match=r"block-0000\d\.h5: the disk.* is full; free some"):
        for number in range(9):
            identity = about(0, 1000 * number, 1000 * number + 1000)
            blocks.append(write(block_path(small_disk, 0, 2, number), identity))
    assert len(blocks) == 7
    assert {path.name for path in blocks_directory(small_disk, 0, 2).iterdir()} == {
        f"block-0000{number}.h5" for number in range(7)
    }
    for block in blocks:
        assert verify(block.path, block.identity) == block
    # Nor does the shard that has no room beside its blocks.
    with pytest.raises(DiskFullError, match=r"shard-00-of-02\.h5"):
        assemble_shard(small_disk, about(0, 0, 7000), blocks, DIM)
    assert [path.name for path in small_disk.iterdir()] == ["shard-00-of-02.blocks"]
    # After space is made it goes on.
    for block in blocks[3:]:
        block.path.unlink()
    assemble_shard(small_disk, about(0, 0, 3000), blocks[:3], DIM)
    verify(shard_path(small_disk, 0, 2), about(0, 0, 3000))


# A process of its own: HDF5 by itself crashes when its last structures find no room.
FILL = """
import sys
from pathlib import Path
from virnuc_assets.errors import DiskFullError
from virnuc_assets_tests.store.test_space import DISK_BYTES, about, write
folder, filler = Path(sys.argv[1]), Path(sys.argv[1]) / "filler"
full = 0
for left in range(0, 28_672, 1024):
    filler.write_bytes(bytes(DISK_BYTES - left))
    try:
        write(folder / "block.h5", about(0, 0, 40)).path.unlink()
    except DiskFullError:
        full += 1
    assert list(folder.iterdir()) == [filler]
print(full)
"""


def test_a_disk_that_is_full_to_the_last_bytes_is_an_error_and_no_crash(small_disk) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(small_disk)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 0 < int(done.stdout) < 28
