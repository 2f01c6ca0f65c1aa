"""Embeddings → scores of every frame → best frame of every chunk → calls of every record."""

import time
from typing import TYPE_CHECKING

import dagster as dg

from virnuc_assets import pipeline
from virnuc_assets.assets.dnabert_s_embeddings import dnabert_s_embeddings
from virnuc_assets.assets.esm2_embeddings import esm2_embeddings
from virnuc_assets.assets.failures import explained
from virnuc_assets.assets.sequence_index import sequence_index
from virnuc_assets.assets.sources import sample_head
from virnuc_assets.automation import after_embeddings
from virnuc_assets.partitions import N_SHARDS, samples
from virnuc_assets.resources import Models, Store
from virnuc_assets.store.digests import sha256_json

if TYPE_CHECKING:
    import polars as pl

_TABLE_ROWS = 20
# Of a sample's key figures, the shares and scores: numbers that Dagster plots over time.
_PLOTTED = ("viral_share", "not_callable_share", "unique_share", "median_score")
# Raise when the same embeddings and head give other results: calls and reports are stale then.
_REVISION = "1"


@dg.asset(
    partitions_def=samples,
    deps=[sequence_index, esm2_embeddings, dnabert_s_embeddings, sample_head],
    automation_condition=after_embeddings,
    code_version=_REVISION,
    group_name="virnuc",
    kinds={"torch", "parquet"},
)
def predictions(
    context: dg.AssetExecutionContext, store: Store, models: Models
) -> dg.MaterializeResult:
    """Which of the sample's records are viral, with the scores of every frame and chunk."""
    # Import Polars: not in every process that loads the definitions.
    from virnuc_assets.classifier import result_files
    from virnuc_assets.classifier.cohort import key_figures
    from virnuc_assets.classifier.report_tables import top_viral

    name = context.partition_key
    started = time.monotonic()
    with explained():
        summary = pipeline.predict_sample(store.layout, name, N_SHARDS, models.as_settings())
    seconds = time.monotonic() - started
    folder = store.layout.predictions(name)
    said = result_files.read_manifest(folder)
    figures = key_figures(said)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(sha256_json(said["provenance"])),
        metadata={
            "model": summary.model,
            "records": summary.n_records,
            "viral_records": summary.n_viral_records,
            "records_without_open_frame": summary.n_no_open_frame,
            "records_not_embedded": summary.n_not_embedded,
            "chunks": summary.n_chunks,
            "viral_chunks": summary.n_viral_chunks,
            "frames": summary.n_frames,
            "unscored_frames": summary.n_unscored_frames,
            "bases": summary.n_bases,
            **{figure: figures[figure] for figure in _PLOTTED if figures[figure] is not None},
            "seconds": seconds,
            "frames_per_second": summary.n_frames / seconds,
            "head_digest": summary.head_digest,
            "top_viral_records": _top_records(top_viral(folder, _TABLE_ROWS)),
            "folder": dg.MetadataValue.path(str(folder)),
        },
    )


def _top_records(rows: "pl.DataFrame") -> dg.TableMetadataValue:
    schema = dg.TableSchema(
        [
            dg.TableColumn("id", "string"),
            dg.TableColumn("length", "int"),
            dg.TableColumn("n_chunks", "int"),
            dg.TableColumn("n_viral_chunks", "int"),
            dg.TableColumn("score", "float"),
            dg.TableColumn("best_score", "float"),
            dg.TableColumn("best_frame", "string"),
            dg.TableColumn("model", "string"),
        ]
    )
    names = [column.name for column in schema.columns]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in rows.select(names).to_dicts()], schema
    )
