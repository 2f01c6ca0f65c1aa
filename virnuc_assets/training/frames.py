"""The labelled frames of embedded samples: which rows of the embeddings each is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from virnuc_assets.errors import StoreError
from virnuc_assets.evaluation.mask import masked_chunks
from virnuc_assets.sequences.manifest import FRAMES_FILE, RECORDS_FILE
from virnuc_assets.training.labelled import SPLITS, LabelledRecord, Split

NO_MASK = pl.DataFrame(schema={"id": pl.String, "start": pl.Int64, "end": pl.Int64})
"""As `evaluation.mask.read_mask` gives one, of no intervals."""


@dataclass(frozen=True)
class LabelledFrames:
    """n frames in the order of their indexes; about 40 bytes each.

    Attributes:
        sample: which of the embedded samples each is of, int32, (n,).
        nucleotide_row, protein_row: its rows in the sample's embeddings, int64, (n,).
        record: which of the labelled records it is of, int32, (n,).
        chunk_length: bases in the chunks of its sample, int32, (n,).
        masked: whether it is a negative not to be learnt from, bool, (n,).
        is_virus: the label, bool, (n,).
        group: place of its group in `groups`, int32, (n,).
        genome: number of its genome, int32, (n,).
        split: place of its split in `SPLITS`, int8, (n,).
        groups: the groups' names, sorted.
        genomes: the genomes' names, sorted.
    """

    sample: np.ndarray
    nucleotide_row: np.ndarray
    protein_row: np.ndarray
    record: np.ndarray
    chunk_length: np.ndarray
    masked: np.ndarray
    is_virus: np.ndarray
    group: np.ndarray
    genome: np.ndarray
    split: np.ndarray
    groups: tuple[str, ...]
    genomes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sample)

    def part(self, split: Split) -> np.ndarray:
        """The frames of a split, int64, ascending; what is learnt from has no masked ones.

        Validation counts as learning: it ends the training and sets the temperature.
        """
        chosen = self.split == SPLITS.index(split)
        return np.flatnonzero(chosen if split == "test" else chosen & ~self.masked)

    def group_names(self, rows: np.ndarray) -> np.ndarray:
        """Names of the groups of some frames, (m,) str."""
        return np.array(self.groups)[self.group[rows]]

    def sampling_weights(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities to draw some frames by, (m,) float64, summing to 1.

        Both classes are as likely. Within a class a group is drawn by the square root of its
        genomes, and within a group a genome by the square root of its frames: less of the large
        ones than by their size, fewer repetitions of the small ones than by equal shares. A group
        of one genome, drawn as often as one of a hundred, would teach that genome.
        """
        is_virus = self.is_virus[rows]
        genome = _codes(is_virus, self.group[rows], self.genome[rows])
        group = _codes(is_virus, self.group[rows])
        _, first = np.unique(genome, return_index=True)
        n_genomes = np.bincount(group[first])
        weight = 1 / np.sqrt(np.bincount(genome)[genome])
        weight *= np.sqrt(n_genomes)[group] / np.bincount(group, weight)[group]
        weight /= np.bincount(is_virus, weight)[is_virus.astype(int)]
        return weight / weight.sum()


@dataclass(frozen=True)
class IndexedSample:
    """The index of an embedded sample.

    `records` are the places of its records among the labelled ones, int64, in the index's order;
    `set_aside` the rows of its nucleotide and its protein table that have no embedding.
    """

    index: Path
    chunk_length: int
    records: np.ndarray
    set_aside: tuple[np.ndarray, np.ndarray]


def labelled_frames(
    samples: Sequence[IndexedSample], records: Sequence[LabelledRecord], mask: pl.DataFrame
) -> LabelledFrames:
    """All frames of `samples` that have both embeddings, with the labels of their records.

    `records` have their splits. A frame is masked where it is of no virus and half of its chunk or
    more lies in `mask` (see `evaluation.mask.read_mask`).

    Raises:
        StoreError: an index does not hold the records that were labelled.
    """
    columns: dict[str, list[np.ndarray]] = {}
    for number, sample in enumerate(samples):
        for name, values in _frames_of(number, sample, records, mask).items():
            columns.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    record = joined["record"]
    groups, group = np.unique([one.group for one in records], return_inverse=True)
    genomes, genome = np.unique([one.genome for one in records], return_inverse=True)
    return LabelledFrames(
        **joined,
        is_virus=np.array([one.is_virus for one in records])[record],
        group=group.astype(np.int32)[record],
        genome=genome.astype(np.int32)[record],
        split=np.array([SPLITS.index(one.split or "train") for one in records], np.int8)[record],
        groups=tuple(groups.tolist()),
        genomes=tuple(genomes.tolist()),
    )


def _frames_of(
    number: int, sample: IndexedSample, records: Sequence[LabelledRecord], mask: pl.DataFrame
) -> dict[str, np.ndarray]:
    lengths = pl.read_parquet(sample.index / RECORDS_FILE, columns=["length"])["length"].to_numpy()
    if len(lengths) != len(sample.records):
        raise StoreError(
            f"{sample.index}: holds {len(lengths)} records where {len(sample.records)} are "
            "labelled; delete the work folder and start again"
        )
    table = pl.read_parquet(
        sample.index / FRAMES_FILE, columns=["record", "chunk", "nucleotide_row", "protein_row"]
    )
    nucleotide_row, protein_row = (
        table[name].to_numpy() for name in ("nucleotide_row", "protein_row")
    )
    no_dna, no_protein = sample.set_aside
    there = ~(np.isin(nucleotide_row, no_dna) | np.isin(protein_row, no_protein))
    local, chunk = table["record"].to_numpy()[there], table["chunk"].to_numpy()[there]
    return {
        "sample": np.full(len(local), number, np.int32),
        "nucleotide_row": nucleotide_row[there],
        "protein_row": protein_row[there],
        "record": sample.records[local].astype(np.int32),
        "chunk_length": np.full(len(local), sample.chunk_length, np.int32),
        "masked": _masked(local, chunk, lengths, sample, records, mask),
    }


def _masked(
    local: np.ndarray,
    chunk: np.ndarray,
    lengths: np.ndarray,
    sample: IndexedSample,
    records: Sequence[LabelledRecord],
    mask: pl.DataFrame,
) -> np.ndarray:
    others = [
        (place, records[number].record_id)
        for place, number in enumerate(sample.records.tolist())
        if not records[number].is_virus
    ]
    table = pl.DataFrame(others, schema={"ordinal": pl.Int64, "id": pl.String}, orient="row")
    table = table.with_columns(length=lengths[table["ordinal"].to_numpy()])
    chunks = masked_chunks(table, mask, sample.chunk_length)
    radix = 1 + max(int(chunk.max(initial=0)), int(chunks["chunk"].to_numpy().max(initial=0)))
    found = chunks["record"].to_numpy() * radix + chunks["chunk"].to_numpy()
    return np.isin(local * radix + chunk, found)


def _codes(*columns: np.ndarray) -> np.ndarray:
    """Numbers, from 0 and without gaps, of the different rows that the columns make; (n,) int64."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        joined = code * (int(column.max()) + 1) + column
        code = np.unique(joined, return_inverse=True)[1]
    return code
