"""Runs of different shards of one folder, side by side; those of the same shard, one by one."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.store.embeddings import Counts, Identity, Origin, shard_rows, write_embeddings
from virnuc_assets.store.embeddings import shard_path as path_of
from virnuc_assets.store.shard_locks import (
    LOCKS,
    folder_if_free,
    is_being_made,
    own_shards,
    whole_folder,
)
from virnuc_assets.store.view import VIEW_FILE, read_view, renew_view, verify_view

ROWS, SHARDS = 7, 3


def write(folder, shard, encoder_digest="e"):
    rows = shard_rows(ROWS, shard, SHARDS)
    identity = Identity("esm2", "i", encoder_digest, "float32", SHARDS, shard, 0, rows)
    origin = Origin("m", "w", "CPU", "none", "plain", 1, "truncate")
    values = np.ones((rows, 2), np.float32)
    return write_embeddings(path_of(folder, shard, SHARDS), identity, origin, Counts(), 2, [values])


def is_free(folder):
    with folder_if_free(folder) as free:
        return free


def test_different_shards_are_made_at_a_time(tmp_path):
    folder, told = tmp_path / "folder", []
    with (
        own_shards(folder, 8, [0, 5], told.append),
        own_shards(folder, 8, [1, 2], told.append),
        own_shards(folder, 6, [0], told.append),
    ):
        made = [shard for shard in range(8) if is_being_made(folder, shard, 8)]
        assert made == [0, 1, 2, 5]
        assert not is_free(folder)
    assert told == []
    assert is_free(folder)
    assert [path.name for path in folder.iterdir()] == [LOCKS]


def test_looking_whether_a_folder_is_free_writes_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert is_free(folder)
    assert list(folder.iterdir()) == []
    with own_shards(folder, 8, [0]):
        opened, flags = os.open, []

        def note(path, how, *mode):
            flags.append(how)
            return opened(path, how, *mode)

        monkeypatch.setattr(os, "open", note)
        assert not is_free(folder)
    assert is_free(folder)
    assert set(flags) == {os.O_RDONLY}


def test_while_it_is_looked_at_nobody_takes_a_shard(tmp_path):
    order = []

    def take():
        with own_shards(tmp_path, 8, [0]):
            order.append("taken")

    with own_shards(tmp_path, 8, [0]):
        pass
    with folder_if_free(tmp_path) as free:
        assert free
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(0.2)
        order.append("looked")
    thread.join(30)
    assert order == ["looked", "taken"]


def test_who_waits_for_a_shard_is_told_and_keeps_nobody_waiting_for_the_rest(tmp_path):
    order, told, waiting = [], [], threading.Event()

    def second():
        def tell(text):
            told.append(text)
            waiting.set()

        with own_shards(tmp_path, 8, [3, 4], tell):
            order.append("second")

    with own_shards(tmp_path, 8, [4]):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        with own_shards(tmp_path, 8, [3]):
            order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert told == [f"{path_of(tmp_path, 4, 8)}: another run is making this shard; waiting for it"]


def test_the_view_is_made_by_the_last_and_shows_what_is_there_then(tmp_path):
    for shard in range(SHARDS):
        write(tmp_path, shard, "old")
    renew_view(tmp_path, SHARDS, {})
    with own_shards(tmp_path, SHARDS, [0, 1]) as first, own_shards(tmp_path, SHARDS, [2]) as last:
        first.hide_view()
        assert not (tmp_path / VIEW_FILE).exists()
        known = {shard: write(tmp_path, shard) for shard in (0, 1)}
        # The shard that is not yet replaced is there, and would go with the others by its name.
        first.give_back(known)
        assert not (tmp_path / VIEW_FILE).exists()
        last.hide_view()
        file = write(tmp_path, 2)
        (tmp_path / f".{VIEW_FILE}.host.1.tmp").touch()
        last.give_back({2: file})
    view = read_view(tmp_path / VIEW_FILE)
    assert (view.rows, view.encoder_digest) == (ROWS, "e")
    assert verify_view(view) == []
    assert not list(tmp_path.glob(".*.tmp"))


def test_of_many_that_end_at_once_one_makes_the_view(tmp_path):
    together = threading.Barrier(SHARDS)

    def make(shard):
        with own_shards(tmp_path, SHARDS, [shard]) as own:
            own.hide_view()
            file = write(tmp_path, shard)
            together.wait(30)
            own.give_back({shard: file})

    for _ in range(10):
        threads = [threading.Thread(target=make, args=(shard,)) for shard in range(SHARDS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert verify_view(read_view(tmp_path / VIEW_FILE)) == []


def test_shards_that_were_given_back_are_free_at_once(tmp_path):
    with own_shards(tmp_path, SHARDS, [0]) as own:
        own.give_back({})
        assert is_free(tmp_path)


def test_a_process_that_is_killed_holds_nothing_and_others_keep_theirs(tmp_path):
    holding = (
        "import sys, time; from pathlib import Path; "
        "from virnuc_assets.store.shard_locks import own_shards\n"
        "with own_shards(Path(sys.argv[1]), 8, [0]): print(flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holding, str(tmp_path)], stdout=subprocess.PIPE
    )
    process.stdout.readline()
    with own_shards(tmp_path, 8, [1]):
        assert [is_being_made(tmp_path, shard, 8) for shard in (0, 1)] == [True, True]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert [is_being_made(tmp_path, shard, 8) for shard in (0, 1)] == [False, True]


def test_a_folder_that_is_removed_meanwhile_is_locked_anew(tmp_path):
    folder, waiting, entered = tmp_path / "folder", threading.Event(), []

    def second():
        with own_shards(folder, 8, [0], lambda text: waiting.set()):
            entered.append(is_being_made(folder, 0, 8))

    with own_shards(folder, 8, [0]):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        shutil.rmtree(folder)
    thread.join(30)
    assert entered == [True]


def test_what_concerns_the_whole_folder_is_done_by_one_at_a_time(tmp_path):
    inside, most = [], []

    def enter(number):
        with whole_folder(tmp_path):
            inside.append(number)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1, 1, 1, 1]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match="folder: cannot be written"),
        own_shards(tmp_path / "file" / "folder", 8, [0]),
    ):
        pass
