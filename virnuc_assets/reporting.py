"""Which files of a store feed which page that a person reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from virnuc_assets.classifier import result_files
from virnuc_assets.classifier.cohort import Cohort, read_cohort
from virnuc_assets.classifier.cohort_page import CohortFiles, write_cohort
from virnuc_assets.classifier.report import PAGE, EmbeddingRun, ReportSummary, write_report
from virnuc_assets.errors import StoreError
from virnuc_assets.runner.telemetry import RECORD_FILE
from virnuc_assets.settings import ENCODERS
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.layout import Layout


def report_sample(layout: Layout, name: str) -> ReportSummary:
    """Write the report of a sample that has results.

    Raises:
        StoreError: the results are missing, incomplete or damaged, or the page cannot be written.
    """
    results = layout.predictions(name)
    index_digest = result_files.read_manifest(results)["provenance"]["index_digest"]
    runs = [
        run
        for encoder in ENCODERS
        if (run := embedding_run(layout.embeddings(name, encoder), encoder, index_digest))
    ]
    return write_report(results, layout.report(name), name, runs)


def summarise_cohort(layout: Layout, names: Iterable[str]) -> tuple[Cohort, CohortFiles]:
    """Write the summary of those of the samples `names` that have results.

    Raises:
        StoreError: it cannot be written.
    """
    cohort = read_cohort({name: layout.predictions(name) for name in names})
    # Beside each other in the store, which may be moved as a whole.
    return cohort, write_cohort(cohort, layout.cohort, "../reports/{}/" + PAGE)


def embedding_run(folder: Path, encoder: str, index_digest: str) -> EmbeddingRun | None:
    """What the last run in `folder` says of itself; None where it is of another index, or gone.

    Raises:
        StoreError: its record is damaged.
    """
    record = Path(RECORD_FILE)
    # Those of runs of some shards have the first in their name.
    paths = folder.glob(f"{record.stem}*{record.suffix}")
    path = max(paths, key=lambda path: path.stat().st_mtime, default=None)
    if path is None:
        return None
    value = read_json(path)
    try:
        if value["job"]["index_digest"] != index_digest:
            return None
        devices = list(value["devices"].values())
        return EmbeddingRun(
            encoder=encoder,
            started=f"{value['started'][:16].replace('T', ' ')} UTC",
            seconds=value["seconds"],
            sequences=value["sequences"],
            tokens=value["tokens"],
            tokens_per_second=value["tokens_per_second"],
            packing_efficiency=value["packing_efficiency"],
            busy_share=_busy_share(devices),
            n_devices=len(devices),
            peak_memory_bytes=max((d["peak_memory_bytes"] or 0 for d in devices), default=0)
            or None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path}: is not the record of a run ({error!r}); delete it and make the report again"
        ) from error


def _busy_share(devices: list[dict[str, Any]]) -> float | None:
    """Of all devices together; None where none was measured."""
    busy = sum(device["busy_seconds"] for device in devices)
    starved = sum(device["starved_seconds"] for device in devices)
    return busy / (busy + starved) if busy else None
