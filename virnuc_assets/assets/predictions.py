"""Embeddings → scores of every frame → best frame of every chunk → calls of every record."""

from typing import Any

import dagster as dg

from virnuc_assets import __version__, pipeline
from virnuc_assets.assets.dnabert_s_embeddings import dnabert_s_embeddings
from virnuc_assets.assets.esm2_embeddings import esm2_embeddings
from virnuc_assets.assets.failures import explained
from virnuc_assets.assets.sequence_index import sequence_index
from virnuc_assets.automation import after_embeddings
from virnuc_assets.classifier.report import top_viral_records
from virnuc_assets.partitions import N_SHARDS, samples
from virnuc_assets.resources import Models, Store

_TABLE_ROWS = 20


@dg.asset(
    partitions_def=samples,
    deps=[sequence_index, esm2_embeddings, dnabert_s_embeddings],
    automation_condition=after_embeddings,
    code_version=__version__,
    group_name="virnuc",
    kinds={"torch", "parquet"},
)
def predictions(
    context: dg.AssetExecutionContext, store: Store, models: Models
) -> dg.MaterializeResult:
    """Which of the sample's records are viral, with the scores of every frame and chunk."""
    name = context.partition_key
    with explained():
        summary = pipeline.predict_sample(store.layout, name, N_SHARDS, models.as_settings())
    folder = store.layout.predictions(name)
    return dg.MaterializeResult(
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
            "head_digest": summary.head_digest,
            "top_viral_records": _top_records(top_viral_records(folder, _TABLE_ROWS)),
            "folder": dg.MetadataValue.path(str(folder)),
        }
    )


def _top_records(rows: list[dict[str, Any]]) -> dg.TableMetadataValue:
    schema = dg.TableSchema(
        [
            dg.TableColumn("id", "string"),
            dg.TableColumn("length", "int"),
            dg.TableColumn("n_chunks", "int"),
            dg.TableColumn("n_viral_chunks", "int"),
            dg.TableColumn("best_score", "float"),
            dg.TableColumn("best_frame", "string"),
            dg.TableColumn("model", "string"),
        ]
    )
    names = [column.name for column in schema.columns]
    return dg.MetadataValue.table(
        [dg.TableRecord({name: row[name] for name in names}) for row in rows], schema
    )
