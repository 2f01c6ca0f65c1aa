"""`virnuc train-head`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.cli.options import Device, Other, Virus
from virnuc_assets.runner import client
from virnuc_assets.settings import (
    Settings,
    check_encoders_go_together,
    device_list,
    from_environment,
)
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import check_name


def train_head(
    name: Annotated[str, typer.Option(help="Name of the head; VIRNUC_HEAD=NAME uses it.")],
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Table of labelled files: file, class, and perhaps group, split, genome."
        ),
    ] = None,
    records: Annotated[
        Path | None, typer.Option(help="Table of the files' records: record_id, file, and so on.")
    ] = None,
    virus: Virus = None,
    other: Other = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Table of doubtful negatives, such as prophages: record_id, start0, end."
        ),
    ] = None,
    chunk_length: Annotated[
        list[int] | None,
        typer.Option(
            envvar="VIRNUC_CHUNK_LENGTH", help="Bases in a chunk, 500 by default; may be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the head; below VIRNUC_STORE by default.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder of indexes and embeddings; below VIRNUC_STORE by default."),
    ] = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Train on 10 % and 30 % of the genomes too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn and how weights start.")] = 0,
    hidden_dim: Annotated[int, typer.Option(min=1, help="Width of the hidden layer.")] = 512,
    device: Device = "auto",
) -> None:
    """Train a head on labelled files; go on where an earlier call stopped."""
    from virnuc_assets.train_head import Recipe, make_head
    from virnuc_assets.training.head_scores import headline
    from virnuc_assets.training.head_training import TrainingSettings
    from virnuc_assets.training.labelled import labelled_files

    check_encoders_go_together()
    configured = from_environment()
    layout = Layout(configured.store)
    recipe = Recipe(
        name=check_name(name),
        labelled=labelled_files(manifest, records, virus or [], other or []),
        chunk_lengths=tuple(dict.fromkeys(chunk_length or [500])),
        mask=mask,
        learning_curve=learning_curve,
        training=TrainingSettings(seed=seed, hidden_dim=hidden_dim),
    )
    models = dataclasses.replace(configured.models, gpus=device_list(device, "--device"))
    settings = Settings((work or layout.training(name)).absolute(), configured.n_shards, models)
    head = make_head(
        recipe,
        settings,
        out or layout.heads / name,
        lambda job, title: console.follow(client.stream(job), title),
        console.say,
    )
    metrics = ("auroc", "auprc", "mcc", "recall_at_1_percent_fpr", "ece")
    console.table(
        f"{name}: frames, every group of a class weighing the same",
        ("part", "chunk length", "frames", "AUROC", "AUPRC", "MCC", "recall at 1 % FPR", "ECE"),
        (
            (
                row["part"],
                str(row["chunk_length"]),
                str(row["n"]),
                *(console.shown(row[metric]) for metric in metrics),
            )
            for row in headline(head.metrics).iter_rows(named=True)
        ),
        right=("frames",),
    )
    console.files_made(
        {"head, metrics and card": head.folder, "index and embeddings": settings.store}
    )
