"""What is done beside the main thread, and leaving while it is under way."""

import subprocess
import sys
import threading

import pytest

from virnuc_assets.runner.background import in_thread

HOLDS_HDF5S_LOCK = """
import threading, time
import h5py
from h5py._objects import phil
from virnuc_assets.runner.background import leave

file = h5py.File("held.h5", "w", driver="core", backing_store=False)
held = threading.Event()

def hold():
    with phil:
        held.set()
        time.sleep(3600)

threading.Thread(target=hold, daemon=True).start()
held.wait()
leave(7)
"""


def test_the_main_thread_may_wait_for_what_another_does():
    assert in_thread(threading.current_thread).result() is not threading.current_thread()


def test_what_it_raises_is_raised_where_the_result_is_asked_for():
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 / 0).result()


def test_leaving_waits_for_no_thread_that_holds_hdf5s_lock(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HOLDS_HDF5S_LOCK],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=100,
        check=False,
    )
    assert done.returncode == 7
