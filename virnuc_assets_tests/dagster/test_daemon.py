"""The platform as it is run: `dagster dev`'s webserver and daemon, a store and an inbox.

Three ways to take samples from FASTA to report: dropped into the inbox, launched as the UI does,
and by `dagster job backfill`.
"""

import shutil
from random import Random

import polars as pl
import pytest

from virnuc_assets.demo import sample
from virnuc_assets.partitions import RANGE_END, RANGE_START
from virnuc_assets.store.embeddings import shard_path
from virnuc_assets_tests.dagster.deployment import FASTA
from virnuc_assets_tests.dagster.platform import DAGSTER, VIRNUC, Platform

pytestmark = pytest.mark.slow

ASSETS = [
    "sequence_index",
    "esm2_embeddings",
    "dnabert_s_embeddings",
    "predictions",
    "sample_report",
]
LAUNCH = """
mutation($parameters: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $parameters) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
GO_ON = """
mutation($id: String!) {
  reexecutePartitionBackfill(reexecutionParams: {parentRunId: $id, strategy: FROM_FAILURE}) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
BACKFILL = """
query($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
}"""
MATERIALISED = """
query($partitions: [String!]) {
  assetNodes(assetKeys: [{path: ["esm2_embeddings"]}]) {
    latestMaterializationByPartition(partitions: $partitions) { partition }
  }
}"""


def two_thousand_records():
    """1 980 reads of 150 bases and 20 contigs of 2 000, from the demo sample's sequences."""
    genome = "".join(
        record.split("\n", 1)[1].replace("\n", "")
        for record in sample.FASTA.read_text().split(">")[1:]
    )
    random = Random(2000)
    lengths = [150] * 1980 + [2000] * 20
    starts = [random.randrange(len(genome) - length) for length in lengths]
    return "".join(
        f">r{i}\n{genome[start : start + length]}\n"
        for i, (start, length) in enumerate(zip(starts, lengths, strict=True))
    )


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    platform = Platform(tmp_path_factory.mktemp("platform"))
    platform.start()
    yield platform
    platform.stop()


def test_a_file_in_the_inbox_ends_in_a_report_without_a_hand_on_it(platform):
    platform.layout.inbox.mkdir(exist_ok=True)
    (platform.layout.inbox / "arrived.fa").write_text(two_thousand_records())
    platform.until("a report on the arrival", lambda: platform.has_report("arrived"))
    platform.until("all runs end", platform.all_runs_succeeded)
    records = pl.read_parquet(platform.layout.predictions("arrived") / "records.parquet")
    assert len(records) == 2000
    embeddings = [run for run in platform.runs() if len(run["assetSelection"] or []) == 2]
    shards = {"dagster/asset_partition_range_start", "dagster/asset_partition_range_end"}
    assert any(shards <= {tag["key"] for tag in run["tags"]} for run in embeddings)


@pytest.mark.platform
def test_the_ui_materialises_a_whole_sample(platform):
    """What the UI sends for "Materialize all", sample `by_hand`, "Launch backfill"."""
    platform.stop_sensor("automation")
    fasta = platform.home / "by_hand.fa"
    fasta.write_text(FASTA)
    platform.run(VIRNUC, "samples", "add", fasta)
    parameters = {
        "assetSelection": [{"path": [asset]} for asset in ASSETS],
        "partitionNames": ["by_hand"],
        "tags": [{"key": "dagster/from_ui", "value": "true"}],
        "fromFailure": False,
    }
    answer = platform.query(LAUNCH, parameters=parameters)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    platform.until("a report on the sample", lambda: platform.has_report("by_hand"))
    platform.until("all runs end", platform.all_runs_succeeded)


@pytest.mark.platform
def test_job_backfills_take_several_samples(platform):
    platform.backfill_by_jobs(["one", "two"])


@pytest.mark.faults
def test_failed_only_does_again_what_a_backfill_failed_at(platform):
    platform.stop_sensor("automation")
    fasta = platform.home / "partly.fa"
    fasta.write_text(FASTA)
    platform.run(VIRNUC, "samples", "add", fasta)
    platform.run(
        DAGSTER, "job", "backfill", "--noprompt", "--job", "index_samples",
        "--partitions", "partly",
    )  # fmt: skip
    index = platform.layout.index("partly") / "manifest.json"
    platform.until("the sample is indexed", index.exists)
    platform.until("all runs end", platform.all_runs_succeeded)
    in_the_way = shard_path(platform.layout.embeddings("partly", "esm2"), 1, 2)
    (in_the_way / "a file").mkdir(parents=True)
    partitions = {"partly|0", "partly|1"}

    def materialised():
        (asset,) = platform.query(MATERIALISED, partitions=sorted(partitions))["assetNodes"]
        latest = asset["latestMaterializationByPartition"]
        return {found["partition"] for found in latest if found is not None}

    def ends(answer):
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        backfill = answer["backfillId"]

        def status():
            return platform.query(BACKFILL, id=backfill)["partitionBackfillOrError"]["status"]

        platform.until("the backfill ends", lambda: status() not in ("REQUESTED", "FAILING"))
        return backfill

    parameters = {
        "assetSelection": [{"path": ["esm2_embeddings"]}],
        "partitionNames": sorted(partitions),
        "tags": [],
        "fromFailure": False,
    }
    failed = ends(platform.query(LAUNCH, parameters=parameters)["launchPartitionBackfill"])
    left = partitions - materialised()
    assert "partly|1" in left
    shutil.rmtree(in_the_way)
    before = {run["runId"] for run in platform.runs()}
    ends(platform.query(GO_ON, id=failed)["reexecutePartitionBackfill"])
    assert materialised() == partitions
    (again,) = [run for run in platform.runs() if run["runId"] not in before]
    tags = {tag["key"]: tag["value"] for tag in again["tags"]}
    whole = {tags.get(RANGE_START), tags.get(RANGE_END), tags.get("dagster/partition")} - {None}
    assert whole == left
