"""Training: labelled sequences, splits by genome, heads on embeddings, and the mini model.

A head: labelled, pooled_files, splits, frames, features, head_training, learning_curve,
head_scores, figures, model_card, head_folder. The mini model, encoders and head together, which
`python -m virnuc_assets.training` makes: genomes, corpus, fragments, divergence, relatives,
batches, encoders, validation, mini, mini_training, checkpoint_files, tokeniser, mini_files. Both:
calibration, margins.

Not here: how sequences are indexed or embedded, how predictions are measured, Dagster.
"""
