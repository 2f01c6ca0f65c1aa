"""The mini model: its shapes, its recipe, and the network that is trained.

A few hundred genera teach a network little that holds for others, and much that holds for them
alone: on genera held out it is best after some hundred batches, and worse from there on. So the
recipe is short. It keeps the running average of the weights that does best on the genera held out,
and asks for the group (phage, bacteria, fungi …) besides the class, which is what measured best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from virnuc_assets.classifier.head import MLPHead
from virnuc_assets.classifier.head_files import HeadCard
from virnuc_assets.encoders.dnabert_s import DNABERTSConfig
from virnuc_assets.encoders.esm2 import ESM2Config
from virnuc_assets.mini.bundled import NAME
from virnuc_assets.training.batches import Batch
from virnuc_assets.training.encoders import new_dnabert_s, new_esm2

VOCABULARY = 1024
DNA = DNABERTSConfig(layers=6, dim=192, heads=6, ffn_dim=384, vocabulary=VOCABULARY)
PROTEIN = ESM2Config(layers=6, dim=192, heads=6, ffn_dim=768)
SHARES = {
    "phage": 0.34,
    "archaeal-virus": 0.01,
    "plant-rna-virus": 0.14,
    "plant-virus": 0.05,
    "vertebrate-rna-virus": 0.12,
    "retrovirus": 0.03,
    "plant-dna-virus": 0.11,
    "vertebrate-dna-virus": 0.13,
    "invertebrate-dna-virus": 0.06,
    "giant-virus-associated": 0.01,
    "bacteria": 0.36,
    "plasmid": 0.06,
    "archaea": 0.20,
    "fungi": 0.08,
    "invertebrate": 0.06,
    "plant": 0.06,
    "protist": 0.05,
    "vertebrate": 0.09,
    "mitochondrion": 0.02,
    "plastid": 0.02,
}
"""How often frames of each group are drawn; viruses and others sum to 1 each."""


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on besides the corpus."""

    frames: int = 512
    """In a batch."""
    lengths: Mapping[int, float] = field(default_factory=lambda: {500: 0.5, 300: 0.35, 160: 0.15})
    """Bases of windows, and how often a batch has such."""
    diverged: float = 0.5
    peak_rate: float = 5e-4
    warm_up: int = 200
    most_steps: int = 800
    weight_decay: float = 0.1
    group_weight: float = 1.0
    dropout: float = 0.3
    smoothing: float = 0.05
    averaged: float = 0.99
    """Of the running average, what each step keeps."""
    look_every: int = 20
    patience: int = 8
    """Looks without a better validation after which training ends."""
    seed: int = 1


class Mini(nn.Module):
    """Both encoders, the head on their means, and a layer that tells groups, for training alone."""

    def __init__(self, dropout: float, groups: int) -> None:
        super().__init__()
        self.dna = new_dnabert_s(DNA)
        self.protein = new_esm2(PROTEIN)
        self.head = MLPHead(head_card())
        self.dropout = nn.Dropout(dropout)
        self.groups = nn.Linear(DNA.dim + PROTEIN.dim, groups)

    def forward(self, batch: Batch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Logits of (others, virus), (b, 2), and of the groups, (b, groups), float32."""
        means = torch.cat([self.dna(batch.dna, dtype), self.protein(batch.protein, dtype)], dim=1)
        features = self.dropout(means)
        hidden = torch.relu(self.head.bn1(self.head.hidden_layer(features)))
        return self.head.output_layer(self.dropout(hidden)).float(), self.groups(features).float()


def head_card(notes: str = "") -> HeadCard:
    """The mini head's card."""
    return HeadCard(NAME, NAME, DNA.dim, PROTEIN.dim, hidden_dim=512, notes=notes)
