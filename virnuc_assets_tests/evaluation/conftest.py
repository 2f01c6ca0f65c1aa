"""Results of a sample small enough to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from virnuc_assets.classifier.calls import call_chunks, call_records

# A record: id, length, and its chunks, each P(virus) by frame.
Record = tuple[str, int, Sequence[dict[str, float | None]]]


@pytest.fixture
def make_results(tmp_path: Path) -> Callable[..., Path]:
    """Write the tables of results from records; a frame without P(virus) was set aside."""

    def make(*records: Record, name: str = "results") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rows = [
            (r, c, frame, f"{record}_chunk_{c}{frame}", p)
            for r, (record, _, chunks) in enumerate(records)
            for c, chunk in enumerate(chunks, 1)
            for frame, p in chunk.items()
        ]
        frames = pl.DataFrame(
            {
                "ordinal": range(len(rows)),
                "record": [row[0] for row in rows],
                "chunk": [row[1] for row in rows],
                "frame": [row[2] for row in rows],
                "name": [row[3] for row in rows],
                "score_other": [None if row[4] is None else 1 - row[4] for row in rows],
                "score_virus": [row[4] for row in rows],
            },
            schema_overrides={"score_other": pl.Float32, "score_virus": pl.Float32},
        )
        chunks = call_chunks(frames.drop_nulls())
        index = pl.DataFrame(
            {
                "ordinal": range(len(records)),
                "id": [record[0] for record in records],
                "length": [record[1] for record in records],
                "n_chunks": [len(record[2]) for record in records],
                "n_frames": [sum(map(len, record[2])) for record in records],
            }
        )
        frames.write_parquet(folder / "frames.parquet")
        chunks.write_parquet(folder / "chunks.parquet")
        call_records(index, chunks).write_parquet(folder / "records.parquet")
        return folder

    return make
