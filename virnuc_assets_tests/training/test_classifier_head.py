"""The asset `classifier_head` on a real instance."""

import dagster as dg
import pytest

from virnuc_assets.classifier.head_files import head_digest
from virnuc_assets.definitions import build_defs
from virnuc_assets.resources import Models, Store
from virnuc_assets_tests import untrained
from virnuc_assets_tests.dagster.deployment import QUIET, failure_sentence, metadata


@pytest.fixture
def train(tmp_path):
    """Run the job `train_head` with a configuration, on an instance and a store of its own."""
    models = Models(
        esm2=str(untrained.folder() / "esm2"),
        dnabert_s=str(untrained.folder() / "dnabert_s"),
        head="the one that is being trained",
        chunk_length=90,
        gpus=["cpu"],
    )
    defs = build_defs({"store": Store(root=str(tmp_path / "store")), "models": models})
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home)) as instance:

        def run(**config):
            return defs.resolve_job_def("train_head").execute_in_process(
                instance=instance,
                run_config={**QUIET, "ops": {"classifier_head": {"config": config}}},
                raise_on_error=False,
            )

        yield run


@pytest.mark.slow
def test_a_head_is_trained_with_its_metrics_card_and_digests(
    train, write_fasta, write_table, tmp_path
):
    for name, gc in (("v", 0.72), ("o", 0.5)):
        write_fasta(f"{name}.fa", [f"{name}{i}" for i in range(12)], gc=gc, length=600)
    manifest = write_table("m.tsv", "file class", "v.fa virus", "o.fa other")
    result = train(name="toy", manifest=str(manifest))
    assert result.success
    folder = tmp_path / "store" / "heads" / "toy"
    about = metadata(result, "classifier_head")[None]
    assert about["test_auroc"] > 0.9
    assert about["head_digest"] == head_digest(folder)
    assert about["card"] == (folder / "model_card.md").read_text()
    assert about["esm2_model"] == "untrained"
    assert about["folder"] == str(folder)


def test_a_manifest_that_cannot_be_used_is_one_sentence(train, write_table):
    manifest = write_table("m.tsv", "file class", "v.fa virus")
    sentence = failure_sentence(train(name="toy", manifest=str(manifest)))
    assert sentence.startswith(f"{manifest}: line 2: there is no file ")


def test_a_head_is_trained_by_a_person_and_not_by_automation():
    from virnuc_assets.assets.classifier_head import classifier_head

    assert classifier_head.automation_conditions_by_key == {}
    assert classifier_head.partitions_def is None
    assert classifier_head.group_names_by_key == {classifier_head.key: "training"}
