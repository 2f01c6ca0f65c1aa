"""`virnuc models`."""

from __future__ import annotations

from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import VirnucError
from virnuc_assets.settings import ENCODERS, from_environment

models_app = typer.Typer(help="Encoder weights.")


@models_app.command("list")
def models_list() -> None:
    """List the public models and the ones configured."""
    settings = from_environment()
    shapes = {**catalog.ESM2_SHAPES, catalog.DNABERT_S: catalog.DNABERT_S_SHAPE}
    console.table(
        "public models",
        ("name", "layers", "dim", "on this machine"),
        (
            (name, str(shape.layers), str(shape.dim), console.yes(catalog.is_available(name)))
            for name, shape in shapes.items()
        ),
        right=("layers", "dim"),
    )
    console.table(
        "configured",
        ("encoder", "model", "weights"),
        (_configured(encoder, settings.models.encoding(encoder).weights) for encoder in ENCODERS),
    )


@models_app.command("download")
def models_download(name: Annotated[str, typer.Argument(help="A public model's name.")]) -> None:
    """Fetch a public model to this machine."""
    with console.stage(f"{name}: downloading"):
        weights = catalog.download(name)
    console.result(str(weights.path))


def _configured(encoder: EncoderName, setting: str) -> tuple[str, str, str]:
    try:
        weights = catalog.resolve_weights(encoder, setting)
    except VirnucError as error:
        return encoder, "not usable", str(error)
    return encoder, weights.label, str(weights.path)
