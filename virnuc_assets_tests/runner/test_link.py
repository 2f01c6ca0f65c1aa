"""Signs of life: when a worker counts as hung."""

from __future__ import annotations

import pytest

from virnuc_assets.runner.link import Watch


def first_complaint(watch, signs, seconds, step=1.0):
    """Look every `step` seconds; the time of the first complaint, and what it is."""
    for i in range(int(seconds / step) + 1):
        if why := watch.look(1000 + i * step, *signs(i)):
            return i * step, why
    return None


def alive(i):
    return float(i), 0.0


def silent(i):
    return 0.0, 0.0


def test_a_ready_worker_is_hung_after_its_silence():
    watch = Watch(silence=30, stall=300, ready=True)
    assert first_complaint(watch, silent, 100) == (31, "gave no sign of life for 31 s")


def test_one_that_starts_has_longer():
    assert first_complaint(Watch(silence=30, stall=300), silent, 119) is None


def test_one_that_starts_or_waits_needs_to_finish_nothing():
    assert first_complaint(Watch(30, 300), alive, 5000) is None
    assert first_complaint(Watch(30, 300, ready=True), alive, 5000) is None


def test_one_with_work_that_gets_no_pack_done_is_hung():
    watch = Watch(30, 300, ready=True, in_hand=1)
    assert first_complaint(watch, alive, 1000) == (301, "finished no pack for 301 s")


@pytest.mark.parametrize("every", [1, 100, 299])
def test_packs_now_and_then_are_enough(every):
    watch = Watch(30, 300, ready=True, in_hand=1)
    assert first_complaint(watch, lambda i: (float(i), float(i // every)), 3000) is None


def test_a_new_block_begins_a_new_wait():
    watch = Watch(30, 300, ready=True, in_hand=1)
    assert first_complaint(watch, alive, 299) is None
    watch.moved()
    assert first_complaint(watch, lambda i: (1000.0 + i, 0.0), 250) is None


def test_a_coordinator_that_was_away_puts_nothing_down_to_its_workers():
    watch = Watch(silence=30, stall=300, ready=True)
    assert first_complaint(watch, silent, 600, step=100) is None
