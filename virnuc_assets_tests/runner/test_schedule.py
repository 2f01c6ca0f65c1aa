"""The hand-out policy against devices that crash, break and come back in any order."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.schedule import Again, Cut, GivenUp, Schedule, SetAside, in_order

# How fast the machine is at the moment is not what is tested.
patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def blocks(*sizes, letters=10):
    made, start = [], 0
    for number, size in enumerate(sizes):
        made.append(Block(0, number, start, start + size, size * letters))
        start += size
    return made


def given_out(schedule):
    return dict(schedule.hand_out())


class World:
    """Devices that take blocks; one with a poisoned sequence kills whoever computes it.

    `bad` fails at whatever it is given. A crash may come from the block that is being prepared.
    """

    def __init__(self, sizes, poisoned, devices, bad, seed):
        self.schedule = Schedule(blocks(*sizes), 2)
        self.poisoned, self.bad = poisoned, bad
        self.random = Random(seed)
        self.has = {}
        self.away = set(devices)
        self.done, self.set_aside = [], []
        self.crashes = Counter()
        for device in devices:
            self.schedule.expect(device)

    def run(self):
        for _ in range(100_000):
            if self.schedule.is_over:
                return
            if self.away and (not any(self.has.values()) or self.random.random() < 0.3):
                self._join(self.random.choice(sorted(self.away)))
            else:
                busy = sorted(device for device, has in self.has.items() if has)
                self._go_on(self.random.choice(busy))
            self._hand_out()
        raise AssertionError("it never ends")

    def _join(self, device):
        self.away.remove(device)
        self.schedule.join(device)
        self.has[device] = []

    def _hand_out(self):
        for device, block in self.schedule.hand_out():
            self.has[device].append(block)
            assert len(self.has[device]) <= 3

    def _go_on(self, device):
        has = self.has[device]
        seen = has if self.random.random() < 0.5 else has[:1]
        if device == self.bad or any(self._is_poisoned(block) for block in seen):
            self._crash(device)
        else:
            block = has.pop(0)
            self.schedule.finish(device, block)
            self.done.extend(range(block.start, block.stop))

    def _is_poisoned(self, block):
        return any(block.start <= position < block.stop for position in self.poisoned)

    def _crash(self, device):
        self.crashes[device] += 1
        has = self.has.pop(device)
        assert self.schedule.leave(device) == tuple(has)
        verdict = self.schedule.fail(device, has[0], divisible=True)
        if isinstance(verdict, SetAside):
            self.set_aside.append(verdict.position)
        if not self.schedule.is_to_blame(device):
            self.away.add(device)
            self.schedule.expect(device)


@patiently
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    poison=st.sets(st.integers(0, 200), max_size=4),
    n_devices=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_exactly_the_poisoned_sequences_are_set_aside(sizes, poison, n_devices, seed):
    total = sum(sizes)
    poisoned = {position for position in poison if position < total}
    world = World(sizes, poisoned, [f"d{i}" for i in range(n_devices)], None, seed)
    world.run()
    assert sorted(world.set_aside) == sorted(poisoned)
    assert sorted(world.done) == sorted(set(range(total)) - poisoned)
    assert world.schedule.letters_left == 0


@patiently
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    n_devices=st.integers(2, 5),
    seed=st.integers(0, 2**32),
)
def test_a_device_that_breaks_everything_costs_no_sequence(sizes, n_devices, seed):
    devices = [f"d{i}" for i in range(n_devices)]
    world = World(sizes, set(), devices, "d0", seed)
    world.run()
    assert world.set_aside == []
    assert sorted(world.done) == list(range(sum(sizes)))


def test_longest_first_and_no_second_block_while_others_have_none():
    a, b, c = blocks(1, 3, 2)
    schedule = Schedule([a, b, c], 1)
    schedule.join("0")
    schedule.join("1")
    assert given_out(schedule) == {"0": b, "1": c}
    assert len(schedule) == 1
    schedule.finish("0", b)
    assert given_out(schedule) == {"0": a}


def test_more_blocks_to_prepare_and_to_write_while_there_are_plenty():
    schedule = Schedule(blocks(1, 1, 1, 1), 1)
    schedule.join("0")
    assert [device for device, _ in schedule.hand_out()] == ["0", "0", "0"]
    assert list(schedule.hand_out()) == []


def test_a_block_that_failed_goes_to_another_device_that_is_about_to_come():
    (block,) = blocks(4)
    schedule = Schedule([block], 1)
    schedule.join("0")
    schedule.expect("1")
    assert given_out(schedule) == {"0": block}
    schedule.leave("0")
    assert schedule.fail("0", block, divisible=True) == Again()
    schedule.join("0")
    assert given_out(schedule) == {}
    schedule.join("1")
    assert given_out(schedule) == {"1": block}


def test_a_suspect_goes_alone_and_what_a_device_has_runs_out_first():
    one, two, three = blocks(3, 2, 1)
    schedule = Schedule([one, two, three], 1)
    schedule.join("0")
    assert [block for _, block in schedule.hand_out()] == [one, two, three]
    schedule.leave("0")
    schedule.fail("0", one, divisible=True)
    schedule.join("0")
    assert given_out(schedule) == {"0": one}
    schedule.finish("0", one)
    assert [block for _, block in schedule.hand_out()] == [two, three]


def test_a_second_failure_cuts_the_block_unless_no_sequence_can_be_at_fault():
    for divisible, verdict in ((True, Cut), (False, GivenUp)):
        (block,) = blocks(5)
        schedule = Schedule([block], 1)
        schedule.join("0")
        for expected in (Again, verdict):
            list(schedule.hand_out())
            schedule.leave("0")
            found = schedule.fail("0", block, divisible)
            assert isinstance(found, expected)
            schedule.join("0")
        assert schedule.is_over == (not divisible)
    assert schedule.letters_left == 0


def test_a_named_sequence_is_left_out_at_once():
    (block,) = blocks(5)
    schedule = Schedule([block], 1)
    schedule.join("0")
    list(schedule.hand_out())
    schedule.leave("0")
    assert schedule.set_aside(block, 0) == SetAside(0)
    schedule.join("0")
    ((_, rest),) = schedule.hand_out()
    assert (rest.start, rest.stop, rest.whole) == (1, 5, False)
    assert schedule.letters_left == rest.letters


def test_what_is_left_beside_a_named_sequence_keeps_its_order():
    first, other = blocks(5, 1)
    schedule = Schedule([first, other], 1)
    schedule.join("0")
    list(schedule.hand_out())
    schedule.leave("0")
    schedule.set_aside(first, 2)
    assert schedule.failures_in_a_row == 0
    schedule.join("0")
    ranges = [(block.start, block.stop) for _, block in schedule.hand_out()]
    assert ranges == [(0, 2), (3, 5), (5, 6)]


def test_a_device_whose_failures_others_mend_is_to_blame():
    world = World([1] * 60, set(), ["d0", "d1"], "d0", seed=0)
    world.run()
    assert world.schedule.is_to_blame("d0")
    assert not world.schedule.is_to_blame("d1")
    assert 3 <= world.crashes["d0"] <= 6


def test_the_only_device_is_not_to_blame():
    schedule = Schedule(blocks(1), 1)
    schedule.join("0")
    assert not schedule.is_to_blame("0")


def shards_of(n_shards, n_blocks):
    return [
        Block(shard, number, number, number + 1, 10 * (n_blocks - number))
        for shard in range(n_shards)
        for number in range(n_blocks)
    ]


def test_shards_are_done_one_after_another_and_the_last_ones_together_longest_first():
    ordered = in_order(reversed(shards_of(6, 10)), devices=3)
    shards = [block.shard for block in ordered[:40]]
    assert shards == [shard for shard in range(4) for _ in range(10)]
    last = ordered[40:]
    assert {block.shard for block in last} == {4, 5}
    assert [block.letters for block in last] == sorted((b.letters for b in last), reverse=True)


@pytest.mark.parametrize("n_shards", [5, 6, 7])
def test_a_block_is_never_much_longer_than_the_one_before_it(n_shards):
    letters = [block.letters for block in in_order(shards_of(n_shards, 10), devices=3)]
    steps = [after - before for before, after in pairwise(letters)]
    assert max(steps) == 10


@given(
    st.integers(1, 5).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, 6))),
    st.integers(1, 9),
)
def test_the_order_has_every_block_once(shape, devices):
    made = shards_of(*shape)
    ordered = in_order(made, devices)
    assert sorted(ordered, key=made.index) == made
