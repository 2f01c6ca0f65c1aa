"""Backfills of samples: as `virnuc backfill` plans them, as the UI asks for them, and what is left.

The daemon's own loop and the webserver's own schema, in this process, on assets that take no time.
"""

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from virnuc_assets.backfill import PRIORITY_TAG, launch
from virnuc_assets.partitions import N_SHARDS, sample_of
from virnuc_assets.sample_batches import MOST_BYTES
from virnuc_assets_tests.dagster.stand_ins import CHAIN, partitions
from virnuc_assets_tests.dagster.test_daemon import GO_ON, LAUNCH
from virnuc_assets_tests.dagster.workplace import workplace_of

pytestmark = pytest.mark.platform

CODE = """
from virnuc_assets_tests.dagster.stand_ins import definitions
defs = definitions({root!r})
"""


@pytest.fixture
def workplace(tmp_path):
    with workplace_of(tmp_path, CODE) as workplace:
        yield workplace


def whole(*names):
    return {
        dg.AssetKey(asset): [one for name in names for one in partitions(asset, name)]
        for asset in CHAIN
    }


def test_a_whole_sample_is_one_run_a_step(workplace):
    for name in ("s", "t"):
        workplace.add(name)
    assert workplace.plan(["s", "t"], "all") == whole("s", "t")
    backfill = workplace.backfill(["s", "t"], priority=7)
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS
    runs = workplace.instance.get_runs()
    assert all(run.status == dg.DagsterRunStatus.SUCCESS for run in runs)
    assert all(run.tags[PRIORITY_TAG] == "7" for run in runs)
    steps = sorted(sorted(key.to_user_string() for key in run.asset_selection) for run in runs)
    assert steps == 2 * [["dnabert_s_embeddings", "esm2_embeddings"]] \
        + 2 * [["predictions", "sample_report"]] + 2 * [["sequence_index"]]  # fmt: skip
    assert all(workplace.materialised(asset) == set(keys) for asset, keys in (
        (asset, partitions(asset, "s") + partitions(asset, "t")) for asset in CHAIN
    ))  # fmt: skip


def test_what_is_missing_is_planned_with_what_follows(workplace):
    for name in ("done", "indexed", "partly", "new"):
        workplace.add(name)
    workplace.backfill(["done"])
    for name in ("indexed", "partly"):
        workplace.index(name)
    workplace.embed("partly", last=0)
    found = workplace.plan(["done", "indexed", "partly", "new"], "missing")
    assert {
        asset.to_user_string(): [key for key in keys if sample_of(key) == "partly"]
        for asset, keys in found.items()
    } == {
        "sequence_index": [],
        "esm2_embeddings": partitions("esm2_embeddings", "partly")[1:],
        "dnabert_s_embeddings": partitions("dnabert_s_embeddings", "partly")[1:],
        "predictions": ["partly"],
        "sample_report": ["partly"],
    }
    assert found[dg.AssetKey("sequence_index")] == ["new"]
    assert found[dg.AssetKey("sample_report")] == ["indexed", "partly", "new"]
    workplace.backfill(["done", "indexed", "partly", "new"], "missing")
    assert workplace.plan(["done", "indexed", "partly", "new"], "missing") == {}


def test_a_backfill_holds_small_samples_or_no_more_than_there_are_shards(workplace):
    """Dagster embeds more samples a shard of each at a time."""
    large = [f"large{number}" for number in range(N_SHARDS + 1)]
    small = [f"small{number}" for number in range(N_SHARDS + 2)]
    for name in (*large, *small):
        fasta = workplace.add(name)
        if name in large:
            with fasta.open("r+b") as file:
                file.truncate(MOST_BYTES + 1)
    graph = workplace.defs.resolve_asset_graph()
    found = workplace.plan([*large, *small], "all")
    ids = launch(graph, workplace.instance, workplace.layout, found, 0)
    targets = [workplace.instance.get_backfill(one).title.split(", ") for one in ids]
    assert targets == [large[:N_SHARDS], [large[-1], *small[: N_SHARDS - 1]], small[N_SHARDS - 1 :]]


def test_only_what_failed_and_what_follows_is_done_again(workplace):
    for name in ("good", "bad", "untried"):
        workplace.add(name)
    workplace.fail_at("bad|1")
    assert workplace.backfill(["good", "bad"]).status == BulkActionStatus.COMPLETED_FAILED
    assert workplace.materialised("sample_report") == {"good"}
    assert workplace.materialised("sequence_index") == {"good", "bad"}

    names = ["good", "bad", "untried"]
    found = workplace.plan(names, "failed")
    assert {sample_of(key) for keys in found.values() for key in keys} == {"bad"}
    assert dg.AssetKey("sequence_index") not in found
    assert found[dg.AssetKey("predictions")] == ["bad"]
    workplace.fail_at()
    again = workplace.backfill(names, "failed")
    assert again.status == BulkActionStatus.COMPLETED_SUCCESS
    assert workplace.materialised("sample_report") == {"good", "bad"}
    assert workplace.plan(names, "failed") == {}


def test_the_ui_backfills_hundreds_of_samples_and_then_what_failed(workplace):
    """`launchPartitionBackfill` as the UI's "Materialize all" sends it, and "Re-execute failed"."""
    names = [f"s{number:03d}" for number in range(5)]
    for name in names:
        workplace.add(name)
    workplace.fail_at("s001", "s003|0")
    parameters = {
        "assetSelection": [{"path": [asset]} for asset in CHAIN],
        "partitionNames": names,
        "tags": [{"key": "dagster/from_ui", "value": "true"}],
        "fromFailure": False,
    }
    answer = workplace.query(LAUNCH, parameters=parameters)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    workplace.run_daemon()
    assert workplace.materialised("sample_report") == {"s000", "s002", "s004"}
    workplace.fail_at()
    answer = workplace.query(GO_ON, id=answer["backfillId"])["reexecutePartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    before = {run.run_id for run in workplace.instance.get_runs()}
    workplace.run_daemon()
    assert workplace.materialised("sample_report") == set(names)
    again = [run for run in workplace.instance.get_runs() if run.run_id not in before]
    assert again and all("s000" not in str(run.tags) for run in again)
