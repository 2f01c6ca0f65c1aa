"""Jobs, one a partitioning: what the UI's launchpad and `dagster job` start by name."""

import dagster as dg

index_samples = dg.define_asset_job(
    "index_samples",
    selection=["sequence_index"],
    description="Index samples: chunks, frames, unique sequences.",
)
embed_samples = dg.define_asset_job(
    "embed_samples",
    selection=["esm2_embeddings", "dnabert_s_embeddings"],
    description="Embed shards of samples with both encoders.",
)
predict_samples = dg.define_asset_job(
    "predict_samples",
    selection=["predictions", "sample_report"],
    description="Call the records of embedded samples and write their reports.",
)
train_head = dg.define_asset_job(
    "train_head",
    selection=["classifier_head"],
    description="Train a classifier head on labelled files.",
)
