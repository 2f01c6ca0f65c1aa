"""`virnuc samples`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.errors import InputError
from virnuc_assets.instance import open_instance
from virnuc_assets.settings import Settings, from_environment
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import (
    Sample,
    all_samples,
    check_name,
    earlier_registration,
    register,
    sample_name,
)

samples_app = typer.Typer(help="Samples of the Dagster platform.")


@samples_app.command("add")
def samples_add(
    fasta: Annotated[
        list[Path] | None, typer.Argument(help="Sequence files, one sample each.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the sample (one file only).")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Table of samples: path, and perhaps name, chunk_length, head."),
    ] = None,
) -> None:
    """Register sequence files, or the samples of a sheet, as samples of the platform."""
    if (sheet is None) == (not fasta):
        raise InputError("samples add: give sequence files, or --sheet with a table of them")
    if name is not None and len(fasta or ()) != 1:
        raise InputError("--name: names one sample; give one file, or leave the name out")
    settings = from_environment()
    layout = Layout(settings.store)
    # Paths are taken from here; the instance is opened in its own folder.
    files = _by_sample(fasta or [], name)
    table = None if sheet is None else sheet.absolute()
    with open_instance() as instance:
        from virnuc_assets.assets.sources import add_samples

        added = _registered(layout, files, table, settings)
        add_samples(instance, layout, settings.models, added)
    for sample in added:
        own = _own(sample)
        console.result(f"{sample.name}: {sample.source}{own and f' ({own})'}")


@samples_app.command("list")
def samples_list() -> None:
    """List the platform's samples, how far each is, and the file it is made from."""
    settings = from_environment()
    layout = Layout(settings.store)
    console.table(
        f"samples in {layout.samples}",
        (
            "sample",
            "index",
            "ESM-2 shards",
            "DNABERT-S shards",
            "predictions",
            "of its own",
            "source",
        ),
        (
            (
                sample.name,
                console.yes((layout.index(sample.name) / "manifest.json").exists()),
                _shards(layout, sample.name, "esm2", settings.n_shards),
                _shards(layout, sample.name, "dnabert-s", settings.n_shards),
                console.yes((layout.predictions(sample.name) / "results.json").exists()),
                _own(sample),
                sample.source,
            )
            for sample in all_samples(layout)
        ),
    )


def _by_sample(fasta: list[Path], name: str | None) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in fasta:
        sample = check_name(name or sample_name(path))
        if sample in files:
            raise InputError(
                f"{path}: would be sample {sample}, as {files[sample]} is; rename one of them"
            )
        files[sample] = path
    return {sample: path.absolute() for sample, path in files.items()}


def _registered(
    layout: Layout, files: dict[str, Path], sheet: Path | None, settings: Settings
) -> list[Sample]:
    if sheet is None:
        # One that is known keeps what it does not share with the deployment.
        return [
            earlier_registration(layout, sample, path) or register(layout, sample, path)
            for sample, path in files.items()
        ]
    from virnuc_assets.sample_sheet import register_sheet

    return register_sheet(layout, sheet, settings.models)


def _own(sample: Sample) -> str:
    """What a sample does not share with the deployment; nothing if it shares all."""
    own = []
    if sample.chunk_length is not None:
        own.append(f"chunks of {sample.chunk_length}")
    if sample.head is not None:
        own.append(f"head {Path(sample.head).name}")
    return ", ".join(own)


def _shards(layout: Layout, sample: str, encoder: str, n_shards: int) -> str:
    from virnuc_assets.store.embeddings import shard_path

    folder = layout.embeddings(sample, encoder)
    there = sum(shard_path(folder, shard, n_shards).exists() for shard in range(n_shards))
    return f"{there}/{n_shards}"
