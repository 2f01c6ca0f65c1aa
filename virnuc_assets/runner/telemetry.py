"""What a run was like, device by device, and its record on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from virnuc_assets.runner.job import Job
from virnuc_assets.runner.messages import Finished
from virnuc_assets.runner.output import published, work_folder
from virnuc_assets.store.atomic import write_json
from virnuc_assets.store.embeddings import Counts

RECORD_FILE = "run.json"

Level = Literal["critical", "mild"]


@dataclass
class Tally:
    """What one device did in a run, or what was done for one shard."""

    blocks: int = 0
    sequences: int = 0
    seconds: float = 0.0
    """That devices spent on them, waiting for the host included."""
    slots: int = 0
    """Of packs, padding included."""
    busy_seconds: float = 0.0
    starved_seconds: float = 0.0
    """How long they computed, and waited for the host, by a CUDA device's clock; 0 elsewhere."""
    counts: Counts = field(default_factory=Counts)
    flops: float | None = None
    ceiling: float | None = None
    peak_memory_bytes: int | None = None
    restarts: int = 0

    def book(self, finished: Finished) -> None:
        """Add a block that was finished."""
        self.blocks += 1
        self.sequences += finished.block.sequences
        self.seconds += finished.seconds
        self.slots += finished.slots
        self.busy_seconds += finished.busy_seconds
        self.starved_seconds += finished.starved_seconds
        self.counts += finished.file.counts
        if finished.flops is not None:
            self.flops = (self.flops or 0.0) + finished.flops
        if finished.peak_memory_bytes is not None:
            self.peak_memory_bytes = max(self.peak_memory_bytes or 0, finished.peak_memory_bytes)
        self.ceiling = finished.ceiling or self.ceiling

    @property
    def busy_share(self) -> float | None:
        """Time CUDA devices computed over time they could have; None where nobody measured."""
        if not self.busy_seconds:
            return None
        return self.busy_seconds / (self.busy_seconds + self.starved_seconds)

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        busy = self.busy_seconds or self.seconds
        return {
            "blocks": self.blocks,
            "sequences": self.sequences,
            "tokens": self.counts.tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.counts.tokens / self.seconds if self.seconds else None,
            "sequences_per_second": self.sequences / self.seconds if self.seconds else None,
            "packing_efficiency": packing_efficiency(self.counts.tokens, self.slots),
            "busy_seconds": self.busy_seconds,
            "starved_seconds": self.starved_seconds,
            "busy_share": self.busy_share,
            "level": level(self.busy_share),
            "flops": self.flops,
            "share_of_ceiling": (
                self.flops / busy / self.ceiling if self.flops and self.ceiling and busy else None
            ),
            "peak_memory_bytes": self.peak_memory_bytes,
            "restarts": self.restarts,
        }


def packing_efficiency(tokens: int, slots: int) -> float | None:
    """Real tokens over computed ones; None where nothing was computed."""
    return tokens / slots if slots else None


def level(busy_share: float | None) -> Level | None:
    """How bad it is that a GPU waits for the host: critical, mild, or None."""
    if busy_share is None or busy_share >= 0.8:
        return None
    return "critical" if busy_share < 0.5 else "mild"


@dataclass
class Record:
    """A run as it goes; a JSON file at its end, whatever the end."""

    job: Job
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    devices: dict[str, Tally] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    set_aside: list[int] = field(default_factory=list)
    """Rows of the sequence table that have no embedding."""
    blocks_done: int = 0
    blocks_reused: int = 0
    blocks_failed: int = 0
    """Times that a block, or a piece of one, failed and was tried again, cut or given up."""

    def device(self, name: str) -> Tally:
        """What device `name` did so far."""
        return self.devices.setdefault(name, Tally())

    def starved(self) -> Iterable[tuple[str, float, Level]]:
        """Devices that waited for the host too much: name, busy share, level."""
        for name, device in self.devices.items():
            share = device.busy_share
            if share is not None and (found := level(share)) is not None:
                yield name, share, found

    def write(self, end: str) -> None:
        """Write the record into the job's folder. `end`: how the run ended.

        Raises:
            StoreError: the folder cannot be written.
        """
        total = Counts()
        for device in self.devices.values():
            total += device.counts
        ended = datetime.now(UTC)
        sequences = sum(device.sequences for device in self.devices.values())
        seconds = (ended - self.started).total_seconds()
        value = {
            "job": asdict(self.job),
            "started": self.started.isoformat(),
            "ended": ended.isoformat(),
            "end": end,
            "seconds": seconds,
            "sequences": sequences,
            "tokens": total.tokens,
            "tokens_per_second": total.tokens / seconds if seconds else None,
            "sequences_per_second": sequences / seconds if seconds else None,
            "packing_efficiency": packing_efficiency(
                total.tokens, sum(device.slots for device in self.devices.values())
            ),
            "blocks_done": self.blocks_done,
            "blocks_reused": self.blocks_reused,
            "blocks_failed": self.blocks_failed,
            "devices": {name: device.summary() for name, device in self.devices.items()},
            "warnings": self.warnings,
            "failures": self.failures,
            "set_aside": sorted(self.set_aside),
        }
        path = work_folder(self.job) / self.job.own(RECORD_FILE)
        write_json(path, value)
        if (store := published(self.job)) is not None:
            # Not for long: a run that ends because of the store is to end.
            replace(store.objects, patience=0).publish(path, path.name)
