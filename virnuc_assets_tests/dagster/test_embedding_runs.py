"""Runs of many partitions in place of runs of one each."""

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.automation import EMBEDDINGS, embedding_sensor
from virnuc_assets.embedding_runs import TAGS, merge
from virnuc_assets.partitions import N_SHARDS, RANGE_END, RANGE_START, sample_of
from virnuc_assets.sample_batches import MOST_BYTES, MOST_SAMPLES
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.dagster.stand_ins import definitions

ASSETS = [dg.AssetKey(name) for name in EMBEDDINGS]
NAMES = ["b", "c", "a", "e", "d"]
ORDER = [f"{name}|{shard}" for name in NAMES for shard in range(N_SHARDS)]


def merged(keys, sizes=None, order=ORDER, assets=ASSETS):
    """The ranges that requests for `keys` become, as pairs of first and last."""
    requests = [dg.RunRequest(asset_selection=assets, partition_key=key) for key in keys]
    runs = list(merge(requests, order, lambda name: (sizes or {}).get(name, 1)))
    assert all(set(run.asset_selection) == set(assets) for run in runs)
    assert all(TAGS.items() <= run.tags.items() for run in runs)
    return [(run.tags[RANGE_START], run.tags[RANGE_END]) for run in runs]


def whole(*names):
    return [f"{name}|{shard}" for name in names for shard in range(N_SHARDS)]


LAST = N_SHARDS - 1


def test_neighbours_are_one_run():
    assert merged(whole("b", "c", "a")) == [("b|0", f"a|{LAST}")]


def test_a_range_never_holds_what_was_not_asked_for():
    assert merged(whole("b", "a")) == [("b|0", f"b|{LAST}"), ("a|0", f"a|{LAST}")]
    assert merged([*whole("b")[1:], *whole("c")]) == [("b|1", f"c|{LAST}")]
    assert merged([*whole("b")[:1], *whole("c")]) == [("b|0", "b|0"), ("c|0", f"c|{LAST}")]


def test_a_large_sample_has_a_run_of_its_own():
    sizes = {"c": MOST_BYTES + 1}
    alone = ("c|0", f"c|{LAST}")
    assert merged(whole(*NAMES), sizes) == [("b|0", f"b|{LAST}"), alone, ("a|0", f"d|{LAST}")]


def test_a_run_has_so_many_small_samples_at_most():
    names = [f"s{number}" for number in range(MOST_SAMPLES + 1)]
    runs = merged(whole(*names), order=whole(*names))
    assert runs == [("s0|0", f"{names[-2]}|{LAST}"), (f"{names[-1]}|0", f"{names[-1]}|{LAST}")]


def test_what_one_encoder_lacks_is_not_asked_of_the_other():
    esm2, dnabert_s = ASSETS
    requests = [
        dg.RunRequest(asset_selection=[dnabert_s, esm2], partition_key="b|0"),
        dg.RunRequest(asset_selection=[esm2], partition_key="b|1"),
    ]
    runs = {
        tuple(sorted(run.asset_selection)): (run.tags[RANGE_START], run.tags[RANGE_END])
        for run in merge(requests, ORDER, lambda name: 1)
    }
    assert runs == {(dnabert_s, esm2): ("b|0", "b|0"), (esm2,): ("b|1", "b|1")}


@given(st.sets(st.sampled_from(ORDER)), st.dictionaries(st.sampled_from(NAMES), st.floats(0, 2)))
def test_every_partition_is_in_one_run_and_no_run_is_too_large(keys, sizes):
    sizes = {name: share * MOST_BYTES for name, share in sizes.items()}
    found = []
    for first, last in merged(keys, sizes):
        own = ORDER[ORDER.index(first) : ORDER.index(last) + 1]
        names = {sample_of(key) for key in own}
        assert len(names) == 1 or sum(sizes.get(name, 1) for name in names) <= MOST_BYTES
        found += own
    assert sorted(found) == sorted(keys)


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    monkeypatch.setenv("VIRNUC_STORE", str(tmp_path / "store"))
    with dg.DagsterInstance.ephemeral() as instance:
        deployment = Deployment(tmp_path, instance)
        deployment.defs = definitions(deployment.layout.root, sensors=[embedding_sensor])
        deployment.observe()
        yield deployment


def tick(deployment, cursor=None):
    """A tick of the sensor as the code server evaluates it."""
    repository = deployment.defs.get_repository_def()
    context = dg.build_sensor_context(
        instance=deployment.instance, cursor=cursor, repository_def=repository
    )
    return repository.get_sensor_def(embedding_sensor.name).evaluate_tick(context)


def test_a_tick_asks_for_small_samples_by_one_run_and_for_a_large_one_by_its_own(deployment):
    cursor = tick(deployment).cursor
    for name in ("s", "t", "large"):
        fasta = deployment.add(name)
        deployment.index(name)
    with fasta.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    found = tick(deployment, cursor)
    ranges = [(run.tags[RANGE_START], run.tags[RANGE_END]) for run in found.run_requests]
    assert ranges == [("s|0", f"t|{LAST}"), ("large|0", f"large|{LAST}")]
    assert all(set(run.asset_selection) == set(ASSETS) for run in found.run_requests)
    assert {one.key for one in found.automation_condition_evaluations} == set(ASSETS)
    assert not tick(deployment, found.cursor).run_requests


def test_a_sample_whose_file_is_gone_has_a_run_of_its_own(deployment):
    """Which says so."""
    cursor = tick(deployment).cursor
    for name in ("s", "t"):
        fasta = deployment.add(name)
        deployment.index(name)
    fasta.unlink()
    assert len(tick(deployment, cursor).run_requests) == 2
