import os

# Read when the definitions are loaded; few shards keep the tests short.
os.environ["VIRNUC_SHARDS"] = "3"

import dagster as dg
import pytest

from virnuc_assets_tests.dagster.deployment import Deployment


@pytest.fixture
def deployment(tmp_path):
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home)) as instance:
        yield Deployment(tmp_path, instance)
