"""`virnuc import-run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console


def import_run(
    folder: Annotated[Path, typer.Argument(help="What VirNucPro, or a tool made from it, left.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything made.")],
    model: Annotated[
        str, typer.Option(help="What the results are to be known by.")
    ] = "imported run",
) -> None:
    """Keep a run of VirNucPro: its scores as tables, its features as HDF5 files."""
    from virnuc_assets import import_run

    found = import_run.import_run(folder, output, model)
    if found.records is not None:
        console.result(
            f"{output}: {found.frames} frames of {found.records} records, {found.viral_records} "
            "of them viral"
        )
    for name, count in found.embeddings.items():
        console.result(f"{output / name}: {count} sequences")
