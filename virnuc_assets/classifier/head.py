"""The MLP head: (DNABERT-S, ESM-2) embeddings of a frame to the probabilities (others, virus)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from virnuc_assets.classifier.head_files import (
    HeadCard,
    head_digest,
    read_card,
    read_weights,
    save_head,
)
from virnuc_assets.errors import WeightsError

__all__ = ["Head", "HeadCard", "MLPHead", "load_head", "save_head"]

# Every product has this many rows, the last ones zero where there are fewer: a matrix product may
# round differently at another shape, and a frame's score must not depend on what it is scored with.
BATCH_ROWS = 256


class MLPHead(nn.Module):
    """VirNucPro's `MLPClassifier` at inference: linear, batch norm, ReLU, linear.

    Dropout is the identity at inference and has no place here.
    """

    def __init__(self, card: HeadCard) -> None:
        super().__init__()
        self.hidden_layer = nn.Linear(card.dna_dim + card.protein_dim, card.hidden_dim)
        self.bn1 = nn.BatchNorm1d(card.hidden_dim)
        self.output_layer = nn.Linear(card.hidden_dim, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2) of `features` (n, dna_dim + protein_dim), DNA first."""
        return self.output_layer(torch.relu(self.bn1(self.hidden_layer(features))))


@dataclass(frozen=True)
class Head:
    """A head ready to score on the CPU, and the digest of the files it was read from."""

    card: HeadCard
    module: MLPHead
    digest: str

    def score(self, dna: np.ndarray, protein: np.ndarray) -> np.ndarray:
        """Softmax scores of n frames.

        Args:
            dna: DNABERT-S embeddings, (n, dna_dim) float32.
            protein: ESM-2 embeddings of the same frames, (n, protein_dim) float32.

        Returns:
            (n, 2) float32: P(others), P(virus). A row is the same, bit for bit, whatever the
            other rows are.

        Raises:
            WeightsError: the embeddings are not of the width the head was trained on.
        """
        self.check_dimensions(dna.shape[1], protein.shape[1])
        if len(dna) != len(protein):
            raise ValueError(f"{len(dna)} DNA rows but {len(protein)} protein rows")
        scores = np.empty((len(dna), 2), np.float32)
        features = torch.zeros(BATCH_ROWS, self.card.dna_dim + self.card.protein_dim)
        view = features.numpy()
        with torch.inference_mode():
            for start in range(0, len(dna), BATCH_ROWS):
                n = min(BATCH_ROWS, len(dna) - start)
                view[:n, : self.card.dna_dim] = dna[start : start + n]
                view[:n, self.card.dna_dim :] = protein[start : start + n]
                view[n:] = 0
                scores[start : start + n] = self.module(features).softmax(dim=1).numpy()[:n]
        return scores

    def check_dimensions(self, dna_dim: int, protein_dim: int) -> None:
        """Raise WeightsError unless embeddings of these widths fit the head."""
        wanted = (
            ("DNABERT-S", self.card.dna_dim, dna_dim),
            ("ESM-2", self.card.protein_dim, protein_dim),
        )
        for encoder, takes, given in wanted:
            if takes != given:
                raise WeightsError(
                    f"head {self.card.name}: takes {encoder} embeddings of {takes} dimensions, "
                    f"not {given}; choose the {encoder} model the head was trained on, "
                    "or another head"
                )


def load_head(directory: Path) -> Head:
    """Read the head in `directory`, in evaluation mode on the CPU.

    Raises:
        WeightsError: the card or the weights are missing, damaged, or do not fit each other.
    """
    card = read_card(directory)
    module = MLPHead(card)
    module.load_state_dict(_state(read_weights(directory, card)))
    return Head(card, module.eval().requires_grad_(False), head_digest(directory))


def _state(weights: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    state = {name: torch.from_numpy(array) for name, array in weights.items()}
    # Counts training steps; batch norm asks for it and inference never reads it.
    state["bn1.num_batches_tracked"] = torch.tensor(0)
    return state
