"""`virnuc predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.cli.options import ChunkLength, Device, settings_below


def predict(
    fasta: Annotated[list[Path], typer.Argument(help="FASTA files, one sample each.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything made.")],
    chunk_length: ChunkLength = 500,
    device: Device = "auto",
) -> None:
    """Call the records of files; go on where an earlier call stopped."""
    from virnuc_assets import predict_fasta

    settings = settings_below(output, chunk_length, device)
    failures = predict_fasta.predict_files(fasta, settings)
    if failures:
        bad = len({failure.file for failure in failures})
        listed = settings.store / predict_fasta.FAILURES_FILE
        where = f"; see {listed}" if listed.exists() else ""
        console.say(f"{bad} of {len(fasta)} files failed{where}")
        raise typer.Exit(1 if bad == len(fasta) else 2)
