"""Memory of a batch's means, used again."""

import threading

import numpy as np

from virnuc_assets.encoders.in_flight import ResultMemory


def test_memory_given_back_is_used_for_what_fits_into_it():
    memory = ResultMemory(3)
    first = memory.take(10)
    assert first.shape == (10, 3)
    assert first.dtype == np.float32
    memory.give_back(first)
    second = memory.take(4)
    assert second.shape == (4, 3)
    assert np.shares_memory(first, second)


def test_what_was_not_given_back_is_nobody_elses():
    memory = ResultMemory(3)
    first, second = memory.take(5), memory.take(5)
    assert not np.shares_memory(first, second)


def test_memory_that_is_too_small_is_replaced_and_what_replaced_it_is_taken_too():
    memory = ResultMemory(2)
    memory.give_back(memory.take(2))
    assert memory.take(9).shape == (9, 2)
    joined = np.zeros((7, 2), dtype=np.float32)
    memory.give_back(joined)
    assert np.shares_memory(memory.take(7), joined)


def test_a_batch_without_items_needs_none():
    memory = ResultMemory(4)
    memory.give_back(memory.take(0))
    assert memory.take(0).shape == (0, 4)


def test_threads_never_hold_the_same_memory():
    memory = ResultMemory(1)
    mixed = []

    def use(number: int) -> None:
        for round_ in range(300):
            mine = memory.take(8)
            mine.fill(number)
            if round_ % 7:
                memory.give_back(memory.take(5))
            mixed.append(bool((mine != number).any()))
            memory.give_back(mine)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(mixed)
