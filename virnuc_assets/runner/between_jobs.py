"""What a job leaves for the next with the same encoder: workers that have it, what was learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import Weights
from virnuc_assets.errors import EncoderUnusableError
from virnuc_assets.runner.identity import Digests
from virnuc_assets.runner.job import Encoding
from virnuc_assets.runner.pool import IdleWorkers

_Stamps = tuple[tuple[str, int, int, int], ...]


class BetweenJobs:
    """Jobs of one process, one after the other; once it is closed no worker is alive.

    `workers`: those that wait for a job. `budgets`: token budgets that were halved, by device.
    `was_loaded`: a worker was ready with the encoder at hand, which so cannot be unusable.
    """

    def __init__(self) -> None:
        """Nothing so far."""
        self.workers = IdleWorkers()
        self.budgets: dict[str, int] = {}
        self._of: tuple[Encoding, Digests] | None = None
        self.was_loaded = False
        self._fault: str | None = None
        self._hashed: tuple[_Stamps, str] | None = None

    def weights_digest(self, weights: Weights) -> str:
        """As `catalog.weights_digest`; files that are as they were are not read again."""
        stamps = _stamps(weights)
        if self._hashed is None or self._hashed[0] != stamps:
            self._hashed = stamps, catalog.weights_digest(weights)
        return self._hashed[1]

    @contextmanager
    def embedding(self, encoding: Encoding, digests: Digests) -> Iterator[None]:
        """Around the work of a job; workers of another encoder are ended before it.

        Raises:
            EncoderUnusableError: a job before this one has found that out.
        """
        if self._of != (encoding, digests):
            self.workers.end()
            self.budgets.clear()
            self._of, self._fault = (encoding, digests), None
            self.was_loaded = False
        if self._fault is not None:
            raise EncoderUnusableError(self._fault)
        try:
            yield
        except EncoderUnusableError as error:
            self._fault = str(error)
            raise

    def close(self) -> None:
        """End all workers."""
        self.workers.end()


def _stamps(weights: Weights) -> _Stamps:
    """What changes with the files' contents; gigabytes cannot be hashed for every small sample."""
    paths = [weights.path] if weights.kind == "fair-esm" else catalog.value_files(weights)
    found = ((path, path.stat()) for path in paths)
    return tuple(
        (str(path), about.st_ino, about.st_size, about.st_mtime_ns) for path, about in found
    )
