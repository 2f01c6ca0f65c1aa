"""What a run's record says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from virnuc_assets.runner.messages import Finished
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.telemetry import Record, level
from virnuc_assets.store.embeddings import Counts, EmbeddingFile, Identity, Origin


def finished(busy, starved, flops=None, peak=None, ceiling=None):
    return Finished(
        Block(0, 0, 0, 10, 100),
        EmbeddingFile(
            Path("block.h5"),
            Identity("esm2", "i", "e", "float16", 1, 0, 0, 10),
            Counts(tokens=300),
            Origin("m", "w", "d", "a", "e", 400, "truncate"),
            4,
            "",
        ),
        busy + starved,
        slots=400,
        busy_seconds=busy,
        starved_seconds=starved,
        flops=flops,
        peak_memory_bytes=peak,
        ceiling=ceiling,
    )


@pytest.mark.parametrize(
    ("share", "found"),
    [
        (None, None),
        (0.0, "critical"),
        (0.49, "critical"),
        (0.5, "mild"),
        (0.79, "mild"),
        (0.8, None),
    ],
)
def test_how_bad_waiting_is(share, found):
    assert level(share) == found


def test_a_record_says_what_each_device_did(make_job):
    record = Record(make_job().resolved(), blocks_reused=2)
    record.device("0").book(finished(6.0, 2.0, flops=12.0, peak=5, ceiling=4.0))
    record.device("0").book(finished(2.0, 0.0, flops=4.0, peak=3, ceiling=4.0))
    record.device("1").book(finished(1.0, 3.0))
    record.device("2").restarts += 1
    record.set_aside += [7, 3]
    assert list(record.starved()) == [("1", 0.25, "critical")]
    Path(record.job.output).mkdir()
    record.write("all shards done")
    written = json.loads((Path(record.job.output) / "run.json").read_text())
    assert written["job"]["n_shards"] == 2
    assert written["end"] == "all shards done"
    assert written["started"] <= written["ended"]
    assert (written["sequences"], written["tokens"]) == (30, 900)
    assert written["packing_efficiency"] == 0.75
    assert written["set_aside"] == [3, 7]
    first, second, third = (written["devices"][name] for name in "012")
    assert first["busy_share"] == 0.8
    assert first["level"] is None
    assert first["tokens_per_second"] == 60.0
    assert first["sequences_per_second"] == 2.0
    assert first["flops"] == 16.0
    assert first["share_of_ceiling"] == 16.0 / 8.0 / 4.0
    assert first["peak_memory_bytes"] == 5
    assert second["level"] == "critical"
    assert second["share_of_ceiling"] is None
    assert third["restarts"] == 1
    assert third["tokens_per_second"] is None


@pytest.mark.parametrize(
    ("shards", "record", "logs"),
    [
        ((0, 1, 2, 3), "run.json", "logs"),
        ((1,), "run-01-of-04.json", "logs-01-of-04"),
        ((3, 2), "run-02-of-04.json", "logs-02-of-04"),
    ],
)
def test_runs_of_different_shards_have_records_and_logs_of_their_own(
    make_job, shards, record, logs
):
    job = make_job(n_shards=4, shards=shards)
    assert (str(job.own("run.json")), str(job.own("logs"))) == (record, logs)
