"""`virnuc backfill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from virnuc_assets import console
from virnuc_assets.errors import InputError
from virnuc_assets.instance import open_instance

if TYPE_CHECKING:
    from virnuc_assets.backfill import Which


def backfill(
    samples: Annotated[
        list[str] | None, typer.Argument(help="Samples; all of them if none is named.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every sample, from its index to its report.")
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only what was never made, and what follows.")
    ] = False,
    failed_only: Annotated[
        bool, typer.Option("--failed-only", help="Only what failed last, and what follows.")
    ] = False,
    priority: Annotated[
        int, typer.Option(help="Runs of a higher priority leave the queue first.")
    ] = 0,
) -> None:
    """Take samples from their files to their reports, or make good what is missing or failed."""
    if missing and failed_only:
        raise InputError("--missing and --failed-only: are two questions; give one of them")
    if every and samples:
        raise InputError("--all: is every sample; leave the names out, or leave it out")
    if not (samples or every or missing or failed_only):
        raise InputError(
            "backfill: names no sample; name some, or give --all, --missing or --failed-only"
        )
    which: Which = "missing" if missing else "failed" if failed_only else "all"
    with open_instance() as instance:
        from virnuc_assets.backfill import is_daemon_alive, launch, plan
        from virnuc_assets.definitions import defs
        from virnuc_assets.partitions import sample_of
        from virnuc_assets.settings import from_environment
        from virnuc_assets.store.layout import Layout

        known = instance.get_dynamic_partitions("sample")
        if unknown := [name for name in samples or [] if name not in known]:
            raise InputError(
                f"{unknown[0]!r} is not a known sample; `virnuc samples list` lists them, "
                "`virnuc samples add` adds one"
            )
        graph = defs.resolve_asset_graph()
        found = plan(graph, instance, samples or sorted(known), which)
        if not found:
            console.result(f"nothing to do: {'there is no sample' if not known else which}")
            return
        names = sorted({sample_of(key) for keys in found.values() for key in keys})
        ids = launch(graph, instance, Layout(from_environment().store), found, priority)
        alive = is_daemon_alive(instance)
    console.table(
        f"{len(names)} samples in {len(ids)} backfills, priority {priority}",
        ("asset", "partitions"),
        ((key.to_user_string(), str(len(keys))) for key, keys in found.items()),
        right=("partitions",),
    )
    console.result(f"backfills {', '.join(ids)}; the UI shows them under Runs, Backfills")
    if not alive:
        console.warn(
            "no daemon has been heard of for two minutes; backfills begin when one runs: make ui, "
            "or dagster-daemon run"
        )
