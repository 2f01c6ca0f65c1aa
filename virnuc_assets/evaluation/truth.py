"""What the records to evaluate on truly are: from a table, or by the file that they come from."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.tables import as_is_virus, check_ids_once, name_some, read_tsv


def read_truth(path: Path) -> pl.DataFrame:
    """Read a truth table: columns id, label (virus or other) and, where it has it, group.

    Returns:
        One row a record: id, is_virus, group (the label where the table gives no group).

    Raises:
        InputError: the table cannot be used.
    """
    table = read_tsv(path, ("id", "label"), ("group",))
    check_ids_once(path, table["id"])
    group = pl.coalesce("group", "label") if "group" in table.columns else pl.col("label")
    return table.select("id", as_is_virus(path, table["label"]).alias("is_virus"), group=group)


def label_by_table(records: pl.DataFrame, truth: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Label records by the table that `read_truth` read from `path`.

    Args:
        records: sample and id of every record of the files that the table is about.

    Returns:
        The records in their order: sample, id, is_virus, group.

    Raises:
        InputError: a record is not in the table, or one of the table is in none of the files.
    """
    unlabelled = records.join(truth, on="id", how="anti")
    if len(unlabelled):
        raise InputError(
            f"{path}: has no line for record {name_some(unlabelled['id'])} of sample "
            f"{unlabelled['sample'][0]}; add its label, or take the record out of the file"
        )
    strange = truth.join(records, on="id", how="anti")
    if len(strange):
        raise InputError(
            f"{path}: names record {name_some(strange['id'])}, which none of the files holds; give "
            "its file too, or take the line out"
        )
    return records.join(truth, on="id", how="left", maintain_order="left").select(
        "sample", "id", "is_virus", "group"
    )


def label_by_file(records: pl.DataFrame, is_virus: bool) -> pl.DataFrame:
    """Label all records of wholly viral or wholly other files; a sample is a group.

    Args:
        records: sample and id of every record.
    """
    return records.select("sample", "id", is_virus=pl.lit(is_virus), group=pl.col("sample"))


def check_labels(labels: pl.DataFrame) -> None:
    """Refuse labels that nothing can be measured with.

    Raises:
        InputError: an id is there twice, or all records are of one class.
    """
    again = labels.filter(~pl.col("id").is_first_distinct())
    if len(again):
        first = labels.filter(pl.col("id") == again["id"][0])["sample"][0]
        raise InputError(
            f"record {again['id'][0]!r} is in sample {first} and in sample {again['sample'][0]}; "
            "rename one, so that an id means one record"
        )
    classes = labels["is_virus"].unique()
    if len(classes) < 2:
        there, missing = ("viral", "other") if classes[0] else ("other", "viral")
        raise InputError(
            f"all {len(labels)} records are {there}; give {missing} records too, because no metric "
            "is defined without both"
        )
