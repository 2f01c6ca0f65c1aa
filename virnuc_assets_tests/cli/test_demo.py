"""`virnuc demo`: the bundled sample through the real assets of a platform of one's own."""

from __future__ import annotations

import re

import pytest

from virnuc_assets.store.atomic import read_json
from virnuc_assets_tests.cli.process import NO_MODELS


@pytest.mark.slow
def test_the_demo_goes_through_the_assets_and_shows_calls_beside_the_truth(
    virnuc, dagster_home, tmp_path
):
    settings = {"DAGSTER_HOME": dagster_home, "VIRNUC_SHARDS": "2", "VIRNUC_GPUS": "cpu"}
    done = virnuc("demo", **settings, **NO_MODELS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demo sample: ")
    assert "\nmodel: virnuc-mini-1: a small bundled model, not VirNucPro's; see" in done.stdout
    counts = {
        (kind, truth): tuple(map(int, numbers.split()))
        for kind, truth, numbers in re.findall(
            r"^(contigs|reads) +(virus|other)((?: +\d+){4}) *$", done.stdout, re.MULTILINE
        )
    }
    assert {key: n for key, (n, *_) in counts.items()} == {
        ("contigs", "virus"): 7,
        ("contigs", "other"): 13,
        ("reads", "virus"): 28,
        ("reads", "other"): 26,
    }
    for n, right, wrong, no_call in counts.values():
        assert n == right + wrong + no_call
    right, wrong = (
        sum(counts["contigs", label][place] for label in ("virus", "other")) for place in (1, 2)
    )
    assert right > wrong
    store = tmp_path / "platform" / "data"
    assert f"calls and scores:     {store}/predictions/demo\n" in done.stdout
    assert read_json(store / "predictions" / "demo" / "results.json")["model"] == "virnuc-mini-1"
    assert (store / "reports" / "demo" / "report.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["platform"]
    assert done.stderr.splitlines() == [
        "demo: indexing",
        "demo: embedding with both encoders",
        "demo: calling records",
    ]
    (row,) = virnuc("samples", "list", **settings).stdout.splitlines()[2:]
    assert row.split()[:5] == ["demo", "yes", "2/2", "2/2", "yes"]
