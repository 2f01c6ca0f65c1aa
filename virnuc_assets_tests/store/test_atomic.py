import errno
import os

import pytest

from virnuc_assets.errors import DiskFullError, StoreError
from virnuc_assets.store.atomic import atomic_path, read_json, write_json


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_unwritable_folder_is_named(tmp_path):
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(StoreError, match=r"file/folder/x.json: cannot be written"):
        write_json(blocker / "folder" / "x.json", {})


def test_json_round_trip_and_clear_errors(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": [None, "ü"]})
    assert read_json(path) == {"a": [None, "ü"], "b": 1}
    path.write_text("{")
    with pytest.raises(StoreError, match=r"x\.json: is not valid JSON"):
        read_json(path)
    with pytest.raises(StoreError, match=r"y\.json: no such file"):
        read_json(tmp_path / "y.json")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_explained_and_leaves_nothing_behind(tmp_path, number):
    with (
        pytest.raises(DiskFullError, match=r"x\.h5: the disk, or the quota on it, is full; free"),
        atomic_path(tmp_path / "x.h5"),
    ):
        raise OSError(number, os.strerror(number))
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_known_by_the_systems_words_too(tmp_path):
    with (
        pytest.raises(DiskFullError, match=r"x\.h5: the disk"),
        atomic_path(tmp_path / "x.h5"),
    ):
        raise OSError("write failed: errno = 28,\n error message = 'No space left on device', buf")
