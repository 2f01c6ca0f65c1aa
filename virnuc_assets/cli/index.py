"""`virnuc index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.cli.options import ChunkLength
from virnuc_assets.settings import from_environment


def index(
    fasta: Annotated[Path, typer.Argument(help="FASTA or FASTQ file, plain, gzip or zstd.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the index.")],
    chunk_length: ChunkLength = 500,
) -> None:
    """Chunk and translate a file; list its stop-free sequences."""
    from virnuc_assets.ray_index import indexing

    with indexing(from_environment().models.ray) as begin:
        manifest = begin(fasta, output, chunk_length)().manifest
    console.result(
        f"{output}: {manifest.records} records, {manifest.chunks} chunks of {chunk_length} bases, "
        f"{manifest.frames} frames ({manifest.unique_nucleotides} unique nucleotide and "
        f"{manifest.unique_proteins} unique protein sequences, {manifest.unique_share:.1%} of "
        "the total); "
        f"{manifest.records_without_open_frame} records without an open frame"
    )
