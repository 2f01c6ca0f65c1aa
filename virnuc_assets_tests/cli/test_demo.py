"""`virnuc demo`: the bundled sample through the real assets of a platform of one's own."""

from __future__ import annotations

import pytest

from virnuc_assets.store.atomic import read_json


@pytest.mark.slow
def test_the_demo_goes_through_the_assets_and_says_it_is_untrained(virnuc, dagster_home, tmp_path):
    settings = {"DAGSTER_HOME": dagster_home, "VIRNUC_SHARDS": "2", "VIRNUC_GPUS": "cpu"}
    done = virnuc("demo", **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demo sample: ")
    assert "\nmodel: demo (untrained)\n" in done.stdout
    store = tmp_path / "platform" / "data"
    assert f"calls and scores:     {store}/predictions/demo\n" in done.stdout
    assert read_json(store / "predictions" / "demo" / "results.json")["model"] == "demo (untrained)"
    assert (store / "reports" / "demo" / "report.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["platform"]
    assert done.stderr.splitlines() == [
        "demo: indexing",
        "demo: embedding with both encoders",
        "demo: calling records",
    ]
    (row,) = virnuc("samples", "list", **settings).stdout.splitlines()[2:]
    assert row.split()[:5] == ["demo", "yes", "2/2", "2/2", "yes"]
