"""`python -m virnuc_assets_tests.dagster.several_samples [SAMPLES]`: embedded together, and alone.

Small samples are embedded with both encoders, all in one run and each in a run of its own, on the
models and shards that are set. Printed is the processor time a sample of the runner and its
workers, and of the run itself, which is in this process. With OMP_NUM_THREADS=1 threads that wait
for each other on a busy machine are not counted as work.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

from virnuc_assets.partitions import N_SHARDS, RANGE_END, RANGE_START
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.dagster.processor_time import imports, say
from virnuc_assets_tests.dagster.test_cohort import small_sample

LOADED = "loaded EncoderDescription"


def main(count):
    """Measure `count` samples each way."""
    say(f"{count} samples, {N_SHARDS} shards, threads: {os.environ.get('OMP_NUM_THREADS', 'all')}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "dagster"
        home.mkdir()
        with dg.instance_for_test(temp_dir=str(home)) as instance:
            deployment = Deployment(Path(folder), instance)
            together = [f"together{number:03d}" for number in range(count)]
            alone = [f"alone{number:03d}" for number in range(count)]
            # A range of partitions holds what was added between its ends.
            for names in (together, alone):
                for number, name in enumerate(names):
                    deployment.add(name, small_sample(number))
                    assert deployment.index(name).success
            measure(deployment, "all in one run", [together])
            measure(deployment, "each in a run of its own", [[name] for name in alone])
    say(f"a bare `import torch` takes {imports('torch'):.2f} s of processor time just now")


def measure(deployment, how, runs):
    """Embed the samples of each of `runs` together."""
    before, began = os.times(), time.monotonic()
    for names in runs:
        tags = {RANGE_START: f"{names[0]}|0", RANGE_END: f"{names[-1]}|{N_SHARDS - 1}"}
        assert deployment.execute("embed_samples", tags=tags).success
    after, seconds = os.times(), time.monotonic() - began
    names = [name for run in runs for name in run]
    logs = [
        path.read_text()
        for name in names
        for path in deployment.layout.root.rglob(f"{name}/**/worker-*.log")
    ]
    processes = after.children_user + after.children_system - sum(before[2:4])
    own = after.user + after.system - sum(before[:2])
    say(
        f"{how}: {processes / len(names):.2f} s of processor time a sample in the runner and its "
        f"workers, {own / len(names):.2f} s in the run; {seconds / len(names):.1f} s on the clock; "
        f"encoders loaded {sum(log.count(LOADED) for log in logs)} times"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
