"""The pool whose one slot stands for a machine's GPUs, known before a run asks for it."""

from __future__ import annotations

import dagster as dg

from virnuc_assets.assets.embedding import GPU_POOL


def make_pool_known(instance: dg.DagsterInstance) -> None:
    """Give the pool the limit of dagster.yaml where `instance` has never heard of it.

    The queue looks up its pools before it adds those that waiting runs name: of the first
    embeddings ever it would start several at once.
    """
    events = instance.event_log_storage
    if GPU_POOL not in events.get_concurrency_keys():
        events.initialize_concurrency_limit_to_default(GPU_POOL)
