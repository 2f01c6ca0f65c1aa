"""The mini model's files: its DNA tokeniser, encoders, head, and what is known of its training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from virnuc_assets.classifier.head_files import save_head
from virnuc_assets.mini.bundled import NAME
from virnuc_assets.store.atomic import write_json
from virnuc_assets.training.calibration import with_temperature
from virnuc_assets.training.checkpoint_files import write_dnabert_s, write_esm2
from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.fragments import Draw
from virnuc_assets.training.mini import SHARES, VOCABULARY, Recipe, head_card
from virnuc_assets.training.mini_training import Trained
from virnuc_assets.training.tokeniser import write_tokeniser

_WINDOWS, _WINDOW_BASES = 40_000, 500


def write_dna_tokeniser(folder: Path, corpus: Corpus, seed: int) -> None:
    """Learn the byte pairs of training frames; writes `tokenizer.json`.

    Raises:
        InputError: the corpus has nothing that could be drawn.
        StoreError: the folder cannot be written.
    """
    draw = Draw(corpus.chosen(corpus.split == "train"), SHARES, _WINDOW_BASES)
    fragments = draw.fragments(np.random.default_rng(seed), _WINDOWS)
    write_tokeniser(folder / "tokenizer.json", fragments.nucleotides, VOCABULARY)


def save(folder: Path, trained: Trained, facts: dict[str, Any]) -> None:
    """Write encoders and head below `folder`, as the engine reads them, and `training.json`.

    Args:
        folder: gets `models/esm2`, `models/dnabert_s` (that has its tokeniser) and `heads/NAME`.
        trained: what is written; its temperature goes into the head's output layer.
        facts: what `facts_of` gave.

    Raises:
        StoreError: the folder cannot be written.
    """
    model = trained.model
    write_esm2(folder / "models" / "esm2", model.protein.encoder, NAME)
    write_dnabert_s(folder / "models" / "dnabert_s", model.dna.encoder, NAME)
    state = {name: tensor.cpu().numpy() for name, tensor in model.head.state_dict().items()}
    del state["bn1.num_batches_tracked"]
    notes = f"Trained with both encoders on {facts['genomes']} genomes; see the model card."
    weights = with_temperature(state, trained.temperature)
    save_head(folder / "heads" / NAME, head_card(notes), weights)
    content = {
        **facts,
        "temperature": trained.temperature,
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
