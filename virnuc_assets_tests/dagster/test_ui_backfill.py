"""The UI's backfill of more samples than there are shards, with the real assets.

The daemon's own loop and the webserver's own schema, in this process; runner and workers are
processes of their own.
"""

import subprocess

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.partitions import N_SHARDS
from virnuc_assets.settings import ENCODERS
from virnuc_assets_tests.dagster.deployment import FASTA
from virnuc_assets_tests.dagster.stand_ins import CHAIN
from virnuc_assets_tests.dagster.test_daemon import LAUNCH
from virnuc_assets_tests.dagster.test_shards import assert_whole
from virnuc_assets_tests.dagster.workplace import workplace_of
from virnuc_assets_tests.worker_logs import encoders_loaded

pytestmark = pytest.mark.platform

NAMES = [f"s{number:03d}" for number in range(N_SHARDS + 2)]
CODE = """
from virnuc_assets.definitions import build_defs
from virnuc_assets.resources import Store
defs = build_defs({{"store": Store(root={root!r})}})
"""


@pytest.fixture
def workplace(tmp_path):
    with workplace_of(tmp_path, CODE) as workplace:
        yield workplace


@pytest.fixture
def runners(monkeypatch):
    """Command lines of the runners that are started."""
    started = []

    class Counted(subprocess.Popen):
        def __init__(self, command, *arguments, **options):
            if "virnuc_assets.runner" in command:
                started.append(command)
            super().__init__(command, *arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", Counted)
    return started


def test_each_encoder_is_loaded_once_a_run_and_not_once_a_sample(workplace, runners):
    for number, name in enumerate(NAMES):
        # Different in every sample, and the last has more records than the others.
        more = "".join(f">m{i}\n{'ATGGCT' * (20 + i)}\n" for i in range(number))
        workplace.add(name, FASTA + more)
    parameters = {
        "assetSelection": [{"path": [asset]} for asset in CHAIN],
        "partitionNames": NAMES,
        "tags": [{"key": "dagster/from_ui", "value": "true"}],
        "fromFailure": False,
    }
    answer = workplace.query(LAUNCH, parameters=parameters)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    workplace.run_daemon()
    backfill = workplace.instance.get_backfill(answer["backfillId"])
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS
    assert workplace.materialised("sample_report") == set(NAMES)

    embedding = [
        run
        for run in workplace.instance.get_runs()
        if dg.AssetKey("esm2_embeddings") in (run.asset_selection or ())
    ]
    assert len(embedding) == N_SHARDS, "Dagster makes a run of every shard, of all samples"
    assert len(runners) == N_SHARDS * len(ENCODERS)
    assert encoders_loaded(workplace.layout) == N_SHARDS * len(ENCODERS)
    for which in ENCODERS:
        encoder = load_encoder(EncoderSettings(which, workplace.models.encoding(which).weights))
        for name in NAMES:
            assert_whole(workplace, name, encoder)
