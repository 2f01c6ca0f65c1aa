"""`virnuc evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets.cli.options import ChunkLength, Device, Other, Virus, settings_below


def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything made.")],
    fasta: Annotated[
        list[Path] | None, typer.Argument(help="FASTA files whose records --truth labels.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Table: id, label (virus or other), and perhaps group.")
    ] = None,
    virus: Virus = None,
    other: Other = None,
    calls: Annotated[
        list[str] | None,
        typer.Option(help="Another tool's calls to compare with, [NAME=]TABLE: id, call, score."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Table of places to leave out: record_id, start0, end.")
    ] = None,
    chunk_length: ChunkLength = 500,
    device: Device = "auto",
) -> None:
    """Call the records of labelled files, and measure how good the calls are."""
    from virnuc_assets import evaluate_fasta

    labelled = evaluate_fasta.Labelled(
        tuple(fasta or ()), truth, tuple(virus or ()), tuple(other or ())
    )
    settings = settings_below(output, chunk_length, device)
    if not evaluate_fasta.evaluate_files(labelled, calls or [], mask, settings):
        raise typer.Exit(1)
