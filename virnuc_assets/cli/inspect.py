"""`virnuc inspect`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console


def inspect(
    files: Annotated[
        list[Path], typer.Argument(help="Files or folders that virnuc wrote.", metavar="FILE...")
    ],
    deep: Annotated[
        bool, typer.Option("--deep", help="Hash and read all contents, not only what is said.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what files are, where they came from, and whether they are whole."""
    from virnuc_assets import inspection

    found = [inspection.inspect(path, deep) for path in files]
    if as_json:
        values = [{**dataclasses.asdict(one), "path": str(one.path)} for one in found]
        console.plain(json.dumps(values, indent=2))
    for one in found:
        if not as_json:
            state = "not whole" if one.faults else "whole" if deep else "no fault found"
            console.table(
                f"{one.path}: {one.kind}, {state}",
                ("what", "found"),
                ((name.replace("_", " "), console.shown(fact)) for name, fact in one.facts.items()),
            )
        for fault in one.faults:
            console.fail(fault)
    if any(one.faults for one in found):
        raise typer.Exit(1)
