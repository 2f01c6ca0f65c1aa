"""Agreement of two results, against a plain count."""

import json
from math import isclose

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from virnuc_assets.cli.main import app
from virnuc_assets.comparison import agreement, compare, disagreements, read_result
from virnuc_assets.errors import InputError

HEADER = "Sequence_ID\tPrediction\tscore1\tscore2\n"
SCHEMA = {"key": pl.String, "call": pl.Boolean, "score": pl.Float64}

item = st.one_of(st.none(), st.tuples(st.booleans(), st.floats(0, 1)))
results = st.dictionaries(st.sampled_from("abcdefghij"), item)


def table(items):
    rows = [(key, *(value or (None, None))) for key, value in items.items()]
    return pl.DataFrame(rows, SCHEMA, orient="row")


@given(results, results)
def test_counts_are_those_of_a_plain_loop(first, second):
    found = agreement("x", table(first), table(second))
    both = first.keys() & second.keys()
    pairs = [(first[key], second[key]) for key in both if first[key] and second[key]]
    calls = [(a[0], b[0]) for a, b in pairs]
    assert found.items == len(both)
    assert (found.only_first, found.only_second) == (
        len(first) - len(both),
        len(second) - len(both),
    )
    assert found.both_virus == calls.count((True, True))
    assert found.only_first_virus == calls.count((True, False))
    assert found.only_second_virus == calls.count((False, True))
    assert found.both_other == calls.count((False, False))
    assert found.called_by_one == sum((first[key] is None) != (second[key] is None) for key in both)
    if not calls:
        assert (found.same_call, found.kappa, found.difference_largest) == (None, None, None)
        return
    assert isclose(found.same_call, sum(a == b for a, b in calls) / len(calls))
    assert found.difference_largest == max(abs(a[1] - b[1]) for a, b in pairs)
    if len({call for pair in calls for call in pair}) == 2:
        assert isclose(found.kappa, cohen_kappa_score(*zip(*calls, strict=True)), abs_tol=1e-12)
    else:
        assert found.kappa is None


@pytest.fixture
def two(tmp_path):
    """Two of the original's tables: a record called differently, and one that the second lacks."""
    paths = []
    for name, virus in (("first", (0.9, 0.8, 0.2)), ("second", (0.7, 0.1))):
        lines = [f"r{i}_chunk_1F1\tvirus\t{1 - p}\t{p}\n" for i, p in enumerate(virus)]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "prediction_results.txt").write_text(HEADER + "".join(lines))
        paths.append(folder)
    return paths


def test_frames_and_records_are_compared_by_name(two):
    frames, records = compare(*map(read_result, two))
    assert (frames.items, frames.only_first, frames.only_first_virus) == (2, 1, 1)
    assert (records.items, records.both_virus, records.same_call) == (2, 1, 0.5)
    apart = disagreements(*map(read_result, two), most=5)
    assert apart["id"].to_list() == ["r1"]


def test_a_result_agrees_with_itself(two):
    for level in compare(*[read_result(two[0])] * 2):
        assert (level.same_call, level.kappa, level.difference_largest) == (1, 1, 0)
        assert isclose(level.correlation, 1)


def test_the_command_prints_both_levels_and_the_records_apart(two, capsys):
    app(["compare", *map(str, two)], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "Cohen's kappa" in printed
    assert "virus 0.8000" in printed
    app(["compare", "--json", *map(str, two)], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["records"]["items"] == 2


def test_a_path_without_results_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no results"):
        read_result(tmp_path)
