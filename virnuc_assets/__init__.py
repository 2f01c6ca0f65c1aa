"""Viral-sequence identification as a Dagster data platform on a packed multi-GPU engine.

Here: one module per Dagster concept, the CLI, and the layers they call. Not here: any logic.
"""

__version__ = "0.1.0"
