"""One writer at a time of each part of a folder of an object store.

A store holds no locks. So a writer puts a claim of its own there, which names the parts, and may
write when a listing shows no other on one of them. Of two that come at once, the one that wrote its
claim later sees the other's: both cannot go ahead, in a store whose listings show what was written
before (S3, GCS, MinIO). A claim is renewed while its writer lives; one that was not for 90 s, by
the store's clock, is void.

A writer that was stopped for so long and wakes finds another at work. Neither harms the other's
results, which are published under names of their own; what both make is made twice.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    parts: Collection[str],
    tell: Callable[[str], None] = _log.warning,
    *,
    look_seconds: float = _LOOK_SECONDS,
    void_after: timedelta = _VOID_AFTER,
) -> Iterator[None]:
    """Hold the only claim on `parts` of a folder; wait for who holds another, looking now and then.

    `tell` is told when there is something to wait for, and how long a claim that nobody renews
    lasts.

    Raises:
        StoreError: the store cannot be used.
    """
    mine = _Claim(objects, f"{_FOLDER}/{uuid4().hex}", frozenset(parts))
    left = threading.Event()
    try:
        told = False
        while others := mine.others(void_after):
            if not told:
                tell(
                    f"{objects.url}: another run is writing there; waiting for it (if it was "
                    f"killed, {void_after.total_seconds():.0f} s at most)"
                )
                told = True
            if mine.key > min(others):
                # Of two that wait for each other one gives way.
                objects.delete(mine.key)
            left.wait(look_seconds)
        # One that fails is not insisted on: the next comes soon enough.
        once = replace(mine, objects=replace(objects, patience=0))
        renewing = threading.Thread(target=_renew, args=(once, left), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            left.set()
            renewing.join(_RENEW_SECONDS)
    finally:
        _withdraw(objects, mine.key)


def _withdraw(objects: Objects, key: str) -> None:
    try:
        # Not for long: who ends because of the store is to end.
        replace(objects, patience=0).delete(key)
    except StoreError as error:
        _log.warning("%s; the claim on the folder stays until it is void", error)


@dataclass(frozen=True)
class _Claim:
    objects: Objects
    key: str
    parts: frozenset[str]

    def write(self) -> None:
        """Claim, or renew the claim."""
        self.objects.write(self.key, json.dumps(sorted(self.parts)).encode())

    def others(self, void_after: timedelta) -> list[str]:
        """Claim, and list who else claims a part of it; claims that are void are removed."""
        self.write()
        claims = {stored.key: stored.modified for stored in self.objects.list(_FOLDER)}
        if self.key not in claims:
            raise StoreError(
                f"{self.objects.url}: does not list what was just written, so two runs could not "
                "be kept apart; use a store with consistent listings"
            )
        others = []
        for key, modified in claims.items():
            if key == self.key:
                continue
            if claims[self.key] - modified > void_after:
                self.objects.delete(key)
            elif self._meets(self.objects.read(key)):
                others.append(key)
        return others

    def _meets(self, claim: bytes | None) -> bool:
        if claim is None:
            return False  # withdrawn since it was listed
        try:
            claimed = json.loads(claim)
        except ValueError:
            claimed = None
        # A version of ours that knew no parts, or another, claims all there is.
        return not isinstance(claimed, list) or not self.parts.isdisjoint(claimed)


def _renew(mine: _Claim, left: threading.Event) -> None:
    while not left.wait(_RENEW_SECONDS):
        try:
            mine.write()
        except StoreError as error:
            _log.warning("%s; the claim on the folder could not be renewed", error)
