"""A worker's three stages overlap, keep order, and tell whose fault a failure is."""

from __future__ import annotations

import time
from queue import Queue

import pytest

from virnuc_assets.runner.pipeline import BlockError, Pipeline
from virnuc_assets.runner.plan import Block

BLOCKS = [Block(0, number, number, number + 1, 1) for number in range(6)]


class Stages:
    """Stages that note what they do and fail where they are told to."""

    def __init__(self, fail=None, at=None):
        self.fail, self.at = fail, at
        self.blocks = Queue()
        self.published = []

    def prepare(self, block):
        if (self.fail, block.block) == ("prepare", self.at):
            raise ValueError("prepare")
        return block.block

    def compute(self, batches):
        under_way = []
        for batch in batches:
            if batch is not None:
                under_way.append(batch)
            # As a device does: a batch is finished once the next is begun or there is none.
            while len(under_way) > (batch is not None):
                if (self.fail, under_way[0]) == ("compute", self.at):
                    raise ValueError("compute")
                yield under_way.pop(0) * 10
        yield from (batch * 10 for batch in under_way)

    def publish(self, block, result, seconds):
        if (self.fail, block.block) == ("publish", self.at):
            raise ValueError("publish")
        assert seconds >= 0
        self.published.append((block.block, result))

    def run(self, blocks=(*BLOCKS, None)):
        for block in blocks:
            self.blocks.put(block)
        Pipeline(self.blocks.get, self.prepare, self.compute, self.publish).run()


def test_blocks_are_published_in_order():
    stages = Stages()
    stages.run()
    assert stages.published == [(number, 10 * number) for number in range(6)]


def test_no_blocks():
    stages = Stages()
    stages.run([None])
    assert stages.published == []


@pytest.mark.parametrize("stage", ["prepare", "compute", "publish"])
@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_failure_names_its_block_and_those_before_it_are_published(stage, at):
    stages = Stages(stage, at)
    with pytest.raises(BlockError) as caught:
        stages.run()
    assert caught.value.block == BLOCKS[at]
    assert str(caught.value.__cause__) == stage
    finished = [number for number, _ in stages.published]
    assert finished == list(range(len(finished)))
    # One that was still on its way through the device when a later one could not be prepared.
    assert at - 1 <= len(finished) <= (at + 1 if stage == "publish" else at)


def test_a_block_does_not_wait_for_the_next():
    """The next may come only once this one is published: nothing may be held back for it."""
    stages = Stages()
    given = iter([BLOCKS[0], BLOCKS[1], None])

    def patient():
        block = next(given)
        while block == BLOCKS[1] and not stages.published:
            time.sleep(0.01)
        return block

    Pipeline(patient, stages.prepare, stages.compute, stages.publish).run()
    assert stages.published == [(0, 0), (1, 10)]


def test_a_lost_coordinator_ends_it_after_what_is_under_way():
    stages = Stages()
    given = iter(BLOCKS[:2])

    def receive():
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    Pipeline(receive, stages.prepare, stages.compute, stages.publish).run()
    assert [number for number, _ in stages.published] == [0, 1]


def test_a_block_that_cannot_be_written_is_told_of_though_no_other_comes():
    stages = Stages(fail="publish", at=0)
    with pytest.raises(BlockError) as caught:
        stages.run(blocks=BLOCKS[:1])
    assert caught.value.block == BLOCKS[0]
