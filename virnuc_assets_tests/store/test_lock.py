import shutil
import threading

import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.store.lock import sole_writer


def test_a_second_writer_waits_and_is_told(tmp_path):
    folder, order, told = tmp_path / "folder", [], []
    waiting = threading.Event()

    def second():
        def tell(text):
            told.append(text)
            waiting.set()

        with sole_writer(folder, tell):
            order.append("second")

    with sole_writer(folder):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert told == [f"{folder}: another process is writing to this folder; waiting for it"]
    assert not any(folder.iterdir())


def test_a_folder_removed_by_its_holder_is_locked_anew(tmp_path):
    folder, waiting, entered = tmp_path / "folder", threading.Event(), []

    def second():
        with sole_writer(folder, lambda text: waiting.set()):
            entered.append(folder.is_dir())

    with sole_writer(folder):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        shutil.rmtree(folder)
    thread.join(30)
    assert entered == [True]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match="folder: cannot be written"),
        sole_writer(tmp_path / "file" / "folder"),
    ):
        pass
