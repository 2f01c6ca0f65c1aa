"""Calls of other tools, read from a table, to be measured on the same records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.tables import as_is_virus, check_ids_once, name_some, read_tsv


def named_files(arguments: Sequence[str], taken: str) -> dict[str, Path]:
    """Files by tool: of `name=path`, or of a path alone, whose stem is then the name.

    Args:
        arguments: one a tool.
        taken: a name that none may have, because our own rows have it.

    Raises:
        InputError: a name is empty or not one tool's alone.
    """
    files: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals:
            name, path = Path(argument).stem, argument
        if not name or not path or name == taken or name in files:
            raise InputError(
                f"--calls {argument}: needs a name of its own that is not {taken}; write NAME=FILE"
            )
        files[name] = Path(path)
    return files


def read_calls(path: Path) -> pl.DataFrame:
    """Read a tool's calls: columns id and call (virus or other), or score, or both.

    A score is the tool's P(virus), from 0 to 1. Where there is no column call, a record is called
    virus from a score of one half on. An empty cell is no call, as is a record that is not listed.

    Returns:
        id, call (bool) and score (float64; all null where the file has no such column), one row a
        record with a call.

    Raises:
        InputError: the table cannot be used.
    """
    table = read_tsv(path, ("id",), ("call", "score"))
    check_ids_once(path, table["id"])
    if table.width == 1:
        raise InputError(
            f"{path}: has neither a column call (virus or other) nor a column score (P(virus) from "
            "0 to 1); name one so"
        )
    score = pl.Series("score", [None] * len(table), pl.Float64)
    if "score" in table.columns:
        score = table["score"].cast(pl.Float64, strict=False)
        # A score that is not a number is in no interval either.
        wrong = table["score"].is_not_null() & ~score.is_between(0, 1).fill_null(False)
        if wrong.any():
            record, text = table.filter(wrong).select("id", "score").row(0)
            raise InputError(
                f"{path}: record {record!r} has score {text!r}; give P(virus) as a number from 0 "
                "to 1"
            )
    call = as_is_virus(path, table["call"]) if "call" in table.columns else score >= 0.5
    if "call" in table.columns and "score" in table.columns:
        half = table.filter(call.is_null() != score.is_null())
        if len(half):
            raise InputError(
                f"{path}: record {name_some(half['id'])} has a call without a score or a score "
                "without a call; give both or neither"
            )
    found = table.select("id", call.alias("call"), score).drop_nulls("call")
    if not len(found):
        raise InputError(f"{path}: has no call at all; give at least one record's call or score")
    return found


def check_known(path: Path, calls: pl.DataFrame, ids: pl.Series) -> None:
    """Refuse calls of records that are not evaluated.

    Raises:
        InputError: there is one.
    """
    strange = calls.filter(~pl.col("id").is_in(ids.implode()))
    if len(strange):
        raise InputError(
            f"{path}: calls record {name_some(strange['id'])}, which none of the files holds; use "
            "the records' own ids, or take the line out"
        )
