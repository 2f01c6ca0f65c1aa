"""A folder of files is replaced by one at a time, on all machines of a file system."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext

import pytest

from virnuc_assets import pipeline
from virnuc_assets.classifier import head
from virnuc_assets.errors import InputError, StoreError
from virnuc_assets.sequences import folder as folder_module
from virnuc_assets.sequences.folder import MANIFEST_FILE, STAGING, kept_as_it_is, replaced_folder
from virnuc_assets.sequences.index import build_index
from virnuc_assets.settings import Models
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import register
from virnuc_assets.store.shard_locks import LOCKS, folder_if_free


@pytest.fixture
def other_machine(monkeypatch):
    """Locks on folders end where a machine does; those on files in them do not."""
    monkeypatch.setattr(folder_module, "sole_writer", lambda directory: nullcontext())


def is_free(directory):
    with folder_if_free(directory) as free:
        return free


def test_who_replaces_files_keeps_other_machines_out(tmp_path, other_machine):
    with replaced_folder(tmp_path) as staging:
        assert not is_free(tmp_path)
        (staging / MANIFEST_FILE).write_text("{}")
    assert is_free(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {MANIFEST_FILE, LOCKS}


def test_an_index_waits_for_one_of_another_machine_and_is_the_same(
    write, tmp_path, other_machine, monkeypatch
):
    fasta, directory = write(">a\nATGGCCATTGCA\n"), tmp_path / "index"
    asked, made = threading.Event(), []
    lock = folder_module.kept_as_it_is

    @contextmanager
    def asking(directory):
        asked.set()
        with lock(directory):
            yield

    monkeypatch.setattr(folder_module, "kept_as_it_is", asking)

    def build():
        made.append(build_index(fasta, directory, 300, tool_version="1"))

    with lock(directory):
        (directory / STAGING).mkdir()
        (directory / STAGING / "of the first").touch()
        threads = [threading.Thread(target=build) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert asked.wait(30)
        threads[0].join(0.2)
        assert not made
        assert (directory / STAGING / "of the first").exists()
    for thread in threads:
        thread.join(30)
    assert len(made) == 3
    assert made[0] == made[1] == made[2]


def test_calls_are_made_of_an_index_that_no_machine_replaces(write, tmp_path, monkeypatch):
    layout = Layout(tmp_path)
    register(layout, "s", write(">a\nATG\n"))
    free = []

    def read_manifest(index):
        free.append(is_free(index))
        raise StoreError("enough")

    monkeypatch.setattr(pipeline, "head_folder", lambda *_: tmp_path)
    monkeypatch.setattr(head, "load_head", lambda folder: None)
    monkeypatch.setattr(pipeline, "read_manifest", read_manifest)
    with pytest.raises(StoreError, match="enough"):
        pipeline.predict_sample(layout, "s", 1, Models(esm2="", dnabert_s="", head="h"))
    assert free == [False]
    assert is_free(layout.index("s"))


def test_a_new_folder_in_which_nothing_was_made_goes(write, tmp_path):
    with pytest.raises(InputError):
        build_index(write(">a\nMKLE\n"), tmp_path / "index", 300, tool_version="1")
    assert not (tmp_path / "index").exists()


def test_a_folder_with_a_file_in_it_stays(tmp_path):
    with kept_as_it_is(tmp_path):
        (tmp_path / "file").touch()
    with pytest.raises(KeyError), replaced_folder(tmp_path):
        raise KeyError
    assert (tmp_path / "file").exists()
