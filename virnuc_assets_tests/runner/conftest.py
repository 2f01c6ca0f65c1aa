from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.settings import DEMO_DATA
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.sequence_table import write_sequence_table

RESIDUES = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def proteins(n, longest, seed=0):
    generator = np.random.default_rng(seed)
    lengths = np.sort(generator.integers(1, longest, n))[::-1]
    return ["".join(generator.choice(RESIDUES, length)) for length in lengths]


@pytest.fixture
def make_job(tmp_path):
    """Build a job over `n` random proteins with the demo ESM-2 on the CPU."""

    def make(n=60, longest=40, n_shards=2, output="out", **changes):
        table = tmp_path / f"proteins-{n}-{longest}.arrow"
        if not table.exists():
            write_sequence_table(table, [pa.array(proteins(n, longest), pa.large_string())])
        encoding = Encoding(
            "esm2", str(DEMO_DATA / "models" / "esm2"), token_budget=1024, devices=("cpu",)
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
