"""Training: labelled sequences, splits by genome, features, the head's training and its card.

Not here: how sequences are indexed or embedded, how predictions are measured, Dagster.
"""
