"""What a report takes from the record of a run."""

import json
import os

import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.reporting import embedding_run

DEVICE = {"busy_seconds": 90.0, "starved_seconds": 10.0, "peak_memory_bytes": 1_000}
RECORD = {
    "job": {"index_digest": "i"},
    "started": "2026-11-22T10:00:59.123456+00:00",
    "seconds": 100.0,
    "sequences": 7,
    "tokens": 1234,
    "tokens_per_second": 12.34,
    "packing_efficiency": 0.99,
    "devices": {"0": DEVICE, "1": {**DEVICE, "starved_seconds": 50.0, "peak_memory_bytes": None}},
}


def write(folder, **changed):
    (folder / "run.json").write_text(json.dumps(RECORD | changed))


def test_devices_are_taken_together(tmp_path):
    write(tmp_path)
    run = embedding_run(tmp_path, "esm2", "i")
    assert run.busy_share == 180 / 240
    assert (run.n_devices, run.peak_memory_bytes) == (2, 1_000)
    assert run.started == "2026-11-22 10:00 UTC"
    assert (run.sequences, run.tokens, run.tokens_per_second) == (7, 1234, 12.34)


def test_a_cpu_measures_neither_waiting_nor_memory(tmp_path):
    cpu = {"busy_seconds": 0.0, "starved_seconds": 0.0, "peak_memory_bytes": None}
    write(tmp_path, devices={"cpu": cpu})
    run = embedding_run(tmp_path, "esm2", "i")
    assert (run.busy_share, run.peak_memory_bytes) == (None, None)


def test_a_run_of_another_index_or_none_is_not_told(tmp_path):
    assert embedding_run(tmp_path, "esm2", "i") is None
    write(tmp_path)
    assert embedding_run(tmp_path, "esm2", "another") is None


def test_a_record_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path, devices=None)
    with pytest.raises(StoreError, match=r"run\.json: is not the record of a run"):
        embedding_run(tmp_path, "esm2", "i")


def test_of_runs_of_some_shards_each_the_last_is_told(tmp_path):
    for number, name in enumerate(("run.json", "run-01-of-02.json", "run-00-of-02.json")):
        path = tmp_path / name
        path.write_text(json.dumps(RECORD | {"sequences": number}))
        os.utime(path, (number, number))
        assert embedding_run(tmp_path, "esm2", "i").sequences == number
