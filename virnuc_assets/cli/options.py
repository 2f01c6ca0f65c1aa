"""What several commands are given, and what follows from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets.settings import Settings, check_models_go_together, device_list, from_environment
from virnuc_assets.store.layout import Layout

Device = Annotated[
    str,
    typer.Option(
        envvar="VIRNUC_GPUS", help="auto, cpu, cuda (all GPUs), or physical GPU ids such as 0,2."
    ),
]
ChunkLength = Annotated[
    int, typer.Option(envvar="VIRNUC_CHUNK_LENGTH", help="Bases in a chunk: 300 or 500.")
]
Virus = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="FASTA file of viruses alone; may be repeated."),
]
Other = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="FASTA file without viruses; may be repeated."),
]


def settings_below(output: Path, chunk_length: int, device: str) -> Settings:
    """The configured models, checked to be there and to fit, with everything made in `output`."""
    from virnuc_assets import pipeline

    check_models_go_together()
    configured = from_environment()
    models = dataclasses.replace(
        configured.models,
        chunk_length=chunk_length,
        gpus=device_list(device, "--device"),
        # Heads are imported into the deployment's store, not into this call's output.
        head=str(pipeline.head_folder(Layout(configured.store), configured.models.head)),
    )
    settings = Settings(output.absolute(), configured.n_shards, models)
    pipeline.check_models(Layout(settings.store), models)
    return settings
