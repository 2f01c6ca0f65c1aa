"""`virnuc compare`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console

_SHOWN = 10
_WORDS = {
    "items": "in both",
    "only_first": "in the first alone",
    "only_second": "in the second alone",
    "both_virus": "virus in both",
    "only_first_virus": "virus in the first alone",
    "only_second_virus": "virus in the second alone",
    "both_other": "other in both",
    "called_by_one": "called by one alone",
    "same_call": "same call",
    "kappa": "Cohen's kappa",
    "difference_median": "scores apart, median",
    "difference_99_percent": "scores apart, 99 % within",
    "difference_largest": "scores apart, at most",
    "correlation": "scores' correlation",
}


def compare(
    first: Annotated[Path, typer.Argument(help="Results, or VirNucPro's prediction_results.txt.")],
    second: Annotated[Path, typer.Argument(help="The same of another run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far the calls and scores of two results agree."""
    from virnuc_assets import comparison

    results = comparison.read_result(first), comparison.read_result(second)
    levels = comparison.compare(*results)
    apart = comparison.disagreements(*results, _SHOWN)
    if as_json:
        content = {level.level: dataclasses.asdict(level) for level in levels}
        console.plain(json.dumps(content, indent=2))
        return
    values = [dataclasses.asdict(level) for level in levels]
    console.table(
        f"{first} and {second}",
        ("", *(level.level for level in levels)),
        (
            (words, *("–" if of[name] is None else console.shown(of[name]) for of in values))
            for name, words in _WORDS.items()
        ),
        right=tuple(level.level for level in levels),
    )
    if len(apart):
        console.table(
            "records called differently, the furthest apart first",
            ("record", "first", "second"),
            (
                (
                    row["id"],
                    f"{_call(row['call'])} {row['score']:.4f}",
                    f"{_call(row['call_second'])} {row['score_second']:.4f}",
                )
                for row in apart.iter_rows(named=True)
            ),
        )


def _call(is_virus: bool) -> str:
    return "virus" if is_virus else "other"
