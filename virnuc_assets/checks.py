"""Checks beside the assets: counts reconcile, ids are unique, scores are numbers, digests agree."""

import dagster as dg
import numpy as np
import polars as pl

from virnuc_assets import pipeline
from virnuc_assets.assets.dnabert_s_embeddings import dnabert_s_embeddings
from virnuc_assets.assets.esm2_embeddings import esm2_embeddings
from virnuc_assets.assets.predictions import predictions
from virnuc_assets.assets.sequence_index import sequence_index
from virnuc_assets.classifier import result_files
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import StoreError
from virnuc_assets.partitions import N_SHARDS, sample_shards, samples, shards_by_sample
from virnuc_assets.resources import Store
from virnuc_assets.sequences.manifest import FRAMES_FILE, RECORDS_FILE, read_manifest
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.embeddings import shard_path, shard_rows, verify_contents


@dg.asset_check(asset=sequence_index, partitions_def=samples, blocking=True)
def ids_are_unique(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
    """No two records of a sample share an id, no two frames a name."""
    index = store.layout.index(context.partition_key)
    records = pl.scan_parquet(index / RECORDS_FILE)
    frames = pl.scan_parquet(index / FRAMES_FILE)
    duplicates = {
        "records": _duplicates(records, "id"),
        "frames": _duplicates(frames, "name"),
    }
    return dg.AssetCheckResult(passed=not any(duplicates.values()), metadata=duplicates)


@dg.asset_check(asset=sequence_index, partitions_def=samples, blocking=True)
def index_counts_reconcile(
    context: dg.AssetCheckExecutionContext, store: Store
) -> dg.AssetCheckResult:
    """The manifest's counts are what the tables hold; frames point to every row and no other."""
    index = store.layout.index(context.partition_key)
    manifest = read_manifest(index)
    found = (
        pl.scan_parquet(index / FRAMES_FILE)
        .select(
            frames=pl.len(),
            nucleotides=pl.col("nucleotide_row").n_unique(),
            proteins=pl.col("protein_row").n_unique(),
            highest_nucleotide=pl.col("nucleotide_row").max(),
            highest_protein=pl.col("protein_row").max(),
        )
        .collect()
        .row(0, named=True)
    )
    found |= (
        pl.scan_parquet(index / RECORDS_FILE)
        .select(records=pl.len(), chunks=pl.col("n_chunks").sum())
        .collect()
        .row(0, named=True)
    )
    wanted = {
        "frames": manifest.frames,
        "nucleotides": manifest.unique_nucleotides,
        "proteins": manifest.unique_proteins,
        "highest_nucleotide": manifest.unique_nucleotides - 1 if manifest.frames else None,
        "highest_protein": manifest.unique_proteins - 1 if manifest.frames else None,
        "records": manifest.records,
        "chunks": manifest.chunks,
    }
    return dg.AssetCheckResult(
        passed=found == wanted, metadata={"found": found, "manifest": wanted}
    )


@dg.asset_check(asset=predictions, partitions_def=samples)
def every_record_is_accounted_for(
    context: dg.AssetCheckExecutionContext, store: Store
) -> dg.AssetCheckResult:
    """Each record of the input has exactly one row in the results, in the input's order."""
    name = context.partition_key
    indexed = pl.read_parquet(store.layout.index(name) / RECORDS_FILE)["id"]
    results = pl.read_parquet(store.layout.predictions(name) / result_files.RECORDS)["id"]
    return dg.AssetCheckResult(
        passed=indexed.equals(results), metadata={"input": len(indexed), "results": len(results)}
    )


@dg.asset_check(asset=predictions, partitions_def=samples)
def scores_are_probabilities(
    context: dg.AssetCheckExecutionContext, store: Store
) -> dg.AssetCheckResult:
    """Every scored frame has two scores between 0 and 1 that add up to 1 (within 1e-5)."""
    path = store.layout.predictions(context.partition_key) / result_files.FRAMES
    table = pl.read_parquet(path, columns=["score_other", "score_virus"])
    # Frames of sequences that were set aside have neither score; one without the other is a NaN.
    scores = table.filter(~pl.all_horizontal(pl.all().is_null())).to_numpy()
    wrong = ~(
        np.isfinite(scores).all(axis=1)
        & (scores >= 0).all(axis=1)
        & (np.abs(scores.sum(axis=1) - 1) <= 1e-5)
    )
    return dg.AssetCheckResult(passed=not wrong.any(), metadata={"wrong": int(wrong.sum())})


@dg.asset_check(asset=predictions, partitions_def=samples)
def digests_agree(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
    """The results were made from the index and the shards that are there now."""
    name = context.partition_key
    used = read_json(store.layout.predictions(name) / result_files.MANIFEST)["provenance"]
    try:
        embeddings = pipeline.open_embeddings(store.layout, name, N_SHARDS)
    except StoreError as error:
        return dg.AssetCheckResult(passed=False, metadata={"problem": str(error)})
    there = {
        "index_digest": read_manifest(store.layout.index(name)).index_digest,
        "esm2_encoder_digest": embeddings.protein.identity.encoder_digest,
        "dnabert_s_encoder_digest": embeddings.dna.identity.encoder_digest,
        "esm2_dtype": embeddings.protein.identity.dtype,
        "dnabert_s_dtype": embeddings.dna.identity.dtype,
    }
    differing = [key for key, digest in there.items() if used[key] != digest]
    return dg.AssetCheckResult(passed=not differing, metadata={"differing": differing})


def _shards_are_whole(asset: dg.AssetsDefinition, encoder: EncoderName) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset, name="shards_are_whole", partitions_def=sample_shards, blocking=True
    )
    def shards_are_whole(
        context: dg.AssetCheckExecutionContext, store: Store
    ) -> dg.AssetCheckResult:
        """The shard holds its share of the index's rows, matches its checksum, and has no NaN."""
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


def _duplicates(table: pl.LazyFrame, column: str) -> int:
    counts = table.select(pl.len() - pl.col(column).n_unique()).collect()
    return int(counts.item())


all_checks = [
    ids_are_unique,
    index_counts_reconcile,
    _shards_are_whole(esm2_embeddings, "esm2"),
    _shards_are_whole(dnabert_s_embeddings, "dnabert-s"),
    every_record_is_accounted_for,
    scores_are_probabilities,
    digests_agree,
]
