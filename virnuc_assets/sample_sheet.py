"""A table of samples: which files, what they are called, how they are cut, and what calls them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from virnuc_assets import pipeline
from virnuc_assets.classifier.head_files import read_card
from virnuc_assets.errors import InputError, VirnucError
from virnuc_assets.mini import bundled
from virnuc_assets.settings import Models
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import Sample, earlier_registration, register, sample_name

SHEET_SUFFIX = ".csv"
_LONGEST_PATH = 250


class _Line(BaseModel):
    """A line as it is written; what is left empty is not there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(min_length=1)
    name: str | None = None
    chunk_length: int | None = None
    head: str | None = None


_COLUMNS = tuple(_Line.model_fields)


def register_sheet(layout: Layout, sheet: Path, models: Models) -> list[Sample]:
    """Register every sample of `sheet`, or none.

    Raises:
        InputError: a line cannot be used; names them all.
    """
    return [
        register(layout, sample.name, Path(sample.source), sample.chunk_length, sample.head)
        for sample in read_sheet(layout, sheet, models)
    ]


def read_sheet(layout: Layout, sheet: Path, models: Models) -> list[Sample]:
    """The samples that `sheet` lists, checked but not registered, in its order.

    A CSV file with the columns `path`, and perhaps `name`, `chunk_length` and `head`. Relative
    paths start at the sheet's folder. `models`: what holds where a line says nothing.

    Raises:
        InputError: the sheet or a line cannot be used; names every such line and what is wrong.
    """
    samples: dict[str, tuple[int, Sample]] = {}
    faults: list[str] = []
    for number, cells in _lines(sheet):
        try:
            sample = _sample(layout, sheet.parent, _Line(**cells), models)  # type: ignore[arg-type]
            if sample.name in samples:
                other = samples[sample.name][0]
                raise InputError(f"would be sample {sample.name}, as line {other} is")
            samples[sample.name] = number, sample
        except ValidationError as error:
            reasons = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            faults.append(f"line {number}: {', '.join(reasons)}")
        except VirnucError as error:
            faults.append(f"line {number}: {error}")
    if faults:
        raise InputError(f"{sheet}: no sample was added; correct {'; '.join(faults)}")
    if not samples:
        raise InputError(f"{sheet}: lists no sample; give a line a sample below the header")
    return [sample for _, sample in samples.values()]


def listed_files(sheet: Path) -> list[Path]:
    """The files that a sheet lists, there or not; none if it cannot be read."""
    try:
        paths = [cells.get("path", "") for _, cells in _lines(sheet)]
    except InputError:
        return []
    return [sheet.parent / path for path in paths if path and "\0" not in path]


def _sample(layout: Layout, folder: Path, line: _Line, models: Models) -> Sample:
    source = folder / line.path
    name = line.name or sample_name(source)
    earlier_registration(layout, name, source)
    head = None if line.head is None else _head(layout, folder, line.head)
    if line.chunk_length is not None:
        # Imports NumPy and Arrow: not in every process that loads the definitions.
        from virnuc_assets.sequences.chunks import check_chunk_length

        check_chunk_length(line.chunk_length)
    if line.chunk_length is not None or head is not None:
        card = read_card(pipeline.head_folder(layout, head or models.head))
        pipeline.check_chunk_length(card, line.chunk_length or models.chunk_length)
    return Sample(name, str(source.resolve()), line.chunk_length, head)


def _head(layout: Layout, folder: Path, head: str) -> str:
    """A head as every process finds it: an imported one by name, any other by its full path."""
    if head == bundled.NAME:
        return str(bundled.HEAD)
    if len(head) > _LONGEST_PATH or "\0" in head:
        raise InputError(f"{head[:40]!r}…: cannot name a head; give its name or its folder")
    return head if (layout.heads / head).is_dir() else str((folder / head).absolute())


def _lines(sheet: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number (from 1, the header's) and filled cells of every line that is not blank."""
    try:
        # Spreadsheets begin UTF-8 files with a mark.
        with sheet.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            header = [column.strip().lower().replace(" ", "_") for column in next(reader, [])]
            _check_header(sheet, header)
            for cells in reader:
                values = [cell.strip() for cell in cells]
                if any(values):
                    # Cells beyond the header have a name that no column has.
                    names = [*header, *(f"cell {n + 1}" for n in range(len(header), len(values)))]
                    yield (
                        reader.line_num,
                        {n: v for n, v in zip(names, values, strict=False) if v},
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{sheet}: is not a CSV file ({error}); save it as CSV, UTF-8") from error
    except OSError as error:
        raise InputError(f"{sheet}: cannot be read ({error.strerror}); check the path") from error


def _check_header(sheet: Path, header: list[str]) -> None:
    unknown = [column for column in header if column not in _COLUMNS]
    if unknown or "path" not in header or len(set(header)) < len(header):
        raise InputError(
            f"{sheet}: its first line is {','.join(header)!r}; name the column path there, and of "
            "name, chunk_length and head those that are given, each once, separated by commas"
        )
