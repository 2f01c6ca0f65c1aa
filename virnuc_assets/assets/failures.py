"""Explained failures, shown in Dagster as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from virnuc_assets.errors import VirnucError


@contextmanager
def explained() -> Iterator[None]:
    """Turn a `VirnucError` into a `Failure` with its sentence; trying again would not help."""
    try:
        yield
    except VirnucError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
