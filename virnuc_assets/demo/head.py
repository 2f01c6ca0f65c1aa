"""The demo head: random weights for the demo encoders, so that the whole path runs anywhere."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from virnuc_assets.classifier.head_files import HeadCard, save_head

CARD = HeadCard(
    name="demo",
    label="demo (untrained)",
    dna_dim=48,
    protein_dim=64,
    hidden_dim=32,
    notes="Random weights from a fixed seed; its calls mean nothing.",
)
_SEED = 20240
# Wide enough that scores spread over (0, 1) instead of gathering at one half.
_SPREAD = {"hidden_layer.weight": 0.4, "output_layer.weight": 0.8}


def write_demo_head(directory: Path) -> None:
    """Write the demo head to `directory`; the bytes are the same on every machine."""
    # Python keeps the stream of random() for a seed from version to version; NumPy does not
    # promise it for a Generator.
    rng = random.Random(_SEED)
    weights: dict[str, np.ndarray] = {}
    for name, shape in CARD.shapes().items():
        spread = _SPREAD.get(name, 0.1)
        values = [spread * (2 * rng.random() - 1) for _ in range(int(np.prod(shape)))]
        weights[name] = np.array(values, np.float32).reshape(shape)
    for name in ("bn1.weight", "bn1.running_var"):
        weights[name] += np.float32(1)
    # Half of the hidden units speak for each class, so that neither wins by the draw.
    output = np.abs(weights["output_layer.weight"])
    output[0, ::2] *= -1
    output[1, 1::2] *= -1
    weights["output_layer.weight"] = output
    save_head(directory, CARD, weights)
