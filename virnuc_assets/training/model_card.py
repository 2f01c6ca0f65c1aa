"""The card of a trained head: what it was made from and how good it is, as markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from virnuc_assets.classifier.head_files import HeadCard
from virnuc_assets.training.frames import LabelledFrames
from virnuc_assets.training.head_training import TrainedHead, TrainingSettings
from virnuc_assets.training.labelled import SPLITS, LabelledRecord
from virnuc_assets.training.learning_curve import CurvePoint
from virnuc_assets.training.splits import SHARE

_METRICS = ("auroc", "auprc", "mcc", "recall_at_1_percent_fpr", "ece")
_TITLES = ("AUROC", "AUPRC", "MCC", "recall at 1 % FPR", "ECE")

_TEMPLATE = """# Head {name}

Says whether a stop-free frame of a chunk of {lengths} bases is viral, from its DNABERT-S embedding
({dna_dim} numbers) and its ESM-2 embedding ({protein_dim}), made by the encoders named below and by
no others. Scores are calibrated for samples of which half is viral: where viruses are rarer, fewer
of the calls are right than the scores say.

## Data

{counts}

Frames left out of training and validation because the mask covers half of their chunk or more:
{masked}. Frames that could not be embedded: {set_aside}.

## Splits

No genome is in two parts, where a genome is what the manifest gives as virus cluster, else as
family, genus or genome, else the record itself.
{splits}

## Training

Frames are drawn by class, then group (by the square root of its genomes), then genome (by that of
its frames), then evenly. Training ended by the AUROC on the validation part; the temperature was
fitted there too and is part of the output layer.

{training}

![training](training.svg)

## Metrics of frames

Weight `items`: every frame counts once. Weight `groups`: both classes weigh the same, and in each
class every group does. A group is measured against all frames of the other class. Masked frames of
the test part are measured with (`kept`) and without (`left out`). The validation part ended the
training and set the temperature, so its figures flatter.

{metrics}

![curves](curves.svg)

![reliability](reliability.svg)

{curve}## Provenance

{provenance}
"""


@dataclass(frozen=True)
class Facts:
    """All that a card says."""

    card: HeadCard
    chunk_lengths: tuple[int, ...]
    counts: pl.DataFrame
    """What `count_labels` gave."""
    masked_frames: int
    """Training and validation frames that the mask left out."""
    set_aside_frames: int
    """Frames whose nucleotides or protein could not be embedded."""
    drawn: tuple[str, ...]
    """The parts that were drawn because no split was given."""
    settings: TrainingSettings
    trained: TrainedHead
    temperature: float
    metrics: pl.DataFrame
    """What `head_scores.measure_parts` gave."""
    curve: Sequence[CurvePoint]
    provenance: Mapping[str, str]


def count_labels(records: Sequence[LabelledRecord], frames: LabelledFrames) -> pl.DataFrame:
    """Genomes, records and frames (masked ones too) by class, group and split.

    Returns:
        Rows of is_virus, group, split, genomes, records and frames, sorted; viruses first.
    """
    table = pl.DataFrame(
        {
            "is_virus": [record.is_virus for record in records],
            "group": [record.group for record in records],
            "split": [record.split for record in records],
            "genome": [record.genome for record in records],
            "frames": np.bincount(frames.record, minlength=len(records)),
        }
    )
    counts = table.group_by("is_virus", "group", "split").agg(
        pl.col("genome").n_unique().alias("genomes"),
        pl.len().alias("records"),
        pl.col("frames").sum(),
    )
    order = pl.col("split").replace_strict({name: i for i, name in enumerate(SPLITS)})
    return counts.sort(pl.col("is_virus").not_(), "group", order)


def model_card(facts: Facts) -> str:
    """The card as markdown; the same facts give the same text."""
    card, trained = facts.card, facts.trained
    settings = [(name.replace("_", " "), value) for name, value in asdict(facts.settings).items()]
    return _TEMPLATE.format(
        name=card.name,
        lengths=" and ".join(map(str, facts.chunk_lengths)),
        dna_dim=card.dna_dim,
        protein_dim=card.protein_dim,
        counts=_counts(facts.counts),
        masked=facts.masked_frames,
        set_aside=facts.set_aside_frames,
        splits=f"Drawn by class and group, {SHARE:.0%} of the genomes, with seed "
        f"{facts.settings.seed}: {', '.join(facts.drawn)}."
        if facts.drawn
        else "All splits were given.",
        training=_table(
            ("what", "value"),
            [
                *settings,
                ("epochs", len(trained.epochs)),
                ("best epoch", trained.best_epoch),
                ("temperature", f"{facts.temperature:.4f}"),
                ("device", f"{trained.device}, {trained.threads} threads"),
            ],
        ),
        metrics=_metrics(facts.metrics),
        curve=_curve(facts.curve),
        provenance=_table(
            ("what", "value"), ((what, f"`{value}`") for what, value in facts.provenance.items())
        ),
    )


def _counts(counts: pl.DataFrame) -> str:
    return _table(
        ("class", "group", "part", "genomes", "records", "frames"),
        (
            ("virus" if is_virus else "other", *rest)
            for is_virus, *rest in counts.select(
                "is_virus", "group", "split", "genomes", "records", "frames"
            ).iter_rows()
        ),
    )


def _metrics(metrics: pl.DataFrame) -> str:
    first = ("part", "chunk_length", "masked", "label", "group", "weight", "n", "n_virus")
    return _table(
        (*(name.replace("_", " ") for name in first), *_TITLES),
        (
            (*(row[name] for name in first), *(_shown(row[name]) for name in _METRICS))
            for row in metrics.iter_rows(named=True)
        ),
    )


def _curve(points: Sequence[CurvePoint]) -> str:
    if not points:
        return ""
    rows = (
        (f"{point.share:.0%}", point.genomes, point.frames, _shown(point.validation_auroc))
        for point in points
    )
    table = _table(("training genomes", "number", "frames", "validation AUROC"), rows)
    return f"## Learning curve\n\n{table}\n\n![learning curve](learning_curve.svg)\n\n"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
