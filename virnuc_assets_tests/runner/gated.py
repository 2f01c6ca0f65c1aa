"""`python -m virnuc_assets_tests.runner.gated JOBS.json`: the runner; its workers wait for a file.

The environment variable GATE names the file. Until it is there no worker begins to load.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from virnuc_assets.runner import __main__ as runner
from virnuc_assets.runner import coordinator, worker
from virnuc_assets.runner.background import leave


def work(*arguments):
    """What a worker process runs."""
    while not Path(os.environ["GATE"]).exists():
        time.sleep(0.01)
    worker.work(*arguments)


if __name__ == "__main__":
    # By the name under which workers find it.
    from virnuc_assets_tests.runner import gated

    runner.run = partial(coordinator.run, worker=gated.work)
    leave(runner.main(sys.argv[1:]))
