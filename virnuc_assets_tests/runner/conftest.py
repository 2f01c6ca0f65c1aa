import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.sequence_table import write_sequence_table
from virnuc_assets_tests import untrained

RESIDUES = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def proteins(n, longest, seed=0):
    generator = np.random.default_rng(seed)
    lengths = np.sort(generator.integers(1, longest, n))[::-1]
    return ["".join(generator.choice(RESIDUES, length)) for length in lengths]


NVIDIA_SMI = """#!/bin/sh
case "$1" in
  --query-gpu=index,name) printf '0, NVIDIA H200\\n3, NVIDIA H200\\n' ;;
  --query-gpu=index,uuid) printf '0, GPU-aaaa-{0}\\n3, GPU-bbbb-{0}\\n' ;;
esac
"""


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A machine with GPUs 0 and 3, whose UUIDs no other test has."""
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI.format(os.getpid()))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def make_job(tmp_path):
    """Build a job over `n` random proteins, the last `empty` of them without letters, with the
    untrained ESM-2 on the CPU."""

    def make(n=60, longest=40, n_shards=2, output="out", empty=0, **changes):
        table = tmp_path / f"proteins-{n}-{longest}-{empty}.arrow"
        if not table.exists():
            sequences = proteins(n, longest)[: n - empty] + [""] * empty
            write_sequence_table(table, [pa.array(sequences, pa.large_string())])
        encoding = Encoding(
            "esm2", str(untrained.folder() / "esm2"), token_budget=1024, devices=("cpu",)
        )
        job = Job(
            encoding=encoding,
            sequences=str(table),
            sequences_sha256=sha256_file(table),
            index_digest="index",
            output=str(tmp_path / output),
            n_shards=n_shards,
            shards=tuple(range(n_shards)),
            block_sequences=10,
        )
        return replace(job, **changes)

    return make
