"""The resumable multi-device runner: plan → blocks → workers (one process a device) → shards.

Here: what is to be done next and by whom, processes, events. Not here: how a sequence is embedded
(encoders) and what an embedding file looks like (store). A job is JSON in, events are JSON lines
out: `python -m virnuc_assets.runner JOBS.json`.
"""
