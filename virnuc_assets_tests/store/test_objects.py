import hashlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from virnuc_assets.errors import SettingsError, StoreError
from virnuc_assets.store.objects import is_url, open_objects

# Larger than one part of an upload, of which two are under way at once.
LARGE = 25_000_000


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def failing(times, fault, method="PUT"):
    left = [times]

    def of(asked, path):
        if asked == method and left[0]:
            left[0] -= 1
            return fault
        return None

    return of


def test_what_is_published_is_found_listed_fetched_and_deleted(objects, tmp_path):
    small = tmp_path / "small"
    small.write_bytes(b"some numbers")
    objects.publish(small, "a/small")
    objects.write("a/b/other", b"more")
    assert [(one.key, one.size) for one in objects.list()] == [("a/b/other", 4), ("a/small", 12)]
    assert [one.key for one in objects.list("a/b")] == ["a/b/other"]
    assert objects.size("a/small") == 12
    assert objects.read("a/small") == b"some numbers"
    objects.fetch("a/small", tmp_path / "copy", sha256(b"some numbers"))
    assert (tmp_path / "copy").read_bytes() == b"some numbers"
    for _ in range(2):
        objects.delete("a/small")
    assert objects.size("a/small") is None
    assert objects.read("a/small") is None
    objects.delete_folder("a")
    objects.delete_folder("never/there")
    assert objects.list() == []
    assert objects.list("never/there") == []


def test_a_large_file_goes_in_parts_and_comes_back_the_same(objects, large, proxy, tmp_path):
    objects.publish(large, "large")
    assert proxy.count("PUT", "partNumber") == 3
    objects.fetch("large", tmp_path / "copy", sha256(large.read_bytes()))
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()


@pytest.mark.parametrize("fault", ["slow_down", "cut"])
def test_an_upload_that_is_throttled_or_cut_off_is_tried_again(
    fault, objects, large, proxy, request
):
    proxy.fault = failing(2, request.getfixturevalue(fault))
    objects.publish(large, "large")
    assert proxy.count("PUT", "partNumber") == 5
    assert objects.read("large") == large.read_bytes()


@pytest.mark.parametrize("fault", ["slow_down", "cut"])
def test_a_download_that_is_throttled_or_cut_off_is_tried_again(
    fault, objects, large, proxy, tmp_path, request
):
    objects.publish(large, "large")
    proxy.fault = failing(2, request.getfixturevalue(fault), "GET")
    objects.fetch("large", tmp_path / "copy", sha256(large.read_bytes()))
    assert proxy.count("GET") == 3


def test_what_arrives_changed_is_refused_and_leaves_no_file(objects, tmp_path):
    objects.write("key", b"other numbers")
    with pytest.raises(StoreError, match=r"some/folder/key: does not match its SHA-256; delete"):
        objects.fetch("key", tmp_path / "copy", sha256(b"some numbers"))
    assert not any(tmp_path.iterdir())


def test_a_missing_object_is_named(objects, tmp_path, monkeypatch):
    monkeypatch.setattr("virnuc_assets.store.objects._LATE_SECONDS", (0.01,))
    with pytest.raises(StoreError, match=r"some/folder/key: no such object; make it again"):
        objects.fetch("key", tmp_path / "copy")


def test_an_object_that_comes_late_is_waited_for(objects, tmp_path, monkeypatch):
    monkeypatch.setattr("virnuc_assets.store.objects._LATE_SECONDS", (0.1,) * 100)
    threading.Timer(0.2, objects.write, ["key", b"numbers"]).start()
    objects.fetch("key", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"numbers"


def test_a_process_killed_in_the_middle_of_an_upload_leaves_nothing(objects, large, proxy, url):
    arrived, release = threading.Event(), threading.Event()

    def hold_the_second_part(method, path):
        if "partNumber=2" in path:
            arrived.set()
            release.wait(30)

    proxy.fault = hold_the_second_part
    program = (
        "import sys; from pathlib import Path; from virnuc_assets.store.objects import open_objects"
        "; open_objects(sys.argv[1]).publish(Path(sys.argv[2]), 'large')"
    )
    publisher = subprocess.Popen([sys.executable, "-c", program, url, str(large)])
    assert arrived.wait(60)
    publisher.send_signal(signal.SIGKILL)
    publisher.wait()
    release.set()
    assert objects.list() == []
    assert objects.size("large") is None
    objects.publish(large, "large")
    assert objects.read("large") == large.read_bytes()


def test_throttled_for_good_is_a_sentence(objects, proxy, slow_down):
    proxy.fault = lambda method, path: slow_down
    with pytest.raises(
        StoreError,
        match=r"^s3://.*/key: the store has been throttling for too long; start again with fewer "
        r"workers, what is published is kept \(.*SLOW_DOWN",
    ):
        replace(objects, patience=0.1).write("key", b"numbers")


@pytest.mark.platform
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_server_that_does_not_answer_is_asked_again(method, url, proxy, monkeypatch):
    monkeypatch.setattr("virnuc_assets.store.objects._REQUEST_SECONDS", 1.0)
    impatient, release, left = open_objects(url), threading.Event(), [1]
    impatient.write("key", b"numbers")

    def silent(asked, path):
        if asked == method and left[0]:
            left[0] -= 1
            release.wait(60)

    proxy.fault = silent
    impatient.write("key", b"numbers")
    assert impatient.read("key") == b"numbers"
    release.set()
    assert left == [0]


@pytest.mark.platform
def test_a_client_that_was_throttled_often_still_tries_again(objects, proxy, slow_down):
    """Amazon's standard strategy has a budget of a hundred throttled requests for a process."""
    for number in range(120):
        proxy.fault = failing(1, slow_down)
        objects.write(f"key-{number}", b"numbers")
    assert len(objects.list()) == 120


def test_who_waits_is_told(objects, proxy, slow_down, caplog, monkeypatch):
    monkeypatch.setattr("virnuc_assets.store.objects._FIRST_PAUSE", 0.01)
    proxy.fault = failing(4, slow_down)
    objects.write("key", b"numbers")
    assert "some/folder/key: tried again in 0.0 s (When uploading object" in caplog.text
    assert proxy.count("PUT") == 5


@pytest.mark.parametrize("method", ["write", "read", "list", "size"])
def test_wrong_credentials_are_a_sentence(method, objects, proxy, forbidden):
    proxy.fault = lambda method, path: forbidden
    arguments = ["key", b"numbers"] if method == "write" else ["key"]
    with pytest.raises(
        StoreError,
        match=r"^s3://.*/key: the store refuses these credentials; set AWS_ACCESS_KEY_ID and "
        r"AWS_SECRET_ACCESS_KEY \(or AWS_PROFILE\) to some that may list",
    ):
        getattr(objects, method)(*arguments)


def test_a_missing_bucket_is_named(proxy):
    with pytest.raises(StoreError, match=r"^s3://nowhere/a/key: there is no such bucket; make it"):
        open_objects("s3://nowhere/a").write("key", b"numbers")


def test_a_store_out_of_reach_is_named(url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"cannot be reached; check AWS_ENDPOINT_URL"):
        replace(open_objects(url), patience=0).list()


@pytest.mark.parametrize("where", ["s3://", "s3:///key", "s3://bucket//key", "https://host/key"])
def test_what_is_no_url_of_a_folder_is_refused(where):
    with pytest.raises(SettingsError, match=r"is not the URL of a folder; write s3://BUCKET"):
        open_objects(where)


def test_urls_are_told_from_paths():
    assert is_url("s3://bucket/folder")
    assert is_url("gs://bucket")
    assert not any(map(is_url, ["/a/folder", "folder", "s3", "file:///a/folder"]))
