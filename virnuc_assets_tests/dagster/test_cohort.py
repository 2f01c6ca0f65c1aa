"""A cohort of small samples, unattended: all are called, and what a sample costs.

`COHORT_SAMPLES` (default 20) files are dropped into the inbox at once. With the stand-ins, assets
that compute nothing, all that is left is what Dagster itself costs.
"""

import os
import time
from random import Random

import polars as pl
import pytest

from virnuc_assets_tests.dagster.platform import Platform
from virnuc_assets_tests.dagster.processor_time import Meter, imports, say

pytestmark = pytest.mark.platform

SAMPLES = int(os.environ.get("COHORT_SAMPLES", "20"))
DAGSTER_SECONDS_A_SAMPLE = 10
CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
OPEN = [codon for codon in CODONS if codon not in ("TAA", "TAG", "TGA")]
NAMES = [f"s{number:03d}" for number in range(SAMPLES)]


def small_sample(number):
    """Ten records of 600 bases, different in every sample."""
    random = Random(number)
    return "".join(f">r{i}\n{''.join(random.choices(OPEN, k=200))}\n" for i in range(10))


def start(home, **options):
    platform = Platform(home, **options)
    platform.environ.pop("VIRNUC_SHARDS")  # as many as a deployment has
    platform.start()
    return platform


def take_through(platform):
    """Drop the cohort's files and wait for their reports; processor seconds a sample."""
    inbox = platform.layout.inbox
    inbox.mkdir(exist_ok=True)
    began = time.monotonic()
    with Meter(platform) as meter:
        for number, name in enumerate(NAMES):
            (inbox / f"{name}.fa").write_text(small_sample(number))
        platform.until(
            "every sample has a report",
            lambda: all(platform.has_report(name) for name in NAMES),
            seconds=300 + 120 * SAMPLES,
        )
        platform.until("all runs end", platform.all_runs_succeeded)
    took = time.monotonic() - began
    say(f"\n{SAMPLES} samples in {took:.0f} s: {took / SAMPLES:.1f} s a sample")
    say(f"processor time {meter.seconds:.0f} s: {meter.seconds / SAMPLES:.2f} s a sample")
    runs = len(platform.runs())
    say(f"{runs} runs: {runs / SAMPLES:.1f} a sample")
    for kind, seconds in meter.by_kind().items():
        say(f"  {kind}: {seconds / SAMPLES:.2f} s a sample")
    say(f"a bare `import dagster` takes {imports('dagster'):.2f} s of processor time meanwhile")
    return meter.seconds / SAMPLES


def test_a_cohort_is_called_without_a_hand_on_it(tmp_path):
    platform = start(tmp_path)
    try:
        take_through(platform)
    finally:
        platform.stop()
    for name in NAMES:
        records = pl.read_parquet(platform.layout.predictions(name) / "records.parquet")
        assert len(records) == 10


def test_dagster_itself_takes_ten_seconds_of_a_processor_a_sample_at_most(tmp_path):
    platform = start(tmp_path, module="virnuc_assets_tests.dagster.stand_in_location")
    try:
        assert take_through(platform) <= DAGSTER_SECONDS_A_SAMPLE
    finally:
        platform.stop()
