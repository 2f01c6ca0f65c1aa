"""Checks of the sequence index: ids are unique, counts are what the tables hold."""

from typing import TYPE_CHECKING

import dagster as dg

from virnuc_assets.assets.sequence_index import sequence_index
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Store
from virnuc_assets.sequences.manifest import FRAMES_FILE, RECORDS_FILE, read_manifest

if TYPE_CHECKING:
    import polars as pl


@dg.asset_check(asset=sequence_index, partitions_def=samples, blocking=True)
def ids_are_unique(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
    """No two records of a sample share an id, no two frames a name."""
    import polars as pl

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
    import polars as pl

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


def _duplicates(table: "pl.LazyFrame", column: str) -> int:
    import polars as pl

    counts = table.select(pl.len() - pl.col(column).n_unique()).collect()
    return int(counts.item())
