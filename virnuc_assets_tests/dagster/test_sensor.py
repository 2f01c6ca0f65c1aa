"""Arrivals: what the inbox sensor takes, what it says of the rest, and how often."""

import gzip
import json
import logging
import os
import time

import dagster as dg
import pytest

from virnuc_assets.sensors import inbox
from virnuc_assets.sensors.inbox import inbox_sensor
from virnuc_assets.store.samples import registered
from virnuc_assets_tests.dagster.deployment import FASTA, Deployment
from virnuc_assets_tests.dagster.processor_time import say


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


class Inbox:
    """The inbox of a deployment, its sensor evaluated as the daemon would."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.folder = deployment.layout.inbox
        self.folder.mkdir(parents=True)
        self.cursor = None
        self.messages = []

    def drop(self, name, text=FASTA):
        (self.folder / name).write_text(text)
        return self.folder / name

    def tick(self, lost=False):
        """Evaluate the sensor and apply what it asks for, unless that is lost on the way."""
        with dg.build_sensor_context(
            instance=self.deployment.instance,
            cursor=self.cursor,
            resources=self.deployment.resources(),
            definitions=self.deployment.defs,
        ) as context:
            heard = Heard()
            context.log.addHandler(heard)
            result = inbox_sensor(context)
        self.messages = heard.messages
        if not lost:
            self.cursor = result.cursor
            self.deployment.apply(result)
        return result

    def samples(self):
        return sorted(self.deployment.instance.get_dynamic_partitions("sample"))


@pytest.fixture
def deployment(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Deployment(tmp_path, instance)


@pytest.fixture
def box(deployment):
    return Inbox(deployment)


def test_a_file_becomes_a_sample_once_it_has_settled(deployment, box):
    file = box.drop("run 7.fa")
    box.tick()
    assert box.samples() == []
    file.write_text(FASTA * 2)
    box.tick()
    assert box.samples() == []
    box.tick()
    assert box.samples() == ["run_7"]
    assert box.messages == ["run 7.fa is sample run_7"]
    assert registered(deployment.layout, "run_7").source == str(file)
    again = box.tick()
    assert not again.dynamic_partitions_requests and not again.asset_events
    assert box.messages == []


def test_a_sample_is_observed_before_it_is_added(box):
    box.drop("a.fa")
    box.tick()
    result = box.tick()
    assert {(event.asset_key.to_user_string(), event.partition) for event in result.asset_events} \
        == {("sample_file", "a"), ("sample_head", "a")}  # fmt: skip


def test_a_tick_that_was_lost_half_way_is_made_good(box):
    box.drop("a.fa")
    box.tick()
    box.tick(lost=True)
    assert box.samples() == []
    box.tick()
    assert box.samples() == ["a"]


def test_the_cursor_of_an_earlier_version_is_no_obstacle(box):
    box.cursor = json.dumps({"seen": {"a.fa": "1-1"}, "taken": {}})
    box.drop("a.fa")
    box.tick()
    box.tick()
    assert box.samples() == ["a"]


def test_packed_files_and_reads_are_taken(box):
    (box.folder / "packed.fa.gz").write_bytes(gzip.compress(FASTA.encode()))
    box.drop("reads.fastq", "@r\nACGT\n+\nIIII\n")
    box.tick()
    box.tick()
    assert box.samples() == ["packed", "reads"]


def test_two_files_for_one_sample_are_told_once(deployment, box):
    for name in ("a.fa", "a.fasta"):
        box.drop(name)
    box.tick()
    box.tick()
    assert box.samples() == ["a"]
    assert registered(deployment.layout, "a").source.endswith("a.fa")
    (sentence,) = [message for message in box.messages if "a.fasta" in message]
    assert "would be sample a, which is made from" in sentence and "rename" in sentence
    for _ in range(3):
        box.tick()
        assert box.messages == []
    (box.folder / "a.fasta").rename(box.folder / "b.fasta")
    box.tick()
    box.tick()
    assert box.samples() == ["a", "b"]


def test_an_unreadable_file_is_told_once_and_taken_when_it_changes(box):
    file = box.drop("empty.fa", "")
    box.tick()
    box.tick()
    (sentence,) = box.messages
    assert "empty.fa: the file is empty" in sentence
    for _ in range(3):
        box.tick()
        assert box.messages == []
    file.write_text(FASTA)
    box.tick()
    box.tick()
    assert box.samples() == ["empty"]
    assert json.loads(box.cursor) == {"waiting": {}, "sheets": {}, "told": {}}


def test_what_is_no_sequence_file_is_left_alone(box):
    box.drop("notes.txt", "hello")
    box.drop(".hidden.fa")
    (box.folder / "folder.fa").mkdir()
    box.tick()
    box.tick()
    assert box.samples() == [] and box.messages == []


def test_a_tick_takes_no_more_than_its_share(box, monkeypatch):
    monkeypatch.setattr(inbox, "FILES_A_TICK", 3)
    for number in range(7):
        box.drop(f"s{number}.fa")
    box.drop("a_broken.fa", "")
    taken = []
    for _ in range(5):
        box.tick()
        taken.append(len(box.samples()))
    assert taken == [0, 2, 5, 7, 7]


def test_the_cursor_holds_only_what_is_not_taken(box):
    for number in range(20):
        box.drop(f"s{number}.fa")
    box.tick()
    assert len(json.loads(box.cursor)["waiting"]) == 20
    box.tick()
    assert json.loads(box.cursor) == {"waiting": {}, "sheets": {}, "told": {}}


def test_a_sheet_in_the_inbox_adds_its_samples(deployment, box):
    (box.folder / "run7").mkdir()
    file = box.folder / "run7" / "x.fa"
    file.write_text(FASTA)
    sheet = box.drop("samples.csv", "name,path,chunk length\npatient 1,run7/x.fa,\n")
    box.tick()
    box.tick()
    (sentence,) = box.messages
    assert "'patient 1' cannot name a sample" in sentence and "line 2" in sentence
    box.tick()
    assert box.messages == [] and box.samples() == []
    sheet.write_text("name,path,chunk length\npatient_1,run7/x.fa,300\n")
    box.tick()
    box.tick()
    assert box.samples() == ["patient_1"]
    assert registered(deployment.layout, "patient_1").chunk_length == 300
    box.tick()
    assert box.messages == []


def test_a_file_that_a_sheet_names_is_no_sample_of_its_own(deployment, box):
    box.drop("x.fa")
    box.drop("samples.csv", "path,name,chunk_length\nx.fa,renamed,300\n")
    box.tick()
    box.tick()
    box.tick()
    assert box.samples() == ["renamed"]


def test_a_sheet_waits_for_the_files_it_names(box):
    box.drop("samples.csv", "path\nrun7/x.fa\n")
    (box.folder / "run7").mkdir()
    file = box.folder / "run7" / "x.fa"
    file.write_text(FASTA)
    box.tick()
    file.write_text(FASTA * 2)
    os.utime(file, ns=(1, 1))
    box.tick()
    assert box.samples() == []
    box.tick()
    assert box.samples() == ["x"]


def test_a_file_that_a_faulty_sheet_names_waits_for_it(deployment, box):
    """Else it would be a sample by the deployment's settings, and one by the sheet's later."""
    box.drop("x.fa")
    sheet = box.drop("samples.csv", "path,name\nx.fa,no name\n")
    for _ in range(3):
        box.tick()
    assert box.samples() == []
    sheet.write_text("path,name\nx.fa,renamed\n")
    for _ in range(3):
        box.tick()
    assert box.samples() == ["renamed"]


def test_a_file_may_be_taken_out_once_its_sheet_was_taken(box):
    file = box.drop("x.fa")
    box.drop("samples.csv", "path,name\nx.fa,renamed\n")
    for _ in range(3):
        box.tick()
    file.unlink()
    for _ in range(3):
        box.tick()
        assert box.messages == []
    assert box.samples() == ["renamed"]


@pytest.mark.parametrize("cells", ["x" * 300 + ".fa,", "x.fa," + "n" * 300, "x\0.fa,"])
def test_a_name_that_no_file_can_have_holds_up_no_other(cells, box):
    box.drop("samples.csv", f"path,name\n{cells}\n")
    box.drop("other.fa")
    for _ in range(3):
        box.tick()
    assert box.samples() == ["other"]


@pytest.mark.platform
def test_thousands_of_files_are_taken_a_tick_at_a_time(box):
    for number in range(5000):
        box.drop(f"s{number:04d}.fa")
    box.tick()
    for tick in range(1, 4):
        began, largest = time.process_time(), len(box.cursor)
        result = box.tick(lost=True)
        say(f"a tick: {time.process_time() - began:.2f} s of a processor, cursor {largest} bytes")
        began = time.process_time()
        box.cursor = result.cursor
        box.deployment.apply(result)
        say(f"writing down what it saw: {time.process_time() - began:.2f} s of a processor")
        assert len(box.samples()) == tick * inbox.FILES_A_TICK
        assert len(json.loads(result.cursor)["waiting"]) == 5000 - tick * inbox.FILES_A_TICK
