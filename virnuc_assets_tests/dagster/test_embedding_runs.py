"""Runs of many partitions in place of runs of one each."""

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.automation import EMBEDDINGS, embedding_sensor
from virnuc_assets.embedding_runs import TAGS, merge
from virnuc_assets.partitions import N_SHARDS, RANGE_END, RANGE_START, sample_of, sample_shards
from virnuc_assets.sample_batches import MOST_BYTES, MOST_SAMPLES, batches
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.dagster.stand_ins import definitions

ASSETS = [dg.AssetKey(name) for name in EMBEDDINGS]
NAMES = ["b", "c", "a", "e", "d"]
LAST = N_SHARDS - 1


@pytest.fixture(scope="module")
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("sample", NAMES)
        yield instance


def merged(keys, sizes=None, names=NAMES):
    """The runs that requests for single partitions become."""
    requests = [dg.RunRequest(asset_selection=ASSETS, partition_key=key) for key in keys]
    place = {name: number for number, name in enumerate(names)}
    runs = list(merge(requests, place, lambda name: (sizes or {}).get(name, 1)))
    assert all(set(run.asset_selection) == set(ASSETS) for run in runs)
    assert all(TAGS.items() <= run.tags.items() for run in runs)
    return runs


def ends(runs):
    return [(run.tags[RANGE_START], run.tags[RANGE_END]) for run in runs]


def partitions_of(run, instance):
    """What Dagster takes a run's range for."""
    ((first, last),) = ends([run])
    return sample_shards.get_partition_keys_in_range(
        dg.PartitionKeyRange(first, last), dynamic_partitions_store=instance
    )


def whole(*names):
    return [f"{name}|{shard}" for name in names for shard in range(N_SHARDS)]


def test_neighbours_are_one_run():
    assert ends(merged(whole("b", "c", "a"))) == [("b|0", f"a|{LAST}")]


def test_who_is_not_a_neighbour_has_another():
    assert ends(merged(whole("b", "a"))) == [("b|0", f"b|{LAST}"), ("a|0", f"a|{LAST}")]


def test_samples_that_lack_other_shards_have_others():
    lacking = [*whole("b")[1:], *whole("c", "a")]
    assert ends(merged(lacking)) == [("c|0", f"a|{LAST}"), ("b|1", f"b|{LAST}")]


def test_samples_that_are_gone_are_left_out():
    assert ends(merged(whole("b", "gone"))) == [("b|0", f"b|{LAST}")]


def test_a_large_sample_has_a_run_of_its_own():
    sizes = {"c": MOST_BYTES + 1}
    alone = ("c|0", f"c|{LAST}")
    assert ends(merged(whole(*NAMES), sizes)) == [("b|0", f"b|{LAST}"), alone, ("a|0", f"d|{LAST}")]


def test_a_run_has_so_many_small_samples_at_most():
    names = [f"s{number}" for number in range(MOST_SAMPLES + 1)]
    runs = ends(merged(whole(*names), names=names))
    assert runs == [("s0|0", f"{names[-2]}|{LAST}"), (f"{names[-1]}|0", f"{names[-1]}|{LAST}")]


def test_what_one_encoder_lacks_is_not_asked_of_the_other():
    esm2, dnabert_s = ASSETS
    requests = [
        dg.RunRequest(asset_selection=[dnabert_s, esm2], partition_key="b|0"),
        dg.RunRequest(asset_selection=[esm2], partition_key="b|1"),
    ]
    runs = {tuple(sorted(run.asset_selection)): ends([run]) for run in merge(
        requests, {"b": 0}, lambda name: 1
    )}  # fmt: skip
    assert runs == {(dnabert_s, esm2): [("b|0", "b|0")], (esm2,): [("b|1", "b|1")]}


def test_sizes_are_asked_for_until_there_is_enough():
    asked = []
    list(batches(NAMES, lambda name: asked.append(name) or MOST_BYTES + 1))
    assert asked == NAMES


@given(
    st.sets(st.sampled_from(whole(*NAMES))),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0, 2)),
)
def test_every_partition_is_in_one_run_and_no_run_is_too_large(instance, keys, sizes):
    """By Dagster's own reading of a range."""
    sizes = {name: share * MOST_BYTES for name, share in sizes.items()}
    found = []
    for run in merged(keys, sizes):
        own = partitions_of(run, instance)
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
