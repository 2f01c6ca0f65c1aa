"""Parts never share a genome, and are drawn by class and group."""

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.errors import InputError
from virnuc_assets.training.labelled import LabelledRecord
from virnuc_assets.training.splits import complete_splits

FILE = Path("f.fa")


def record(number, genome, is_virus=True, group="g", split=None):
    return LabelledRecord(f"r{number}", FILE, is_virus, group, genome, split)


def genomes(n, is_virus, group, split=None, records=2):
    """Records of n genomes of one class and group."""
    return [
        record(number, f"{group}-{number // records}", is_virus, group, split)
        for number in range(n * records)
    ]


def parts_of(records):
    parts = defaultdict(set)
    for one in records:
        parts[one.genome].add(one.split)
    return parts


@given(
    st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.sampled_from("abc")), max_size=120),
    st.integers(0, 5),
)
def test_a_genome_is_in_one_part(drawn, seed):
    records = genomes(4, True, "phage") + genomes(4, False, "bacteria")
    records += [record(n, f"x{g}", virus, group) for n, (g, virus, group) in enumerate(drawn)]
    completed = complete_splits(records, seed)
    assert all(len(parts) == 1 for parts in parts_of(completed).values())
    assert [one.record_id for one in completed] == [one.record_id for one in records]


def test_fifteen_per_cent_of_each_groups_genomes_are_drawn_for_a_part():
    records = genomes(40, True, "phage") + genomes(100, False, "bacteria") + genomes(3, False, "a")
    counts = defaultdict(int)
    for genome, (part,) in parts_of(complete_splits(records, 0)).items():
        counts[genome.split("-")[0], part] += 1
    assert counts == {
        ("phage", "train"): 28,
        ("phage", "validation"): 6,
        ("phage", "test"): 6,
        ("bacteria", "train"): 70,
        ("bacteria", "validation"): 15,
        ("bacteria", "test"): 15,
        ("a", "train"): 1,
        ("a", "validation"): 1,
        ("a", "test"): 1,
    }


def test_a_group_of_too_few_genomes_is_trained_on():
    records = genomes(9, True, "phage") + genomes(9, False, "bacteria") + genomes(2, False, "few")
    completed = complete_splits(records, 0)
    assert {one.split for one in completed if one.group == "few"} == {"train"}


def test_given_parts_are_kept_and_only_the_missing_one_is_drawn():
    records = genomes(9, True, "phage", "train") + genomes(9, False, "bacteria")
    records += genomes(2, True, "tested", "test") + genomes(2, False, "tested too", "test")
    completed = complete_splits(records, 0)
    assert [one.split for one in completed[36:]] == ["test"] * 8
    assert {one.split for one in completed[:36]} == {"train", "validation"}


def test_the_draw_follows_the_seed_and_not_the_order():
    records = genomes(30, True, "phage") + genomes(30, False, "bacteria")
    first = parts_of(complete_splits(records, 1))
    assert parts_of(complete_splits(records[::-1], 1)) == first
    assert parts_of(complete_splits(records, 2)) != first


def test_a_genome_given_two_parts_is_refused():
    records = [record(1, "G", split="train"), record(2, "G", split="test")]
    with pytest.raises(InputError, match=r"record r2 .* 'test' and r1 of the same genome \(G\)"):
        complete_splits(records, 0)


def test_a_part_without_a_class_is_refused():
    records = genomes(9, True, "phage") + genomes(1, False, "bacteria")
    with pytest.raises(InputError, match=r"f\.fa: .* the test part has no other; give more genom"):
        complete_splits(records, 0)
