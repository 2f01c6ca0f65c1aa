import subprocess
import sys

import dagster as dg

from virnuc_assets.automation import automation_sensor, call_sensor, embedding_sensor
from virnuc_assets.definitions import defs

LOADED = """
import sys
import virnuc_assets.definitions
heavy = (
    "torch", "transformers", "esm", "matplotlib", "numba", "sklearn", "numpy", "polars", "pyarrow",
    "h5py",
)
print([name for name in heavy if name in sys.modules])
"""


def test_loading_the_definitions_imports_nothing_that_computes():
    """Every run does, and many of them use little of it."""
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_the_code_location_holds_the_chain_its_jobs_and_its_sensors():
    graph = defs.resolve_asset_graph()
    assert {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    } == {
        "sample_file": set(),
        "sample_head": set(),
        "esm2_weights": set(),
        "dnabert_s_weights": set(),
        "sequence_index": {"sample_file"},
        "esm2_embeddings": {"sequence_index", "esm2_weights"},
        "dnabert_s_embeddings": {"sequence_index", "dnabert_s_weights"},
        "predictions": {
            "sequence_index",
            "esm2_embeddings",
            "dnabert_s_embeddings",
            "sample_head",
        },
        "sample_report": {"predictions"},
        "cohort_summary": {"predictions"},
        "classifier_head": set(),
    }
    assert {job.name for job in defs.jobs} == {
        "index_samples",
        "embed_samples",
        "predict_samples",
        "train_head",
    }
    assert {sensor.name for sensor in defs.sensors} == {
        "inbox",
        "sources",
        "automation",
        "automation_of_embeddings",
        "automation_of_calls",
        "lost_runs",
        "lost_materialisations",
        "lost_retries",
    }
    dg.Definitions.validate_loadable(defs)


def test_samples_that_are_further_on_go_first_and_what_a_person_starts_before_them():
    asked_by = {
        key.to_user_string(): int(sensor.run_tags["dagster/priority"])
        for sensor in (automation_sensor, embedding_sensor, call_sensor)
        for key in sensor.asset_selection.resolve(defs.resolve_asset_graph())
    }
    chain = ("sequence_index", "esm2_embeddings", "dnabert_s_embeddings", "predictions")
    assert [asked_by[name] for name in chain] == [-3, -2, -2, -1]
    assert asked_by["sample_report"] == asked_by["predictions"]


def test_only_one_run_at_a_time_embeds_on_a_machine():
    graph = defs.resolve_asset_graph()
    for name in ("esm2_embeddings", "dnabert_s_embeddings", "classifier_head"):
        assert graph.get(dg.AssetKey(name)).pools == {"gpu_host"}
