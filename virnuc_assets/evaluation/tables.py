"""Reading the tab-separated tables that people bring: truth, intervals, other tools' calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from virnuc_assets.errors import InputError

VIRUS, OTHER = "virus", "other"


def read_tsv(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """The named columns of a table with a header, plain or gzip; further columns are left out.

    Returns:
        At least one row; strings without surrounding blanks, null where a cell is empty. Optional
        columns are there when the file has them.

    Raises:
        InputError: the file is missing, is no such table, lacks a column, has no row, or has an
            empty cell in a required column.
    """
    try:
        table = pl.read_csv(path, separator="\t", infer_schema=False, quote_char=None)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give a tab-separated table") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path}: cannot be read as a table ({reason}); give a tab-separated table whose "
            "lines have as many cells as its header"
        ) from error
    if missing := [name for name in required if name not in table.columns]:
        raise InputError(
            f"{path}: has no column {missing[0]} but {', '.join(table.columns)}; give a "
            f"tab-separated table with the columns {', '.join(required)}"
        )
    if not len(table):
        raise InputError(f"{path}: has no rows; give a table with at least one")
    kept = [*required, *(name for name in optional if name in table.columns)]
    cells = pl.col(kept).str.strip_chars()
    table = table.select(pl.when(cells != "").then(cells))
    for name in required:
        if table[name].null_count():
            raise InputError(
                f"{path}: line {_first_line(table[name].is_null())} has no {name}; fill it in or "
                "take the line out"
            )
    return table


def check_ids_once(path: Path, ids: pl.Series) -> None:
    """Refuse a table that names a record twice.

    Raises:
        InputError: it does.
    """
    if (again := ~ids.is_first_distinct()).any():
        raise InputError(
            f"{path}: names record {ids.filter(again)[0]!r} again on line {_first_line(again)}; "
            "leave one line a record"
        )


def as_is_virus(path: Path, labels: pl.Series) -> pl.Series:
    """Labels or calls as booleans; null stays null.

    Raises:
        InputError: one is neither virus nor other.
    """
    lower = labels.str.to_lowercase()
    if (wrong := ~lower.is_in([VIRUS, OTHER])).any():
        raise InputError(
            f"{path}: line {_first_line(wrong)} has {labels.name} {labels.filter(wrong)[0]!r}; "
            f"write {VIRUS} or {OTHER}"
        )
    return lower == VIRUS


def name_some(ids: pl.Series) -> str:
    """The first of some ids, and how many more there are."""
    more = f" (and {len(ids) - 1} more)" if len(ids) > 1 else ""
    return f"{ids[0]!r}{more}"


def _first_line(rows: pl.Series) -> int:
    """The line of the first true row, counted from 1 with the header as the first."""
    found = rows.arg_max()
    return 2 + (0 if found is None else found)
