"""FASTA → chunks → six frames → unique stop-free sequences."""

import dagster as dg

from virnuc_assets import __version__, pipeline
from virnuc_assets.assets.failures import explained
from virnuc_assets.automation import on_arrival
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Models, Store


@dg.asset(
    partitions_def=samples,
    automation_condition=on_arrival,
    code_version=__version__,
    group_name="virnuc",
    kinds={"polars", "arrow"},
)
def sequence_index(
    context: dg.AssetExecutionContext, store: Store, models: Models
) -> dg.MaterializeResult:
    """The sample's records cut into chunks, their stop-free frames, and the unique sequences."""
    name = context.partition_key
    with explained():
        manifest = pipeline.index_sample(store.layout, name, models.chunk_length)
    for warning in manifest.warnings:
        context.log.warning(warning)
    return dg.MaterializeResult(
        metadata={
            "records": manifest.records,
            "records_without_open_frame": manifest.records_without_open_frame,
            "chunks": manifest.chunks,
            "frames": manifest.frames,
            "unique_nucleotides": manifest.unique_nucleotides,
            "unique_proteins": manifest.unique_proteins,
            "unique_share": manifest.unique_share,
            "chunk_length": manifest.chunk_length,
            "input": manifest.input_name,
            "input_sha256": manifest.input_sha256,
            "index_digest": manifest.index_digest,
            "folder": dg.MetadataValue.path(str(store.layout.index(name))),
        }
    )
