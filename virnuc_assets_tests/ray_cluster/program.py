"""`python -m virnuc_assets_tests.ray_cluster.program JOB.json`: the runner with slow workers."""

from __future__ import annotations

import sys
from functools import partial

from virnuc_assets.runner import __main__ as runner
from virnuc_assets.runner import coordinator
from virnuc_assets.runner.background import leave
from virnuc_assets_tests.ray_cluster import slowly

if __name__ == "__main__":
    runner.run = partial(coordinator.run, worker=slowly.work)
    leave(runner.main(sys.argv[1:]))
