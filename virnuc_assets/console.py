"""What a person sees in a terminal: progress of a run, tables of calls and of checks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from virnuc_assets.runner import events

out = Console()
err = Console(stderr=True)
_PLAIN_LINE_SECONDS = 10.0


class RunFailed(Exception):
    """Shards that could not be embedded; holds what the runner said of each."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(messages[0])
        self.messages = list(messages)


def follow(stream: Iterable[events.Event], title: str) -> list[events.ShardDone]:
    """Show a run's progress until it ends: a bar on a terminal, plain lines otherwise.

    Returns:
        What the runner said of each finished shard.

    Raises:
        RunFailed: at least one shard could not be embedded; the rest is finished.
    """
    done: list[events.ShardDone] = []
    failures: list[str] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    next_line = 0.0
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=None, rate="")
        for event in stream:
            match event:
                case events.Started():
                    _line(
                        f"{title}: {event.sequences} sequences, {event.blocks} blocks "
                        f"({event.blocks_done} done before) on {', '.join(event.devices)}, "
                        f"model {event.model}"
                    )
                    bar.update(task, total=event.sequences, completed=event.sequences_done)
                case events.Progress():
                    rate = f"{event.tokens_per_second:,.0f} tokens/s"
                    bar.update(task, completed=event.sequences_done, rate=rate)
                    if not err.is_terminal and time.monotonic() >= next_line:
                        next_line = time.monotonic() + _PLAIN_LINE_SECONDS
                        _line(f"{title}: {event.sequences_done}/{event.sequences}, {rate}")
                case events.ShardDone():
                    done.append(event)
                case events.Warned():
                    warn(event.message)
                case events.Failed():
                    failures.append(event.message)
    if failures:
        raise RunFailed(failures)
    return done


def warn(message: str) -> None:
    """Print a warning to standard error."""
    err.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)


def fail(message: str) -> None:
    """Print why something failed to standard error."""
    err.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)


def print_calls(predictions: Path, title: str, rows: int = 12) -> None:
    """Print a sample's calls: its totals, and its records with the highest virus scores."""
    records = pl.read_parquet(predictions / "records.parquet")
    model = records["model"][0]
    viral = int(records["is_virus"].sum())
    uncalled = int((records["status"] == "no_open_frame").sum())
    table = Table(
        title=f"{title}: {viral} of {len(records)} records viral, {uncalled} without an open frame",
        caption=f"model: {model}",
        caption_style="bold",
    )
    for column, justify in (
        ("record", "left"),
        ("length", "right"),
        ("call", "left"),
        ("score", "right"),
        ("best frame", "left"),
        ("viral chunks", "right"),
    ):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    top = records.sort("best_score", descending=True, nulls_last=True, maintain_order=True)
    for row in top.head(rows).iter_rows(named=True):
        score = "" if row["best_score"] is None else f"{row['best_score']:.4f}"
        table.add_row(
            escape(row["id"]),
            str(row["length"]),
            _call(row["status"], row["is_virus"]),
            score,
            row["best_frame"] or "",
            f"{row['n_viral_chunks']}/{row['n_chunks']}",
        )
    if len(records) > rows:
        table.add_row(f"… and {len(records) - rows} more", "", "", "", "", "")
    out.print(table)


def files_made(paths: Mapping[str, Path]) -> None:
    """Say where things were written, one line each."""
    width = max(map(len, paths))
    for what, path in paths.items():
        out.print(f"{what + ':':<{width + 1}} {path}", highlight=False, soft_wrap=True)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of plain strings."""
    drawn = Table(title=title)
    for column in header:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    out.print(drawn)


def _call(status: str, is_virus: bool) -> str:
    if status != "called":
        return status
    return "virus" if is_virus else "other"


def _line(text: str) -> None:
    err.print(escape(text), soft_wrap=True, highlight=False)
