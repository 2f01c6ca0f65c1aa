"""A trained head's folder: the head, `metrics.json`, the model card and its figures."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from virnuc_assets.classifier.head_files import CARD_FILE, save_head
from virnuc_assets.store.atomic import atomic_path, write_json
from virnuc_assets.training.labelled import Split
from virnuc_assets.training.model_card import Facts

METRICS_FILE = "metrics.json"
CARD_TEXT_FILE = "model_card.md"
_SCHEMA = 1


def write_head_folder(
    folder: Path,
    facts: Facts,
    scored: Mapping[Split, pl.DataFrame],
    weights: Mapping[str, np.ndarray],
    text: str,
) -> None:
    """Write a head, its metrics, figures and model card to `folder`.

    `head.json`, by which a head is known, goes first and comes last, so a folder with a head is
    whole whenever the process dies.

    Args:
        folder: made if need be.
        facts: what is known of the head.
        scored: what `score_part` gave of each part.
        weights: the head's tensors.
        text: the model card, markdown.

    Raises:
        StoreError: the folder cannot be written.
    """
    (folder / CARD_FILE).unlink(missing_ok=True)
    write_json(
        folder / METRICS_FILE,
        {
            "schema": _SCHEMA,
            "head": asdict(facts.card),
            "counts": facts.counts.to_dicts(),
            "masked_frames": facts.masked_frames,
            "set_aside_frames": facts.set_aside_frames,
            "settings": asdict(facts.settings),
            "epochs": [asdict(epoch) for epoch in facts.trained.epochs],
            "best_epoch": facts.trained.best_epoch,
            "temperature": facts.temperature,
            "metrics": facts.metrics.to_dicts(),
            "learning_curve": [asdict(point) for point in facts.curve],
            "provenance": dict(facts.provenance),
        },
    )
    for name, uri in _figures(facts, scored).items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(base64.b64decode(uri.partition(",")[2]))
    with atomic_path(folder / CARD_TEXT_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    save_head(folder, facts.card, weights)


def _figures(facts: Facts, scored: Mapping[Split, pl.DataFrame]) -> dict[str, str]:
    """Figures by file name, as data URIs."""
    from virnuc_assets.evaluation.figures import curves, reliability
    from virnuc_assets.training.figures import learning_curve_figure, training_curve

    measured = {
        f"{part}, {length} bases": frames
        for part, of_part in scored.items()
        for (length,), frames in of_part.group_by("chunk_length", maintain_order=True)
        if frames["is_virus"].n_unique() == 2
    }
    drawn = {
        "training.svg": training_curve(facts.trained),
        "curves.svg": curves(measured),
        "reliability.svg": reliability(measured),
    }
    if facts.curve:
        drawn["learning_curve.svg"] = learning_curve_figure(facts.curve)
    return drawn
