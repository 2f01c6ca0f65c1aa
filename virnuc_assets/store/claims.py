"""One writer at a time in a folder of an object store.

A store holds no locks. So a writer puts a claim of its own there, and may write when a listing
shows no other. Of two that come at once, the one that wrote its claim later sees the other's: both
cannot go ahead, in a store whose listings show what was written before (S3, GCS, MinIO). A claim is
renewed while its writer lives; one that was not for 90 s, by the store's clock, is void.

A writer that was stopped for so long and wakes finds another at work. Neither harms the other's
results, which are published under names of their own; what both make is made twice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from virnuc_assets.errors import StoreError
from virnuc_assets.store.objects import Objects

_FOLDER = "writers"
_RENEW_SECONDS = 15.0
_VOID_AFTER = timedelta(seconds=90)
_LOOK_SECONDS = 5.0
_log = logging.getLogger(__name__)


@contextmanager
def sole_writer_of(
    objects: Objects,
    tell: Callable[[str], None] = _log.warning,
    *,
    look_seconds: float = _LOOK_SECONDS,
    void_after: timedelta = _VOID_AFTER,
) -> Iterator[None]:
    """Hold the only claim on a folder of objects; wait for who holds it, looking now and then.

    `tell` is told when there is something to wait for, and how long a claim that nobody renews
    lasts.

    Raises:
        StoreError: the store cannot be used.
    """
    mine = f"{_FOLDER}/{uuid4().hex}"
    left = threading.Event()
    try:
        told = False
        while others := _others(objects, mine, void_after):
            if not told:
                tell(
                    f"{objects.url}: another run is writing there; waiting for it (if it was "
                    f"killed, {void_after.total_seconds():.0f} s at most)"
                )
                told = True
            if mine > min(others):
                # Of two that wait for each other one gives way.
                objects.delete(mine)
            left.wait(look_seconds)
        # One that fails is not insisted on: the next comes soon enough.
        once = replace(objects, patience=0)
        renewing = threading.Thread(target=_renew, args=(once, mine, left), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            left.set()
            renewing.join(_RENEW_SECONDS)
    finally:
        _withdraw(objects, mine)


def _withdraw(objects: Objects, mine: str) -> None:
    try:
        # Not for long: who ends because of the store is to end.
        replace(objects, patience=0).delete(mine)
    except StoreError as error:
        _log.warning("%s; the claim on the folder stays until it is void", error)


def _others(objects: Objects, mine: str, void_after: timedelta) -> list[str]:
    """Claim, and list who else does; claims that are void are removed."""
    objects.write(mine, b"1")
    claims = {stored.key: stored.modified for stored in objects.list(_FOLDER)}
    if mine not in claims:
        raise StoreError(
            f"{objects.url}: does not list what was just written, so two runs could not be kept "
            "apart; use a store with consistent listings"
        )
    others = []
    for key, modified in claims.items():
        if key == mine:
            continue
        if claims[mine] - modified > void_after:
            objects.delete(key)
        else:
            others.append(key)
    return others


def _renew(objects: Objects, mine: str, left: threading.Event) -> None:
    while not left.wait(_RENEW_SECONDS):
        try:
            objects.write(mine, b"1")
        except StoreError as error:
            _log.warning("%s; the claim on the folder could not be renewed", error)
