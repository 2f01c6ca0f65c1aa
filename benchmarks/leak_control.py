"""Does the evaluation leak? Two controls.

Labels that mean nothing: a classifier fitted on training genomes whose labels were exchanged among
them must not tell the test frames apart. Genomes that are there twice: words that a record of the
test split shares with the other splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyfastx
from composition_baselines import codons_and_residues, draw_training, in_blocks, open_index
from sklearn.metrics import roc_auc_score

from virnuc_assets.evaluation.metrics import balanced_weights
from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.validation import KINDS

WORD = 21
SKETCH = 4
"""One word in so many is looked at, which ones by a hash."""
WINDOW = 500
IDENTITY, OVER = 0.9, 0.5
SHARED, TOUCHED = OVER * IDENTITY**WORD / 2, 0.8 * OVER
RIDGE = 1e-2
_BATCH_BASES = 1 << 22
_CODE = np.full(256, 4, np.uint8)
_CODE[np.frombuffer(b"ACGT", np.uint8)] = range(4)

_ODD = np.uint64(0x9E3779B97F4A7C15)

_Words = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of each place: the word there, its reverse complement, and whether all its bases are plain."""


def shuffled_labels(
    corpus: Corpus, length: int, frames: int, index: Path, labels: pl.DataFrame, shuffles: int
) -> dict[str, Any]:
    """AUROC on the test frames of classifiers fitted to labels exchanged among training genomes.

    The classifier is the one of least squares with a ridge, on codons, residues and pairs of
    residues: with one decomposition it is fitted to any number of labellings, and many are needed.
    Genomes differ in composition from one another, so a single exchange may by chance go with the
    truth or against it; only the mean over exchanges must be one half. All frames of a genome
    (virus cluster, family or genus) keep one label.

    In truth two genomes of three are viral. Exchanged so, the mean need not be one half quite, as
    labellings are not as likely as their opposites; where half of the genomes drawn are called
    viral, they are. Both are told.

    Args:
        corpus: its split `train` is fitted on.
        length: bases of windows.
        frames: how many are fitted on.
        index: of the test records.
        labels: id, is_virus and group of the test records.
        shuffles: how many exchanges.
    """
    known, training = draw_training(corpus, length, frames)
    features = in_blocks(codons_and_residues, training.nucleotides, training.proteins)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    features = (features - mean) / deviation
    names = np.char.add(np.char.add(known.group, "\n"), known.genome)[training.stretch]
    _, one_of, genome = np.unique(names, return_index=True, return_inverse=True)
    of_genome = known.is_virus[training.stretch][one_of]
    rng = np.random.default_rng(0)
    half = np.arange(len(of_genome)) < len(of_genome) // 2
    exchanged = [of_genome]
    exchanged += [rng.permutation(half) for _ in range(shuffles)]
    exchanged += [rng.permutation(of_genome) for _ in range(shuffles)]
    given = np.stack(exchanged, axis=1).astype(np.float64)
    # Sums over the frames of a genome, as its frames have one label.
    sums = np.zeros((len(of_genome), features.shape[1]))
    np.add.at(sums, genome, features)
    share = np.bincount(genome) @ given / len(genome)
    products = features.T @ features + RIDGE * len(features) * np.eye(features.shape[1])
    weights = np.linalg.solve(products, sums.T @ (given - share))

    test = open_index(index)
    scores = test.blocks(lambda dna, protein: _scaled(dna, protein, mean, deviation) @ weights)
    truth = labels.select(
        "id", "is_virus", kind=pl.col("group").replace_strict(KINDS, return_dtype=pl.String)
    )
    records = pl.read_parquet(index / "records.parquet", columns=["id"])
    truth = records.join(truth, on="id", how="left", maintain_order="left")
    of_frame = truth[test.table["record"].to_numpy()]
    is_virus = of_frame["is_virus"].to_numpy()
    weight = balanced_weights(of_frame["kind"].to_numpy(), is_virus)
    found = np.array([roc_auc_score(is_virus, column, sample_weight=weight) for column in scores.T])
    return {
        "classifier": "least squares on codons, residues and pairs of residues",
        "chunk_length": length,
        "training_frames": frames,
        "training_genomes": len(of_genome),
        "test_frames": len(is_virus),
        "true_labels_auroc": round(float(found[0]), 4),
        "half_of_the_genomes_viral": _summary(found[1 : shuffles + 1]),
        "as_many_viral_as_in_truth": _summary(found[shuffles + 1 :]),
    }


def _summary(found: np.ndarray) -> dict[str, float]:
    deviation = float(found.std(ddof=1))
    return {
        "shuffles": len(found),
        "mean_auroc": round(float(found.mean()), 4),
        "standard_error": round(deviation / len(found) ** 0.5, 4),
        "deviation_of_one_shuffle": round(deviation, 4),
    }


def _scaled(
    nucleotides: Sequence[str], proteins: Sequence[str], mean: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
    return (codons_and_residues(nucleotides, proteins) - mean) / deviation


def shared_words(data: Path, table: pl.DataFrame) -> dict[str, Any]:
    """Test records that share words with the other splits as a near-identical stretch would.

    Words are of 21 bases, the same for both strands; by chance some 0.01 % of a record's are found
    in so many bases. Where half of a record is 90 % identical to another sequence and differences
    fall anywhere, 0.5 × 0.9^21 = 5.5 % of its words are shared. Differences in clusters only leave
    more words whole, but short records have few words. A gene that hardly changes (of ribosomal
    RNA) or a transposon is shared too, and fills a small part of a record. Where half of a record
    is 90 % identical, nearly all windows of 500 bases in it have a shared word.

    So a record is under suspicion when half of these 5.5 % of its words are shared, and of its
    windows 40 % have a shared word. That is no alignment: it rather suspects too many.

    Args:
        data: folder of the genomes.
        table: record_id, file, group, split and length.
    """
    test = table.filter(pl.col("split") == "test")
    of_test = [
        (name, letters)
        for file in test["file"].unique().sort()
        for name, letters in _records(data / file)
    ]
    known = np.unique(np.concatenate([_words(letters)[0] for _, letters in of_test]))
    seen = np.zeros(len(known), bool)
    for letters in _batches(data, table.filter(pl.col("split") != "test")):
        found = np.unique(_words(letters)[0])
        place = np.searchsorted(known, found)
        place[place == len(known)] = 0
        seen[place[known[place] == found]] = True
    rows = []
    for name, letters in of_test:
        its_words, start = _words(letters)
        shared = seen[np.searchsorted(known, its_words)]
        windows = -(-len(letters) // WINDOW)
        touched = len(np.unique(start[shared] // WINDOW))
        rows.append(
            (name, len(its_words), float(shared.mean() if len(shared) else 0), touched / windows)
        )
    columns = ["record_id", "words", "shared", "windows_touched"]
    found_table = pl.DataFrame(rows, schema=columns, orient="row").join(
        test.select("record_id", "group", "organism", "length"), on="record_id"
    )
    many = found_table.filter(pl.col("shared") >= SHARED).sort("shared", descending=True)
    suspected = pl.col("windows_touched") >= TOUCHED
    return {
        "word": WORD,
        "expected_share_at_90_percent_over_half": round(OVER * IDENTITY**WORD, 4),
        "test_records": len(found_table),
        "median_share": round(float(np.median(found_table["shared"])), 5),
        "suspected": _rows(many.filter(suspected)),
        "as_many_words_in_fewer_windows": _rows(many.filter(~suspected)),
    }


def _rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in table.iter_rows(named=True)
    ]


def _records(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    for name, sequence in pyfastx.Fastx(str(path)):
        yield name, np.frombuffer(sequence.upper().encode(), np.uint8)


def _batches(data: Path, table: pl.DataFrame) -> Iterator[np.ndarray]:
    """The letters of files, some 4 MB at a time, records parted by an N."""
    held: list[np.ndarray] = []
    gap = np.frombuffer(b"N", np.uint8)
    for file in table["file"].unique().sort():
        for _, letters in _records(data / file):
            held += [letters, gap]
            if sum(map(len, held)) >= _BATCH_BASES:
                yield np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)


def _words(letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Words of the sketch, each strand's the smaller, uint64 (n,); where they start."""
    code = _CODE[letters]
    plain = code < 4
    forward = np.where(plain, code, 0).astype(np.uint64)
    # Words of 1, 2, 4, … bases, joined to the length that is wanted.
    piece: _Words = (forward, np.uint64(3) - forward, plain)
    whole: _Words = (np.zeros_like(forward), np.zeros_like(forward), np.ones_like(plain))
    size, done = 1, 0
    while done < WORD:
        if WORD & size:
            whole = _joined(whole, done, piece, size)
            done += size
        piece = _joined(piece, size, piece, size)
        size *= 2
    word = np.minimum(whole[0], whole[1])
    drawn = word * _ODD >> np.uint64(32) & np.uint64(SKETCH - 1) == 0
    start = np.flatnonzero(whole[2] & drawn)
    return word[start], start


def _joined(left: _Words, left_size: int, right: _Words, right_size: int) -> _Words:
    """Words of `left` with those of `right` that begin where they end."""
    count = min(len(left[0]), max(len(right[0]) - left_size, 0))
    after = slice(left_size, left_size + count)
    two = np.uint64(2)
    return (
        left[0][:count] << two * np.uint64(right_size) | right[0][after],
        right[1][after] << two * np.uint64(left_size) | left[1][:count],
        left[2][:count] & right[2][after],
    )
