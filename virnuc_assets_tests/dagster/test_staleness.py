"""What becomes stale when something changes, and what automation then renews, by Dagster itself."""

import os
import shutil
from dataclasses import replace

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from virnuc_assets.store.samples import registered
from virnuc_assets_tests.dagster.deployment import FASTA, Deployment
from virnuc_assets_tests.dagster.stand_ins import CHAIN, definitions, partitions

EVERYTHING = set(CHAIN)
more = pytest.mark.platform


class Chain:
    """A sample whose whole chain is there, and automation that knows."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.cursor = None
        self.newer()

    def newer(self, *assets):
        """From now on, `assets` have a new code version."""
        deployment = self.deployment
        deployment.defs = definitions(deployment.layout.root, deployment.resources(), assets)

    def use(self, **models):
        """From now on, run with other models; the sensor has seen them."""
        self.deployment.configure(replace(self.deployment.models, **models))
        self.newer()
        self.deployment.observe()

    def stale(self):
        """Assets of which a partition of the sample is stale."""
        instance = self.deployment.instance
        graph = self.deployment.defs.resolve_asset_graph()
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        found = set()
        for asset in CHAIN:
            key = dg.AssetKey(asset)
            states = {resolver.get_status(key, one) for one in partitions(asset, "s")}
            assert StaleStatus.MISSING not in states, asset
            if states != {StaleStatus.FRESH}:
                found.add(asset)
        return found

    def tick(self):
        result = dg.evaluate_automation_conditions(
            defs=self.deployment.defs, instance=self.deployment.instance, cursor=self.cursor
        )
        self.cursor = result.cursor
        return {
            asset: requested
            for asset in CHAIN
            if (requested := result.get_requested_partitions(dg.AssetKey(asset)))
        }

    def requested(self):
        """Assets that one tick of automation asks for, all partitions of the sample."""
        requested = self.tick()
        assert requested == {asset: set(partitions(asset, "s")) for asset in requested}
        return set(requested)

    def settle(self):
        """Let automation do all it asks for; which assets it renewed, tick by tick."""
        steps = []
        while requested := self.requested():
            steps.append(requested)
            if "sequence_index" in requested:
                assert self.deployment.index("s").success
            if embeddings := [asset for asset in requested if asset.endswith("embeddings")]:
                assert self.deployment.embed("s", assets=embeddings).success
            if calls := sorted(requested & {"predictions", "sample_report"}):
                assert self.deployment.predict("s", assets=calls).success
        return steps

    def renewed(self):
        return set().union(*self.settle())


@pytest.fixture
def deployment(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Deployment(tmp_path, instance)


@pytest.fixture
def chain(deployment):
    chain = Chain(deployment)
    deployment.observe()
    deployment.add("s")
    assert chain.settle() == [
        {"sequence_index"},
        {"esm2_embeddings", "dnabert_s_embeddings"},
        {"predictions", "sample_report"},
    ]
    deployment.observe()
    assert chain.stale() == set()
    assert chain.requested() == set()
    return chain


def copy_of_models(chain, folder):
    """The models in a folder of one's own, to change them there."""
    models = chain.deployment.models
    for name in ("esm2", "dnabert_s", "head"):
        shutil.copytree(getattr(models, name), folder / name, copy_function=shutil.copy)
    return replace(
        models,
        esm2=str(folder / "esm2"),
        dnabert_s=str(folder / "dnabert_s"),
        head=str(folder / "head"),
    )


def touch(path):
    os.utime(path, ns=(2, 2))


def test_a_rewritten_file_renews_all(deployment, chain):
    (deployment.root / "s.fa").write_text(FASTA.replace("ATGGCT", "ATGGGT"))
    deployment.observe()
    assert chain.stale() == {"sequence_index"}
    assert chain.requested() == {"sequence_index"}
    deployment.index("s")
    assert chain.stale() == {"esm2_embeddings", "dnabert_s_embeddings", "predictions"}
    assert chain.renewed() == EVERYTHING - {"sequence_index"}
    assert chain.stale() == set()


def test_a_file_that_was_only_touched_makes_nothing_but_the_index_stale(deployment, chain):
    touch(deployment.root / "s.fa")
    deployment.observe()
    assert chain.stale() == {"sequence_index"}
    deployment.index("s")
    assert chain.stale() == set()


@more
def test_a_file_that_is_taken_away_makes_nothing_stale(deployment, chain):
    (deployment.root / "s.fa").unlink()
    deployment.observe()
    assert chain.stale() == set() and chain.requested() == set()


def test_a_new_head_renews_calls_and_report_alone(chain, tmp_path):
    chain.use(head=copy_of_models(chain, tmp_path).head)
    assert chain.stale() == {"predictions"}
    assert chain.renewed() == {"predictions", "sample_report"}
    assert chain.stale() == set()


@more
def test_a_head_trained_again_under_the_same_name_counts_as_new(deployment, chain, tmp_path):
    models = copy_of_models(chain, tmp_path)
    chain.use(head=models.head)
    chain.settle()
    touch(tmp_path / "head" / "head.safetensors")
    deployment.observe()
    assert chain.renewed() == {"predictions", "sample_report"}


def test_a_samples_own_head_renews_that_sample_alone(deployment, chain, tmp_path):
    deployment.add("t")
    chain.tick()
    deployment.add("s", text=None, head=copy_of_models(chain, tmp_path).head)
    assert chain.stale() == {"predictions"}
    assert chain.tick() == {"predictions": {"s"}, "sample_report": {"s"}}


@pytest.mark.parametrize("encoder", ["esm2", pytest.param("dnabert_s", marks=more)])
def test_new_weights_renew_their_embeddings_and_what_follows(chain, tmp_path, encoder):
    chain.use(**{encoder: getattr(copy_of_models(chain, tmp_path), encoder)})
    assert chain.stale() == {f"{encoder}_embeddings"}
    assert chain.settle() == [{f"{encoder}_embeddings"}, {"predictions", "sample_report"}]
    assert chain.stale() == set()


@more
def test_another_precision_embeds_again(chain):
    chain.use(dtype="float32")
    assert chain.requested() == {"esm2_embeddings", "dnabert_s_embeddings"}


@more
def test_another_chunk_length_of_a_sample_renews_it_from_the_start(deployment, chain):
    deployment.add("s", text=None, chunk_length=300)
    assert registered(deployment.layout, "s").chunk_length == 300
    assert chain.stale() == {"sequence_index"}
    assert chain.renewed() == EVERYTHING


@pytest.mark.parametrize(
    ("asset", "renewed"),
    [
        pytest.param("sequence_index", EVERYTHING, marks=more),
        ("esm2_embeddings", {"esm2_embeddings", "predictions", "sample_report"}),
        pytest.param("predictions", {"predictions", "sample_report"}, marks=more),
        pytest.param("sample_report", {"sample_report"}, marks=more),
    ],
)
def test_a_new_code_version_renews_its_asset_and_what_follows(chain, asset, renewed):
    chain.newer(asset)
    assert chain.stale() == {asset}
    assert chain.renewed() == renewed
    assert chain.stale() == set()


@more
def test_weights_that_are_not_there_are_a_run_that_says_so(chain, tmp_path):
    chain.use(esm2=str(tmp_path / "gone"))
    assert chain.requested() == {"esm2_embeddings"}


@more
def test_what_changes_must_keep_still_for_two_ticks(deployment, chain):
    (deployment.root / "s.fa").write_text(FASTA * 2)
    deployment.observe(ticks=1)
    assert chain.stale() == set()
    (deployment.root / "s.fa").write_text(FASTA * 3)
    deployment.observe(ticks=1)
    assert chain.stale() == set()
    deployment.observe(ticks=1)
    assert chain.stale() == {"sequence_index"}


def test_a_sample_that_failed_waits_for_something_new(deployment, chain):
    deployment.add("bad")
    assert chain.tick() == {"sequence_index": {"bad"}}
    (deployment.root / "bad.fa").unlink()
    assert not deployment.index("bad").success
    assert chain.tick() == {}
    (deployment.root / "bad.fa").write_text(FASTA * 2)
    deployment.observe()
    assert chain.tick() == {"sequence_index": {"bad"}}


def test_what_changes_during_a_run_is_taken_up_after_it(deployment, chain, tmp_path):
    """That run's end is no answer to what came after its beginning."""
    instance, key = deployment.instance, dg.AssetKey("predictions")
    job = deployment.defs.resolve_implicit_global_asset_job_def()
    at_work = instance.create_run_for_job(
        job.get_subset(asset_selection={key}),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "s"},
        asset_selection=frozenset({key}),
    )
    assert chain.tick() == {}
    models = copy_of_models(chain, tmp_path / "other")
    touch(tmp_path / "other" / "head" / "head.safetensors")
    chain.use(head=models.head)
    assert chain.tick() == {}
    instance.report_runless_asset_event(dg.AssetMaterialization("predictions", partition="s"))
    instance.report_run_canceled(at_work)
    assert chain.tick() == {"predictions": {"s"}, "sample_report": {"s"}}


def test_samples_that_were_there_before_automation_are_taken_up(deployment):
    deployment.observe()
    deployment.add("s")
    chain = Chain(deployment)
    assert chain.requested() == {"sequence_index"}
