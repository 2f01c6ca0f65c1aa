"""The inbox: a sequence file dropped there becomes a sample, a sample sheet several.

What is in the folder and what Dagster knows are compared on every tick, so a tick that was lost
half-way is made good by the next. The cursor holds only what has not been taken: files that may
still grow, and what was said of those that cannot be used.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import dagster as dg

from virnuc_assets.assets.gpu_pool import make_pool_known
from virnuc_assets.assets.sources import observations, sample_versions
from virnuc_assets.errors import VirnucError
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Models, Store
from virnuc_assets.sample_sheet import SHEET_SUFFIX, listed_files, register_sheet
from virnuc_assets.store.digests import sha256_json
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import (
    Sample,
    all_samples,
    earlier_registration,
    is_file,
    is_sequence_file,
    register,
    sample_name,
)
from virnuc_assets.versions import file_stamp

FILES_A_TICK = 500
"""Files that one tick takes at most: a tick is ended after a minute."""


@dataclass(frozen=True)
class Cursor:
    """What of the inbox is not taken."""

    waiting: dict[str, str] = field(default_factory=dict)
    """File name → stamp on the last tick."""
    sheets: dict[str, str] = field(default_factory=dict)
    """Sample sheet → stamp when it was taken."""
    told: dict[str, str] = field(default_factory=dict)
    """File name → why it cannot be used, as it was logged."""


@dg.sensor(
    name="inbox",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def inbox_sensor(
    context: dg.SensorEvaluationContext, store: Store, models: Models
) -> dg.SensorResult:
    """Register every sequence file, and the samples of every sample sheet, that stopped changing.

    A file counts as arrived when its size and time of change are the same on two ticks. Automation
    takes a new sample from there. What cannot be used is told once, and tried again on every tick.
    """
    layout, inbox = store.layout, store.layout.inbox
    inbox.mkdir(parents=True, exist_ok=True)
    before = _read_cursor(context.cursor)
    known = set(context.instance.get_dynamic_partitions("sample"))
    taken = {s.source for s in all_samples(layout) if s.name in known}
    stamps = {path.name: _stamp(path) for path in sorted(inbox.iterdir()) if _wanted(path)}
    waiting = {
        file: stamp
        for file, stamp in stamps.items()
        if str((inbox / file).resolve()) not in taken
        and before.sheets.get(file) != file_stamp(inbox / file)
    }
    # A file is the sheet's that names it, also while that waits or cannot be used.
    claimed = {
        str(path.resolve())
        for file in waiting
        if _is_sheet(inbox / file)
        for path in listed_files(inbox / file)
    }
    settled = [
        file
        for file, stamp in waiting.items()
        if before.waiting.get(file) == stamp and str((inbox / file).resolve()) not in claimed
    ]
    # Sheets first: they may name files of the inbox. What failed before comes last, so that it
    # cannot keep the rest from its turn.
    settled.sort(key=lambda file: (file in before.told, not _is_sheet(inbox / file)))
    sheets = {file: stamp for file, stamp in before.sheets.items() if file in stamps}
    told = {file: why for file, why in before.told.items() if file in waiting}
    added: list[Sample] = []
    for file in settled[:FILES_A_TICK]:
        path = inbox / file
        if str(path.resolve()) in taken:
            continue
        try:
            found = _samples_of(layout, path, models)
        except VirnucError as error:
            if told.get(file) != str(error):
                context.log.error(str(error))
            told[file] = str(error)
            continue
        for sample in found:
            context.log.info(f"{Path(sample.source).name} is sample {sample.name}")
        added += found
        taken.update(sample.source for sample in found)
        told.pop(file, None)
        del waiting[file]
        if _is_sheet(path):
            sheets[file] = file_stamp(path) or ""
    if len(settled) > FILES_A_TICK:
        context.log.info(f"{len(settled) - FILES_A_TICK} files are left for the next ticks")
    new = [sample for sample in added if sample.name not in known]
    if new:
        make_pool_known(context.instance)
    return dg.SensorResult(
        # Events are written before partitions are added: a sample's file has been observed when
        # automation sees the sample.
        asset_events=observations(sample_versions(layout, models.as_settings(), new)),
        dynamic_partitions_requests=(
            [samples.build_add_request([sample.name for sample in new])] if new else []
        ),
        cursor=json.dumps(asdict(Cursor(waiting, sheets, told))),
    )


def _read_cursor(text: str | None) -> Cursor:
    """The last tick's cursor; what another version wrote is left out."""
    written = json.loads(text or "{}")
    return Cursor(**{f.name: written[f.name] for f in fields(Cursor) if f.name in written})


def _samples_of(layout: Layout, path: Path, models: Models) -> list[Sample]:
    """Register what a settled file of the inbox holds.

    Raises:
        VirnucError: it cannot be used.
    """
    # Imports Arrow: not in every process that loads the definitions.
    from virnuc_assets.sequences.input_file import open_input

    if _is_sheet(path):
        return register_sheet(layout, path, models.as_settings())
    # Missing rights, an empty file, a bgzip file without its end: told now and not by a failed run.
    with open_input(path):
        name = sample_name(path)
        return [earlier_registration(layout, name, path) or register(layout, name, path)]


def _wanted(path: Path) -> bool:
    return (_is_sheet(path) or is_sequence_file(path)) and is_file(path)


def _is_sheet(path: Path) -> bool:
    return path.suffix.lower() == SHEET_SUFFIX and not path.name.startswith(".")


def _stamp(path: Path) -> str:
    """Size and time of change of a file; of a sheet, those of the files it lists as well."""
    own = file_stamp(path) or ""
    if not _is_sheet(path):
        return own
    return sha256_json([own, *map(file_stamp, listed_files(path))])[:16]
