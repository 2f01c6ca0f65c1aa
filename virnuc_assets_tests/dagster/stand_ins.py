"""The chain with assets that take no time, to see what Dagster does with it.

Each has the real asset's dependencies, partitions, condition, policy and code version. That the
real ones give the data versions that this builds on is seen in test_chain.
"""

from pathlib import Path

import dagster as dg

from virnuc_assets.assets import sources
from virnuc_assets.definitions import build_defs, defs
from virnuc_assets.jobs import embed_samples, index_samples, predict_samples
from virnuc_assets.partitions import N_SHARDS
from virnuc_assets.resources import Store
from virnuc_assets.store.atomic import write_json
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.samples import registered

FAILING = "failing"
"""A file in the store's folder; partitions whose keys it lists fail."""
CHAIN = (
    "sequence_index",
    "esm2_embeddings",
    "dnabert_s_embeddings",
    "predictions",
    "sample_report",
)


def partitions(asset, sample):
    """The partitions of a sample in an asset of the chain."""
    shards = [f"{sample}|{shard}" for shard in range(N_SHARDS)]
    return shards if asset.endswith("embeddings") else [sample]


def definitions(root=None, resources=None, newer=(), sensors=()):
    """A code location on the store in `root`; assets in `newer` have a new code version."""
    store = {} if root is None else {"store": Store(root=str(root))}
    overrides = {**store, **(resources or {})}
    real = build_defs(overrides) if overrides else defs
    graph = real.resolve_asset_graph()

    def make(name):
        node = graph.get(dg.AssetKey(name))
        return dg.asset(
            name=name,
            deps=sorted(node.parent_keys),
            partitions_def=node.partitions_def,
            automation_condition=node.automation_condition,
            backfill_policy=node.backfill_policy,
            code_version=f"{node.code_version}{'+' * (name in newer)}",
        )(_body)

    return dg.Definitions(
        assets=[*map(make, CHAIN), *dg.load_assets_from_modules([sources])],
        jobs=[index_samples, embed_samples, predict_samples],
        sensors=sensors,
        resources=real.resources,
        executor=dg.in_process_executor,
    )


def _body(context, store: Store):
    layout = store.layout
    failing = layout.root / FAILING
    bad = set(failing.read_text().split()) if failing.exists() else set()
    if bad & set(context.partition_keys):
        for key in set(context.partition_keys) - bad:
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=key))
        raise dg.Failure("these fail", allow_retries=False)
    version = None
    match context.asset_key.to_user_string():
        case "sequence_index":
            version = sha256_file(Path(registered(layout, context.partition_key).source))
        case "predictions":
            version = context.run.run_id
        case "sample_report":
            write_json(layout.report(context.partition_key) / "report.html", "nothing")
    return dg.MaterializeResult(data_version=version and dg.DataVersion(version))
