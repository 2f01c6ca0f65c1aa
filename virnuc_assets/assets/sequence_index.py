"""FASTA → chunks → six frames → unique stop-free sequences."""

import dagster as dg

from virnuc_assets import pipeline
from virnuc_assets.assets.failures import explained
from virnuc_assets.assets.sources import sample_file
from virnuc_assets.automation import after_inputs
from virnuc_assets.partitions import samples
from virnuc_assets.ray_index import indexing
from virnuc_assets.resources import Models, Store
from virnuc_assets.store.samples import registered

# Raise when the same file gives another index: all that was made before is stale then.
_REVISION = "1"


@dg.asset(
    partitions_def=samples,
    deps=[sample_file],
    automation_condition=after_inputs,
    code_version=_REVISION,
    group_name="virnuc",
    kinds={"polars", "arrow"},
)
def sequence_index(
    context: dg.AssetExecutionContext, store: Store, models: Models
) -> dg.MaterializeResult:
    """The sample's records cut into chunks, their stop-free frames, and the unique sequences."""
    name = context.partition_key
    with explained(), indexing(models.as_settings().ray) as begin:
        indexed = pipeline.begin_index(begin, store.layout, name, models.chunk_length)()
    manifest = indexed.manifest
    for warning in manifest.warnings:
        context.log.warning(warning)
    return dg.MaterializeResult(
        # The same index again, of a file that was only touched, makes nothing stale.
        data_version=dg.DataVersion(manifest.index_digest),
        metadata={
            "sample": f"{manifest.input_name} → {name}",
            "records": manifest.records,
            "records_without_open_frame": manifest.records_without_open_frame,
            "chunks": manifest.chunks,
            "frames": manifest.frames,
            "unique_nucleotides": manifest.unique_nucleotides,
            "unique_proteins": manifest.unique_proteins,
            "unique_share": manifest.unique_share,
            "chunk_length": manifest.chunk_length,
            "input": manifest.input_name,
            "source": dg.MetadataValue.path(registered(store.layout, name).source),
            "input_sha256": manifest.input_sha256,
            "indexed_on": indexed.where,
            "index_digest": manifest.index_digest,
            "folder": dg.MetadataValue.path(str(store.layout.index(name))),
        },
    )
