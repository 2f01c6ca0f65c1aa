from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.other_calls import check_known, named_files, read_calls


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "tool.tsv"
        path.write_text(text)
        return path

    return write


def test_calls_and_scores_are_read(table: Callable[[str], Path]) -> None:
    calls = read_calls(table("id\tscore\tcall\na\t0.4\tVirus\nb\t1\tother\nc\t\t\n"))
    assert calls.rows() == [("a", True, 0.4), ("b", False, 1.0)]


def test_scores_alone_call_from_one_half_on(table: Callable[[str], Path]) -> None:
    calls = read_calls(table("id\tscore\na\t0.5\nb\t4e-1\nc\t\n"))
    assert calls.rows() == [("a", True, 0.5), ("b", False, 0.4)]


def test_calls_alone_have_no_scores(table: Callable[[str], Path]) -> None:
    calls = read_calls(table("id\tcall\na\tvirus\nb\t\n"))
    assert calls.rows() == [("a", True, None)]
    assert calls.schema["score"] == pl.Float64


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name\tscore\na\t1\n", "has no column id but name, score"),
        ("id\tprobability\na\t1\n", "has neither a column call"),
        ("id\tscore\na\t1.5\n", "record 'a' has score '1.5'; give P"),
        ("id\tscore\na\tnan\n", "record 'a' has score 'nan'; give P"),
        ("id\tscore\na\thigh\n", "record 'a' has score 'high'; give P"),
        ("id\tcall\na\tphage\n", "line 2 has call 'phage'"),
        ("id\tcall\na\tvirus\na\tother\n", "names record 'a' again on line 3"),
        ("id\tcall\tscore\na\tvirus\t\n", "record 'a' has a call without a score"),
        ("id\tcall\na\t\n", "has no call at all"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    table: Callable[[str], Path], text: str, why: str
) -> None:
    path = table(text)
    with pytest.raises(InputError) as caught:
        read_calls(path)
    assert str(caught.value).startswith(f"{path}: {why}")


def test_a_record_that_is_not_evaluated_is_named(table: Callable[[str], Path]) -> None:
    calls = read_calls(table("id\tcall\na\tvirus\nb|provirus\tvirus\n"))
    check_known(Path("t"), calls, pl.Series(["b|provirus", "a", "c"]))
    with pytest.raises(InputError, match=r"^t: calls record 'b\|provirus', which none"):
        check_known(Path("t"), calls, pl.Series(["a", "b"]))


def test_a_tool_is_called_as_said_or_as_its_file() -> None:
    files = named_files(["results/one.tsv", "two=a=b.tsv"], taken="virnuc")
    assert files == {"one": Path("results/one.tsv"), "two": Path("a=b.tsv")}


@pytest.mark.parametrize(
    "arguments", [["a.tsv", "b/a.tsv"], ["virnuc.tsv"], ["virnuc=a.tsv"], ["=a.tsv"], ["a="]]
)
def test_every_tool_has_a_name_of_its_own(arguments: list[str]) -> None:
    with pytest.raises(InputError, match=f"--calls {arguments[-1]}: needs a name of its own"):
        named_files(arguments, taken="virnuc")
