"""The mini model's recipe: both encoders and a head, trained together on labelled genomes.

A few hundred genera teach a network little that holds for others, and much that holds for them
alone: on genera held out it is best after some hundred batches, and worse from there on. So the
recipe is short. It keeps the running average of the weights that does best on the genera held out,
and asks for the group (phage, bacteria, fungi …) besides the class, which is what measured best.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from virnuc_assets.classifier.head import MLPHead
from virnuc_assets.classifier.head_files import HeadCard, save_head
from virnuc_assets.demo.models import write_tokeniser
from virnuc_assets.encoders.dnabert_s import DNABERTSConfig
from virnuc_assets.encoders.esm2 import ESM2Config
from virnuc_assets.store.atomic import write_json
from virnuc_assets.training.batches import Batch, Plan, Tokens, batches
from virnuc_assets.training.calibration import fit_temperature, with_temperature
from virnuc_assets.training.checkpoint_files import write_dnabert_s, write_esm2
from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.encoders import new_dnabert_s, new_esm2
from virnuc_assets.training.fragments import Draw, Fragments
from virnuc_assets.training.validation import Validation

log = logging.getLogger(__name__)

NAME = "virnuc-mini-1"
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


@dataclass(frozen=True)
class Trained:
    """What a training came to: the averaged model at its best look, and all looks."""

    model: Mini
    best: dict[str, float]
    looks: list[dict[str, float]]


def write_dna_tokeniser(folder: Path, corpus: Corpus, seed: int) -> None:
    """Learn the byte pairs of training fragments; writes `tokenizer.json`."""
    draw = Draw(corpus.chosen(corpus.split == "train"), SHARES, 500)
    fragments = draw.fragments(np.random.default_rng(seed), 40_000)
    write_tokeniser(folder / "tokenizer.json", fragments.nucleotides, VOCABULARY)


def train(
    corpus: Corpus, tokeniser: Path, recipe: Recipe, device: torch.device, workers: int
) -> Trained:
    """Train on the stretches of the split `train`, and choose by those of `validation`.

    Args:
        corpus: both.
        tokeniser: folder of the DNA tokeniser.
        recipe: how.
        device: where; bfloat16 products on a GPU, float32 on a CPU.
        workers: processes that prepare batches.
    """
    torch.manual_seed(recipe.seed)
    known = corpus.chosen(corpus.split == "train")
    names, group = np.unique(known.group, return_inverse=True)
    group_of, is_virus = (torch.from_numpy(x).to(device) for x in (group, known.is_virus))
    model = Mini(recipe.dropout, len(names)).to(device)
    _compile(model, device)
    average = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(_parameters(model, recipe), betas=(0.9, 0.98))
    validation = Validation(corpus.chosen(corpus.split == "validation"), Tokens(tokeniser))
    plan = Plan(recipe.frames, recipe.lengths, SHARES, recipe.diverged, recipe.seed)
    source = batches(known, tokeniser, plan, workers)
    best: dict[str, Any] = {"mean": 0.0}
    kept: dict[str, Tensor] = {}
    looks: list[dict[str, float]] = []
    began = time.monotonic()
    for step in range(1, recipe.most_steps + 1):
        for settings in optimiser.param_groups:
            settings["lr"] = recipe.peak_rate * _rate(step, recipe)
        batch = next(source).to(device)
        with _precision(device):
            logits, groups = model(batch, _dtype(device))
        smoothing = recipe.smoothing
        loss = F.cross_entropy(logits, is_virus[batch.stretch].long(), label_smoothing=smoothing)
        by_group = F.cross_entropy(groups, group_of[batch.stretch], label_smoothing=2 * smoothing)
        (loss + recipe.group_weight * by_group).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        _follow(average, model, min(recipe.averaged, 1 - 1 / step))
        if step % recipe.look_every:
            continue
        look = {
            "step": step,
            "seconds": time.monotonic() - began,
            "loss": loss.item(),
            **validation.measure(lambda fragments: score(average, validation.tokens, fragments)),
        }
        looks.append(look)
        log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in look.items()))
        if look["mean"] > best["mean"]:
            best, kept = look, copy.deepcopy(average.state_dict())
        elif step - best["step"] >= recipe.patience * recipe.look_every:
            break
    average.load_state_dict(kept)
    return Trained(average, best, looks)


@torch.inference_mode()
def score(model: Mini, tokens: Tokens, fragments: Fragments, rows: int = 1024) -> np.ndarray:
    """Logits of (others, virus), float32 (n, 2)."""
    device = model.groups.weight.device
    parts = []
    for first in range(0, len(fragments), rows):
        batch = tokens.batch(fragments.part(slice(first, first + rows))).to(device)
        with _precision(device):
            parts.append(model(batch, _dtype(device))[0].cpu().numpy())
    return np.concatenate(parts)


def calibrate(trained: Trained, corpus: Corpus, tokens: Tokens) -> float:
    """The temperature by which the validation genomes' frames are scored most truly."""
    validation = Validation(corpus.chosen(corpus.split == "validation"), tokens)
    logits, is_virus, weight = validation.calibration(
        lambda fragments: score(trained.model, tokens, fragments)
    )
    return fit_temperature(logits, is_virus, weight)


def save(folder: Path, trained: Trained, temperature: float, facts: dict[str, Any]) -> None:
    """Write encoders and head below `folder`, as the engine reads them, and `training.json`.

    Raises:
        StoreError: the folder cannot be written.
    """
    model = trained.model
    write_esm2(folder / "models" / "esm2", model.protein.encoder, NAME)
    write_dnabert_s(folder / "models" / "dnabert_s", model.dna.encoder, NAME)
    state = {name: tensor.cpu().numpy() for name, tensor in model.head.state_dict().items()}
    del state["bn1.num_batches_tracked"]
    notes = f"Trained with both encoders on {facts['genomes']} genomes; see the model card."
    weights = with_temperature(state, temperature)
    save_head(folder / "heads" / NAME, head_card(notes), weights)
    content = {
        **facts,
        "temperature": temperature,
        "best": trained.best,
        "looks": trained.looks,
        "torch": torch.__version__,
    }
    write_json(folder / "training.json", content)


def facts_of(corpus: Corpus, recipe: Recipe) -> dict[str, Any]:
    """What a training is of."""
    train_part = corpus.chosen(corpus.split == "train")
    return {
        "name": NAME,
        "recipe": asdict(recipe),
        "genomes": len(np.unique(train_part.genome)),
        "bases": int(train_part.letters.size),
        "validation_genomes": len(np.unique(corpus.genome[corpus.split == "validation"])),
    }


def with_fewer_genomes(corpus: Corpus, share: float, seed: int) -> Corpus:
    """The corpus with a share of each group's training genomes, at least one of each."""
    rng = np.random.default_rng(seed)
    keep = corpus.split != "train"
    for group in np.unique(corpus.group[~keep]):
        of_group = (corpus.group == group) & (corpus.split == "train")
        genomes = np.unique(corpus.genome[of_group])
        some = rng.permutation(genomes)[: max(1, round(share * len(genomes)))]
        keep |= of_group & np.isin(corpus.genome, some)
    return corpus.chosen(keep)


def _compile(model: Mini, device: torch.device) -> None:
    if device.type != "cuda":
        return
    for encoder in (model.dna.encoder, model.protein.encoder):
        for layer in encoder.layers:
            layer.compile(dynamic=True)


def _precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    """Move every number of `average`, those of batch norm too, towards that of `model`."""
    pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    floats = [(kept, new) for kept, new in pairs if kept.is_floating_point()]
    torch._foreach_lerp_([kept for kept, _ in floats], [new for _, new in floats], 1 - keep)


def _rate(step: int, recipe: Recipe) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.most_steps))
    return min(step / recipe.warm_up, cosine)


def _parameters(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
