"""What a person sees: a run's progress, tables of calls and of checks, warnings, failures.

On a terminal tables fit its width and progress is a bar. Elsewhere (a pipe, a log) tables have
one line a row, columns apart by blanks, and progress is a line now and then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from virnuc_assets.mini.bundled import described
from virnuc_assets.runner import events

_PLAIN_WIDTH = 10_000
_PLAIN_LINE_SECONDS = 10.0


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console


out = _console(stderr=False)
err = _console(stderr=True)


class RunFailed(Exception):
    """Shards that could not be embedded; holds what the runner said of each."""

    def __init__(self, failures: Sequence[events.Failed]) -> None:
        super().__init__(failures[0].message)
        # Shards often fail for one and the same reason.
        self.failures = list({failure.message: failure for failure in failures}.values())

    @property
    def reasons(self) -> list[str]:
        """Why, one line each."""
        return [
            failure.message
            if failure.explained
            else f"a bug of virnuc: {failure.message.strip().splitlines()[-1]}"
            for failure in self.failures
        ]


class _WarningHandler(logging.Handler):
    """Log records as the warnings a person reads; they do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


def show_logged_warnings() -> None:
    """Print what is logged as a warning or worse; call once, at the start of a process."""
    logging.basicConfig(level=logging.WARNING, handlers=[_WarningHandler()])


def follow(stream: Generator[events.Event], title: str) -> list[events.ShardDone]:
    """Show a run's progress until it ends: a bar on a terminal, plain lines otherwise.

    Leaving early (Ctrl-C) closes the stream, which ends the run.

    Returns:
        What the runner said of each finished shard.

    Raises:
        RunFailed: at least one shard could not be embedded; the rest is finished.
    """
    done: list[events.ShardDone] = []
    failures: list[events.Failed] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    next_line = 0.0
    with closing(stream), Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(escape(title), total=None, rate="starting")
        for event in stream:
            match event:
                case events.Started():
                    say(
                        f"{title}: {event.sequences} sequences, "
                        f"{event.blocks_done} of {event.blocks} blocks done before, "
                        f"on {', '.join(event.devices)}; model: {event.model}"
                    )
                    rate = "loading the model" if event.blocks_done < event.blocks else ""
                    bar.update(
                        task, total=event.sequences, completed=event.sequences_done, rate=rate
                    )
                case events.Progress():
                    rate = f"{event.tokens_per_second:,.0f} tokens/s"
                    bar.update(task, completed=event.sequences_done, rate=rate)
                    last = 0 < event.sequences == event.sequences_done
                    if not err.is_terminal and (last or time.monotonic() >= next_line):
                        next_line = time.monotonic() + _PLAIN_LINE_SECONDS
                        say(f"{title}: {event.sequences_done}/{event.sequences}, {rate}")
                case events.ShardDone():
                    done.append(event)
                case events.Warned():
                    warn(event.message)
                case events.Failed():
                    failures.append(event)
    if failures:
        raise RunFailed(failures)
    return done


def follow_each(
    stream: Generator[tuple[int, events.Event]], titles: Sequence[str]
) -> Iterator[tuple[int, RunFailed]]:
    """Show the progress of jobs that run one after the other, as `follow` does of each.

    Leaving early closes the stream.

    Args:
        stream: events, each with its job's number.
        titles: what each job is called.

    Yields:
        The failures, each with its job's number.
    """
    with closing(stream):
        for number, numbered in groupby(stream, key=itemgetter(0)):
            try:
                follow((event for _, event in numbered), titles[number])
            except RunFailed as error:
                yield number, error


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Say what goes on while it does: a spinner on a terminal, a line otherwise."""
    if err.is_terminal:
        with err.status(escape(text)):
            yield
    else:
        say(text)
        yield


def say(text: str) -> None:
    """Print a line about what goes on to standard error."""
    err.print(escape(text), soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    err.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)


def fail(message: str) -> None:
    """Print why something failed to standard error."""
    err.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)


def fail_run(error: RunFailed) -> None:
    """Print why a run failed, a line a reason; of a bug its traceback too."""
    for failure, reason in zip(error.failures, error.reasons, strict=True):
        if not failure.explained:
            say(failure.message)
        fail(reason)


def result(text: str) -> None:
    """Print a line of the result to standard output."""
    out.print(escape(text), soft_wrap=True)


def plain(text: str) -> None:
    """Print text that a program reads to standard output, as it is."""
    out.file.write(text + "\n")


def yes(value: bool) -> str:
    """A cell that says whether something is there."""
    return "yes" if value else "no"


def shown(fact: object) -> str:
    """A fact as a person reads it."""
    match fact:
        case None:
            return "not stated"
        case bool():
            return "yes" if fact else "no"
        case float():
            return f"{fact:,.3f}"
        case list() | tuple():
            return ", ".join(map(str, fact)) or "none"
        case _:
            return str(fact)


def print_calls(predictions: Path, title: str, rows: int = 12) -> None:
    """Print a sample's totals and its first `rows` records: viral ones, then by score.

    Raises:
        StoreError: there are no complete results.
    """
    from virnuc_assets.classifier import result_files

    said = result_files.read_manifest(predictions)
    counts = said["counts"]
    path = predictions / result_files.RECORDS
    top = result_files.query(
        path,
        lambda records: records.sort(
            *("is_virus", "score", "ordinal"), descending=[True, True, False], nulls_last=True
        ).head(rows),
    )
    missing = counts["n_not_embedded"]
    table(
        f"{title}: {counts['n_viral_records']} of {counts['n_records']} records viral, "
        f"{counts['n_no_open_frame']} without an open frame"
        + (f", {missing} not embedded" if missing else ""),
        ("record", "length", "call", "score", "best chunk, frame", "viral chunks"),
        (
            (
                row["id"],
                str(row["length"]),
                _call(row["is_virus"], row["status"]),
                "" if row["score"] is None else f"{row['score']:.4f}",
                _chunk_and_frame(row["id"], row["best_frame"]),
                f"{row['n_viral_chunks']} of {row['n_called_chunks']}",
            )
            for row in top.iter_rows(named=True)
        ),
        right=("length", "score", "viral chunks"),
    )
    if counts["n_records"] > rows:
        result(f"… and {counts['n_records'] - rows} more records in {path}")
    if unscored := counts["n_unscored_frames"]:
        warn(
            f"{title}: {unscored} frames have no score, because their nucleotides or protein "
            f"could not be embedded and were set aside; {missing} records have no other frame and "
            "so no call"
        )
    result(f"model: {described(said['model'])}")


def files_made(paths: Mapping[str, Path]) -> None:
    """Say where things were written, one line each."""
    width = max(map(len, paths))
    for what, path in paths.items():
        result(f"{what + ':':<{width + 1}} {path}")


def table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Sequence[str] = (),
) -> None:
    """Print a table of plain strings; columns named in `right` are justified so."""
    drawn = Table(box=box.ROUNDED if out.is_terminal else None, pad_edge=out.is_terminal)
    for column in header:
        justify = "right" if column in right else "left"
        drawn.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    out.print(f"[bold]{escape(title)}[/]", soft_wrap=True)
    out.print(drawn)


def _call(is_virus: bool | None, status: str) -> str:
    if is_virus is None:
        return status.replace("_", " ")
    return "virus" if is_virus else "other"


def _chunk_and_frame(record: str, name: str | None) -> str:
    """`84 F3` of the frame name `RECORD_chunk_84F3`."""
    if name is None:
        return ""
    short = name.removeprefix(f"{record}_chunk_")
    return f"{short[:-2]} {short[-2:]}"
