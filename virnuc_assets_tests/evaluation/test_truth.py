from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.truth import (
    check_labels,
    label_by_file,
    label_by_table,
    read_truth,
)

RECORDS = pl.DataFrame({"sample": ["s", "s", "t"], "id": ["a", "b", "c"]})


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "truth.tsv"
        path.write_bytes(text.encode())
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_truth(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_a_table_says_what_records_are(table: Callable[[str], Path]) -> None:
    path = table('note\tid\tgroup\tlabel\r\n"x\ta/1\tphage\tVirus\r\n\tb \t\tother\r\n')
    assert read_truth(path).rows() == [("a/1", True, "phage"), ("b", False, "other")]


def test_without_groups_a_class_is_one(table: Callable[[str], Path]) -> None:
    path = table("id\tlabel\na\tvirus\nb\tother")
    assert read_truth(path).rows() == [("a", True, "virus"), ("b", False, "other")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("record\tclass\na\tvirus\n", "has no column id but record, class; give"),
        ("id,label\na,virus\n", "has no column id but id,label; give a tab-separated table"),
        ("id\tlabel\n", "has no rows"),
        ("", "cannot be read as a table"),
        ("id\tlabel\na\tvirus\tx\n", "cannot be read as a table"),
        ("id\tlabel\na\tvirus\nb\t\n", "line 3 has no label"),
        ("id\tlabel\n\tvirus\n", "line 2 has no id"),
        ("id\tlabel\na\tother\nb\tphage\n", "line 3 has label 'phage'; write virus or other"),
        ("id\tlabel\na\tother\nb\tother\na\tvirus\n", "names record 'a' again on line 4"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    table: Callable[[str], Path], text: str, why: str
) -> None:
    assert refusal(table(text)).startswith(why)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.tsv").startswith("no such file")


def truth(**labels: bool) -> pl.DataFrame:
    return pl.DataFrame(
        [(name, virus, "g") for name, virus in labels.items()], orient="row"
    ).rename({"column_0": "id", "column_1": "is_virus", "column_2": "group"})


def test_records_are_labelled_in_their_order() -> None:
    labels = label_by_table(RECORDS, truth(c=True, b=False, a=True), Path("t"))
    assert labels.rows() == [("s", "a", True, "g"), ("s", "b", False, "g"), ("t", "c", True, "g")]


def test_a_record_without_a_label_is_named() -> None:
    with pytest.raises(
        InputError, match=r"^t: has no line for record 'b' \(and 1 more\) of sample"
    ):
        label_by_table(RECORDS, truth(a=True), Path("t"))


def test_a_label_without_a_record_is_named() -> None:
    with pytest.raises(InputError, match=r"^t: names record 'd', which none of the files holds"):
        label_by_table(RECORDS, truth(a=True, b=True, c=True, d=False), Path("t"))


def test_a_file_of_one_class_is_a_group() -> None:
    labels = label_by_file(RECORDS.tail(1), is_virus=False)
    assert labels.rows() == [("t", "c", False, "t")]
    assert labels.schema == label_by_table(RECORDS.head(1), truth(a=True), Path("t")).schema


def test_both_classes_are_needed() -> None:
    with pytest.raises(InputError, match=r"^all 3 records are other; give viral records too"):
        check_labels(label_by_file(RECORDS, is_virus=False))
    with pytest.raises(InputError, match=r"^all 3 records are viral; give other records too"):
        check_labels(label_by_file(RECORDS, is_virus=True))


def test_an_id_means_one_record() -> None:
    twice = pl.concat([RECORDS, RECORDS.head(1).with_columns(sample=pl.lit("u"))])
    with pytest.raises(InputError, match=r"^record 'a' is in sample s and in sample u; rename one"):
        check_labels(label_by_file(twice, is_virus=True))
