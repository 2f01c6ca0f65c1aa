"""`virnuc samples`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.errors import InputError
from virnuc_assets.instance import open_instance
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import all_samples, check_name, register, sample_name

samples_app = typer.Typer(help="Samples of the Dagster platform.")


@samples_app.command("add")
def samples_add(
    fasta: Annotated[list[Path], typer.Argument(help="FASTA files, one sample each.")],
    name: Annotated[str | None, typer.Option(help="Name of the sample (one file only).")] = None,
) -> None:
    """Register FASTA files as samples of the platform."""
    if name is not None and len(fasta) > 1:
        raise InputError("--name: names one sample; give one file, or leave the name out")
    sources: dict[str, Path] = {}
    for path in fasta:
        sample = check_name(name or sample_name(path))
        if sample in sources:
            raise InputError(
                f"{path}: would be sample {sample}, as {sources[sample]} is; rename one of them"
            )
        sources[sample] = path
    layout = Layout(from_environment().store)
    absolute = {sample: path.absolute() for sample, path in sources.items()}
    with open_instance() as instance:
        for sample, path in absolute.items():
            added = register(layout, sample, path)
            instance.add_dynamic_partitions("sample", [added.name])
            console.result(f"{added.name}: {added.source}")


@samples_app.command("list")
def samples_list() -> None:
    """List the platform's samples and how far each is."""
    settings = from_environment()
    layout = Layout(settings.store)
    console.table(
        f"samples in {layout.samples}",
        ("sample", "index", "ESM-2 shards", "DNABERT-S shards", "predictions", "source"),
        (
            (
                sample.name,
                console.yes((layout.index(sample.name) / "manifest.json").exists()),
                _shards(layout, sample.name, "esm2", settings.n_shards),
                _shards(layout, sample.name, "dnabert-s", settings.n_shards),
                console.yes((layout.predictions(sample.name) / "results.json").exists()),
                sample.source,
            )
            for sample in all_samples(layout)
        ),
    )


def _shards(layout: Layout, sample: str, encoder: str, n_shards: int) -> str:
    from virnuc_assets.store.embeddings import shard_path

    folder = layout.embeddings(sample, encoder)
    there = sum(shard_path(folder, shard, n_shards).exists() for shard in range(n_shards))
    return f"{there}/{n_shards}"
