"""Resources: where a deployment's files lie and which models it uses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import dagster as dg
from pydantic import Field

from virnuc_assets import settings
from virnuc_assets.store.layout import Layout


class Store(dg.ConfigurableResource):
    """The folder that holds the inbox, samples, predictions and reports."""

    root: str = Field(description="Root folder of the store.")

    @property
    def layout(self) -> Layout:
        """Paths below the root."""
        return Layout(Path(self.root))


class Models(dg.ConfigurableResource):
    """The encoders and the head, and how the encoders run: `settings.Models`, shown in the UI."""

    esm2: str
    dnabert_s: str
    head: str
    chunk_length: int = 500
    dtype: str = "auto"
    attention: str = "auto"
    token_budget: int | None = None
    gpus: list[str] = Field(default_factory=list)
    launcher: str = "local"
    ray_address: str = "auto"
    ray_workers: int = 8
    ray_exchange: str | None = None

    def as_settings(self) -> settings.Models:
        """The same as a plain value."""
        return settings.Models(**{**self.model_dump(), "gpus": tuple(self.gpus)})


def resources(deployment: settings.Settings) -> dict[str, dg.ConfigurableResource]:
    """The resources of a deployment."""
    models = asdict(deployment.models)
    return {
        "store": Store(root=str(deployment.store)),
        "models": Models(**{**models, "gpus": list(deployment.models.gpus)}),
    }
