"""Comparisons with float32 beside the shards: what was refused stays refused."""

from types import SimpleNamespace

import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.store.agreement import (
    AgreementRecord,
    agreement_of,
    refuse_what_disagrees,
    write_agreement,
)


@pytest.fixture
def shards(tmp_path):
    return [
        SimpleNamespace(path=tmp_path / f"shard-0{n}-of-02.h5", checksum=f"c{n}") for n in (0, 1)
    ]


def record(shard, passed, checksum=None):
    return AgreementRecord(
        int(shard.checksum[1]),
        checksum or shard.checksum,
        "float16",
        "H200",
        passed,
        8,
        0.5,
        0.9,
        0.999,
    )


def test_one_shard_that_agrees_does_not_excuse_another(shards):
    bad, good = shards
    write_agreement(bad.path, record(bad, passed=False))
    write_agreement(good.path, record(good, passed=True))
    with pytest.raises(StoreError, match=r"shard-00-of-02\.h5: does not agree with float32"):
        refuse_what_disagrees(shards)
    refuse_what_disagrees([good])


def test_of_a_shard_that_was_made_again_an_old_record_says_nothing(shards):
    bad, _ = shards
    write_agreement(bad.path, record(bad, passed=False, checksum="before"))
    assert agreement_of(bad) is None
    refuse_what_disagrees(shards)


def test_a_shard_that_was_never_compared_is_not_refused(shards):
    refuse_what_disagrees(shards)
