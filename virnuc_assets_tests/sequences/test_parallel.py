"""Work over threads comes back in order, is bounded, and fails in its turn."""

from __future__ import annotations

import threading

import pytest

from virnuc_assets.sequences.parallel import ordered_map, usable_cores


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_are_in_the_order_of_items(threads):
    assert list(ordered_map(lambda item: item**2, range(50), threads)) == [i**2 for i in range(50)]


def test_items_are_taken_a_few_ahead_of_results():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = ordered_map(str, items(), 2)
    assert next(results) == "0"
    assert len(taken) == 3
    results.close()


def test_the_first_failure_is_raised_in_its_turn():
    begun = threading.Event()

    def work(item):
        if item == 1:
            begun.wait(10)
            raise ValueError("one")
        if item == 2:
            begun.set()
            raise ValueError("two")
        return item

    results = ordered_map(work, range(100), 3)
    assert next(results) == 0
    with pytest.raises(ValueError, match="one"):
        next(results)


def test_there_is_a_core_to_use():
    assert usable_cores() >= 1
