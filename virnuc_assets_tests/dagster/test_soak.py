"""Files arrive in waves while the platform is killed and started again: all called, none twice.

`SOAK_FILES` (default 30) files over `SOAK_MINUTES` (default 2) minutes, in eight waves; daemon,
webserver, code server and the runs' processes are killed three times on the way.
"""

import os
import time
from collections import Counter

import dagster as dg
import polars as pl
import pytest

from virnuc_assets_tests.dagster.platform import Platform
from virnuc_assets_tests.dagster.processor_time import say
from virnuc_assets_tests.dagster.test_cohort import small_sample

pytestmark = pytest.mark.platform

FILES = int(os.environ.get("SOAK_FILES", "30"))
MINUTES = float(os.environ.get("SOAK_MINUTES", "2"))
WAVES = 8
KILLED_AFTER = (2, 4, 6)


@pytest.fixture
def platform(tmp_path):
    platform = Platform(tmp_path)
    platform.start()
    yield platform
    platform.stop()


def materialisations(platform, asset, monkeypatch):
    """How often each partition of an asset was materialised."""
    monkeypatch.chdir(platform.home)
    with dg.DagsterInstance.from_config(str(platform.home)) as instance:
        found, cursor = Counter(), None
        while True:
            page = instance.fetch_materializations(dg.AssetKey(asset), limit=1000, cursor=cursor)
            found.update(record.partition_key for record in page.records)
            cursor = page.cursor
            if not page.has_more:
                return found


def test_every_file_is_called_once_whatever_is_killed(platform, monkeypatch):
    names = [f"s{number:04d}" for number in range(FILES)]
    inbox = platform.layout.inbox
    inbox.mkdir(exist_ok=True)
    began = time.monotonic()

    def tell(what):
        done = sum(platform.has_report(name) for name in names)
        say(f"{time.monotonic() - began:6.0f} s: {what}; {done} of {FILES} have a report")

    for wave in range(WAVES):
        arriving = names[wave::WAVES]
        for name in arriving:
            (inbox / f"{name}.fa").write_text(small_sample(int(name[1:])))
        tell(f"wave {wave + 1} of {len(arriving)} files")
        time.sleep(MINUTES * 60 / WAVES)
        if wave in KILLED_AFTER:
            platform.kill()
            tell("killed")
            platform.start()
    platform.until(
        "every file has a report",
        lambda: all(platform.has_report(name) for name in names),
        seconds=900 + 60 * FILES,
    )
    tell("all called")
    platform.until("all runs end", lambda: not platform.unfinished_runs())
    statuses = Counter(run["status"] for run in platform.runs())
    predicted = materialisations(platform, "predictions", monkeypatch)
    say(f"runs: {dict(statuses)}")
    say(f"{len(predicted)} samples called, {max(predicted.values())} times at most")
    assert predicted == dict.fromkeys(names, 1)
    for name in names:
        records = pl.read_parquet(platform.layout.predictions(name) / "records.parquet")
        assert len(records) == 10
