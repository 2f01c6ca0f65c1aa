"""Training the mini model on a corpus, and its calibration."""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from virnuc_assets.training.batches import Batch, Plan, Tokens, batches
from virnuc_assets.training.calibration import fit_temperature
from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.fragments import Fragments
from virnuc_assets.training.mini import SHARES, Mini, Recipe
from virnuc_assets.training.validation import Validation

log = logging.getLogger(__name__)

_SCORED_FRAMES = 1024


@dataclass(frozen=True)
class Trained:
    """What a training came to: the averaged model at its best look, on its device, and all looks.

    `temperature`: that by which frames of the validation genomes are scored most truly. A look has
    the step, the seconds so far, the last batch's loss and what `Validation.measure` gave.
    """

    model: Mini
    temperature: float
    best: dict[str, float]
    looks: list[dict[str, float]]


def train(
    corpus: Corpus, tokeniser: Path, recipe: Recipe, device: torch.device, workers: int
) -> Trained:
    """Train on the stretches of the split `train`, and choose by those of `validation`.

    On a CPU the same arguments and number of threads give the same bits.

    Args:
        corpus: both, with both classes in each.
        tokeniser: folder of the DNA tokeniser.
        recipe: how.
        device: where; bfloat16 products on a GPU, float32 on a CPU.
        workers: processes that prepare batches.

    Raises:
        InputError: the corpus has nothing that could be drawn.
    """
    torch.manual_seed(recipe.seed)
    known = corpus.chosen(corpus.split == "train")
    names, group = np.unique(known.group, return_inverse=True)
    group_of, is_virus = (
        torch.from_numpy(labels).to(device) for labels in (group, known.is_virus.astype(np.int64))
    )
    model = Mini(recipe.dropout, len(names)).to(device)
    _compile(model, device)
    average = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(_parameters(model, recipe), betas=(0.9, 0.98))
    validation = Validation(corpus.chosen(corpus.split == "validation"))
    tokens = Tokens(tokeniser)
    plan = Plan(recipe.frames, recipe.lengths, SHARES, recipe.diverged, recipe.seed)
    source = batches(known, tokeniser, plan, workers)
    best: dict[str, float] = {}
    kept: dict[str, Tensor] = {}
    looks: list[dict[str, float]] = []
    began = time.monotonic()
    for step in range(1, recipe.most_steps + 1):
        for settings in optimiser.param_groups:
            settings["lr"] = recipe.peak_rate * _rate(step, recipe)
        batch = next(source).to(device)
        labels = is_virus[batch.stretch], group_of[batch.stretch]
        loss = _learn(model, optimiser, batch, labels, recipe)
        follow(average, model, min(recipe.averaged, 1 - 1 / step))
        if step % recipe.look_every and step < recipe.most_steps:
            continue
        look = {
            "step": step,
            "seconds": time.monotonic() - began,
            "loss": loss.item(),
            **validation.measure(lambda fragments: score(average, tokens, fragments)),
        }
        looks.append(look)
        log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in look.items()))
        if not best or look["mean"] > best["mean"]:
            best, kept = look, copy.deepcopy(average.state_dict())
        elif step - best["step"] >= recipe.patience * recipe.look_every:
            break
    average.load_state_dict(kept)
    calibration = validation.calibration(lambda fragments: score(average, tokens, fragments))
    return Trained(average, fit_temperature(*calibration), best, looks)


@torch.inference_mode()
def score(model: Mini, tokens: Tokens, fragments: Fragments) -> np.ndarray:
    """Logits of (others, virus), float32 (n, 2), of a model in evaluation mode."""
    device = model.groups.weight.device
    parts = [np.empty((0, 2), np.float32)]
    for first in range(0, len(fragments), _SCORED_FRAMES):
        batch = tokens.batch(fragments.part(slice(first, first + _SCORED_FRAMES))).to(device)
        with _precision(device):
            parts.append(model(batch, _dtype(device))[0].cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    """Move every number of `average`, those of batch norm too, towards that of `model`.

    `keep`, from 0 to 1, is the part of `average` that stays.
    """
    pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    floats = [(kept, new) for kept, new in pairs if kept.is_floating_point()]
    torch._foreach_lerp_([kept for kept, _ in floats], [new for _, new in floats], 1 - keep)


def _learn(
    model: Mini,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    labels: tuple[Tensor, Tensor],
    recipe: Recipe,
) -> Tensor:
    """Take one step on a batch; its loss of the class alone. `labels`: class and group, int64."""
    is_virus, group = labels
    device = is_virus.device
    with _precision(device):
        logits, groups = model(batch, _dtype(device))
    smoothing = recipe.smoothing
    loss = F.cross_entropy(logits, is_virus, label_smoothing=smoothing)
    by_group = F.cross_entropy(groups, group, label_smoothing=2 * smoothing)
    (loss + recipe.group_weight * by_group).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss


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
