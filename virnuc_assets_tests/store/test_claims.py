import threading
from datetime import timedelta

import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.store.claims import sole_writer_of

SOON = 0.02
PARTS = ["shard-00", "shard-01"]


def test_a_second_writer_waits_and_is_told(objects):
    order, told, waiting = [], [], threading.Event()

    def second():
        def tell(text):
            told.append(text)
            waiting.set()

        with sole_writer_of(objects, PARTS, tell, look_seconds=SOON):
            order.append("second")

    with sole_writer_of(objects, PARTS):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert told == [
        f"{objects.url}: another run is writing there; waiting for it (if it was killed, 90 s at "
        "most)"
    ]
    assert objects.list() == []


def test_of_many_that_come_at_once_one_writes_at_a_time(objects):
    inside, most, done = [], [], []

    def writer(number):
        with sole_writer_of(objects, PARTS, lambda text: None, look_seconds=SOON):
            inside.append(number)
            most.append(len(inside))
            threading.Event().wait(SOON)
            inside.remove(number)
            done.append(number)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [0, 1, 2, 3]
    assert set(most) == {1}
    assert objects.list() == []


def test_writers_of_different_parts_go_side_by_side(objects):
    told = []
    with (
        sole_writer_of(objects, ["shard-00", "shard-01"], told.append),
        sole_writer_of(objects, ["shard-02"], told.append),
        sole_writer_of(objects, ["shard-03"], told.append),
    ):
        assert len(objects.list("writers")) == 3
    assert told == []
    assert objects.list() == []


def test_one_part_in_common_is_waited_for(objects):
    order, waiting = [], threading.Event()

    def second():
        with sole_writer_of(
            objects, ["shard-01", "shard-02"], lambda text: waiting.set(), look_seconds=SOON
        ):
            order.append("second")

    with sole_writer_of(objects, ["shard-00", "shard-01"]):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert objects.list() == []


def test_the_claim_of_a_writer_that_was_killed_is_void_after_a_while(objects):
    objects.write("writers/0-killed", b'["shard-01"]')
    with sole_writer_of(
        objects, PARTS, lambda text: None, look_seconds=0.2, void_after=timedelta(seconds=1)
    ):
        assert [stored.key for stored in objects.list()] != ["writers/0-killed"]
        assert len(objects.list()) == 1


@pytest.mark.parametrize("said", [b"1", b"", b"{}", b"null"])
def test_a_claim_that_names_no_parts_is_one_on_everything(objects, said):
    objects.write("writers/0-of-another-version", said)
    told = []

    def tell(text):
        told.append(text)
        objects.delete("writers/0-of-another-version")

    with sole_writer_of(objects, PARTS, tell, look_seconds=SOON):
        assert len(told) == 1


@pytest.mark.platform
def test_a_claim_is_renewed_while_its_writer_lives(objects, monkeypatch):
    monkeypatch.setattr("virnuc_assets.store.claims._RENEW_SECONDS", 0.2)
    entered = threading.Event()

    def second():
        with sole_writer_of(
            objects, PARTS, lambda text: None, look_seconds=0.1, void_after=timedelta(seconds=2)
        ):
            entered.set()

    with sole_writer_of(objects, PARTS):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(5)
    thread.join(30)
    assert entered.is_set()


def test_a_store_that_does_not_list_what_was_written_is_refused(objects, proxy):
    proxy.not_yet_listed = "writers/"
    with (
        pytest.raises(StoreError, match="does not list what was just written"),
        sole_writer_of(objects, PARTS),
    ):
        pass
