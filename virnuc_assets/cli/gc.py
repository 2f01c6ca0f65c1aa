"""`virnuc gc`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.errors import as_size
from virnuc_assets.garbage.plan import Unneeded
from virnuc_assets.settings import ENCODERS, check_models_go_together, from_environment

_HOUR = 3600


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove what is found.")] = False,
    older_than: Annotated[
        float, typer.Option(min=0, help="Hours since a file was written, at least.")
    ] = 24,
) -> None:
    """List files in the store that no current result needs; remove them with --delete."""
    from virnuc_assets.encoders import catalog
    from virnuc_assets.garbage.sweep import sweep

    check_models_go_together()
    settings = from_environment()
    models = (
        catalog.resolve_weights(encoder, settings.models.encoding(encoder).weights).label
        for encoder in ENCODERS
    )
    console.say(
        f"{settings.store}: current is what {' and '.join(dict.fromkeys(models))} give in "
        f"{settings.n_shards} shards, and what the results there were made from"
    )
    found = sweep(settings, older_than * _HOUR, delete)
    for name in found.in_use:
        console.warn(f"sample {name}: is being written to, and was left alone")
    size = as_size(sum(item.bytes for item in found.unneeded))
    if not found.unneeded:
        console.result("nothing that no current result needs")
        return
    console.table(
        "removed" if delete else "what no current result needs",
        ("below the store", "items", "size", "why"),
        _rows(found.unneeded, settings.store),
        right=("items", "size"),
    )
    console.result(
        f"{size} freed" if delete else f"{size}; nothing was removed: virnuc gc --delete does that"
    )


def _rows(unneeded: Iterable[Unneeded], store: Path) -> Iterable[tuple[str, str, str, str]]:
    """A row for each folder and reason, and for each folder that goes as a whole."""

    def place(item: Unneeded) -> tuple[str, str]:
        return str(item.path.parent.relative_to(store)), item.why

    for (folder, why), items in groupby(sorted(unneeded, key=place), key=place):
        listed = list(items)
        where = str(listed[0].path.relative_to(store)) if len(listed) == 1 else f"{folder}/"
        yield where, str(len(listed)), as_size(sum(item.bytes for item in listed)), why
