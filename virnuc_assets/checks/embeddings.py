"""Checks of both embedding assets: shards are whole, and numbers agree with float32's.

They have no partitions of their own: one run is of many shards, and Dagster shows what a check of
partitions said there as missing.
"""

from typing import TYPE_CHECKING

import dagster as dg

from virnuc_assets import pipeline
from virnuc_assets.assets.dnabert_s_embeddings import dnabert_s_embeddings
from virnuc_assets.assets.esm2_embeddings import esm2_embeddings
from virnuc_assets.assets.failures import explained
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import StoreError
from virnuc_assets.partitions import N_SHARDS, shards_by_sample
from virnuc_assets.resources import Models, Store
from virnuc_assets.sequences.manifest import read_manifest

if TYPE_CHECKING:
    from virnuc_assets.store.agreement import AgreementRecord


def _shards_are_whole(asset: dg.AssetsDefinition, encoder: EncoderName) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name="shards_are_whole", blocking=True)
    @explained()
    def shards_are_whole(
        context: dg.AssetCheckExecutionContext, store: Store
    ) -> dg.AssetCheckResult:
        """The shard holds its share of the index's rows, matches its checksum, and has no NaN."""
        from virnuc_assets.store.embeddings import shard_path, shard_rows, verify_contents

        problems: list[str] = []
        for sample, keys in shards_by_sample(list(context.partition_keys)).items():
            manifest = read_manifest(store.layout.index(sample))
            table = pipeline.sequence_table(manifest, encoder)
            for shard in keys:
                path = shard_path(store.layout.embeddings(sample, encoder), shard, N_SHARDS)
                try:
                    file = verify_contents(path)
                except StoreError as error:
                    problems.append(str(error))
                    continue
                if file.identity.index_digest != manifest.index_digest:
                    problems.append(f"{path}: was made from another index")
                if file.identity.stop != shard_rows(table.rows, shard, N_SHARDS):
                    problems.append(f"{path}: does not hold its share of the {table.rows} rows")
        return dg.AssetCheckResult(passed=not problems, metadata={"problems": problems})

    return shards_are_whole


def _agree_with_float32(
    asset: dg.AssetsDefinition, encoder: EncoderName
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name="agree_with_float32", blocking=True)
    @explained()
    def agree_with_float32(
        context: dg.AssetCheckExecutionContext, store: Store, models: Models
    ) -> dg.AssetCheckResult:
        """Random embeddings of a shard of each sample agree with float32 on the CPU by cosine.

        What was computed in float32 on a CPU is exact, and nothing is computed again.
        """
        from virnuc_assets.spot_check import spot_check

        # One a run: another shard's run compares another.
        by_sample = shards_by_sample(list(context.partition_keys))
        shards = {sample: min(keys) for sample, keys in by_sample.items()}
        checks = spot_check(store.layout, shards, encoder, N_SHARDS, models.as_settings())
        compared = [record for record in checks.found.values() if record is not None]
        agree = all(record.passed for record in compared)
        said = [f"{name}: {_said(record)}" for name, record in checks.found.items()]
        return dg.AssetCheckResult(
            # Of what could not be compared nothing is known to be wrong: that holds up no one.
            passed=agree and not checks.failures,
            severity=dg.AssetCheckSeverity.WARN if agree else dg.AssetCheckSeverity.ERROR,
            description="; ".join([*checks.failures, *said]),
            metadata=_metadata(compared),
        )

    return agree_with_float32


def _said(record: "AgreementRecord | None") -> str:
    if record is None:
        return "exact (float32 on a CPU), or nothing to embed; nothing was computed again"
    return (
        f"{record.compared} cosines to float32, the least {record.minimum:.6f}, wanted "
        f"{record.least} at least"
    )


def _metadata(compared: "list[AgreementRecord]") -> dict[str, float]:
    known: dict[str, float] = {"compared": sum(record.compared for record in compared)}
    if compared:
        known["float32_cosine_min"] = min(record.minimum for record in compared)
        known["float32_cosine_median"] = min(record.median for record in compared)
    return known


esm2_shards_are_whole = _shards_are_whole(esm2_embeddings, "esm2")
dnabert_s_shards_are_whole = _shards_are_whole(dnabert_s_embeddings, "dnabert-s")
esm2_agrees_with_float32 = _agree_with_float32(esm2_embeddings, "esm2")
dnabert_s_agrees_with_float32 = _agree_with_float32(dnabert_s_embeddings, "dnabert-s")
