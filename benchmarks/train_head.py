"""A head made by `virnuc train-head` on a model's embeddings, beside the head it was trained with.

Pieces of 1000 bases are drawn from the labelled genomes: the training and validation genomes that
`python -m virnuc_assets.training corpus` with seed 1 gives, on which the mini model was trained and
chosen, and the test genomes. In training a group is drawn by the square root of its bases, for
validation and test all groups alike, a genome by `genome_weights`, and nothing that is masked.
`virnuc train-head` trains on them in chunks of 500; then both heads score the same frames. The test
part chooses nothing.

Encoders and the head beside which the new one is shown are those of the environment (VIRNUC_ESM2,
VIRNUC_DNABERT_S) and of `--head`, a folder.

    python benchmarks/train_head.py DATA --work WORK --head HEAD \
        --output benchmarks/results/train-head.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from esm2_cpu import processor

from virnuc_assets import pipeline
from virnuc_assets.classifier.head import Head, load_head
from virnuc_assets.store.layout import Layout
from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.features import EmbeddedSample, Features
from virnuc_assets.training.fragments import genome_weights
from virnuc_assets.training.frames import NO_MASK, IndexedSample, labelled_frames
from virnuc_assets.training.genomes import read_genomes
from virnuc_assets.training.labelled import SPLITS, Split, read_labelled
from virnuc_assets.training.margins import balanced_auroc
from virnuc_assets.training.validation import KINDS

MANIFEST, RECORDS, MASK = "manifest.tsv", "records.tsv.gz", "phage_like_regions.tsv"
PIECES: dict[Split, int] = {"validation": 8_000, "train": 40_000, "test": 6_000}
PIECE, SHORTEST = 1000, 500
CHUNK, SHARDS = 500, 8
SAMPLE = f"pool-000-{CHUNK}"
SEED, CORPUS_SEED = 5, 1


def main() -> None:
    """Draw, train, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the labelled genomes and their tables")
    parser.add_argument("--work", type=Path, required=True, help="what later calls go on from")
    parser.add_argument("--head", type=Path, required=True, help="the head to compare with")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if not (options.work / "manifest.tsv").exists():
        draw_pieces(options.data, options.work)
    trained = train(options.work)
    features = open_features(options.work)
    heads = {"train-head": load_head(trained), "trained with the encoders": load_head(options.head)}
    metrics = json.loads((trained / "metrics.json").read_text())
    result: dict[str, Any] = {
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "pieces": PIECES,
        "frames": {split: len(features.frames.part(split)) for split in SPLITS},
        "best_epoch": metrics["best_epoch"],
        "epochs": metrics["epochs"],
    }
    for split in ("validation", "test"):
        result[split] = {name: compare(features, split, head) for name, head in heads.items()}
    text = json.dumps(result, indent=2)
    print(text)
    options.output.write_text(text + "\n")


def draw_pieces(data: Path, work: Path) -> None:
    """Write the pieces, a FASTA file for each split and group, and the two tables."""
    known = read_genomes(data / MANIFEST, data / RECORDS, data / MASK, CORPUS_SEED)
    rng = np.random.default_rng(SEED)
    files, records = ["file\tclass\tgroup\tsplit"], ["record_id\tfile\tgenome"]
    for split in PIECES:
        corpus = genomes_for_testing(data, work) if split == "test" else known
        of_split = np.ones(len(corpus.split), bool) if split == "test" else corpus.split == split
        usable = of_split & ~corpus.masked & (corpus.lengths >= SHORTEST)
        groups = np.unique(corpus.group[usable])
        bases = [corpus.lengths[usable & (corpus.group == group)].sum() for group in groups]
        share = np.sqrt(bases) if split == "train" else np.ones(len(groups))
        counts = np.round(share / share.sum() * PIECES[split]).astype(int)
        for group, count in zip(groups, counts, strict=True):
            of = np.flatnonzero(usable & (corpus.group == group))
            name = f"{split}_{group}.fa"
            with (work / name).open("w") as fasta:
                for stretch, text in pieces(corpus, of, count, rng):
                    number = len(records) - 1
                    fasta.write(f">p{number}\n{text}\n")
                    records.append(f"p{number}\t{name}\t{group}|{corpus.genome[stretch]}")
            label = "virus" if corpus.is_virus[of[0]] else "other"
            files.append(f"{name}\t{label}\t{group}\t{split}")
    (work / "records.tsv").write_text("\n".join(records) + "\n")
    (work / "manifest.tsv").write_text("\n".join(files) + "\n")


def pieces(
    corpus: Corpus, of: np.ndarray, count: int, rng: np.random.Generator
) -> list[tuple[int, str]]:
    """Up to `count` different pieces of stretches `of`: stretch and letters."""
    weight = genome_weights(corpus, of)
    stretch = rng.choice(of, count, p=weight / weight.sum())
    room = np.maximum(corpus.lengths[stretch] - PIECE + 1, 1)
    start = (rng.random(count) * room).astype(np.int64)
    drawn = np.unique(np.stack([stretch, start]), axis=1).T
    first = corpus.offsets[drawn[:, 0]] + drawn[:, 1]
    last = np.minimum(first + PIECE, corpus.offsets[drawn[:, 0] + 1])
    return [
        (int(one), corpus.letters[a:b].tobytes().decode())
        for one, a, b in zip(drawn[:, 0], first, last, strict=True)
    ]


def genomes_for_testing(data: Path, work: Path) -> Corpus:
    """The genomes of the split test, by a table that names the splits the other way round."""
    turned = {"train": "test", "validation": "test", "test": "train"}
    table = pl.read_csv(data / RECORDS, separator="\t", infer_schema=False, quote_char=None)
    path = work / "turned.tsv"
    table.with_columns(pl.col("split").replace(turned)).write_csv(path, separator="\t")
    return read_genomes(data / MANIFEST, path, data / MASK, CORPUS_SEED)


def train(work: Path) -> Path:
    """Call `virnuc train-head`; the head's folder."""
    folder = work / "head"
    command = [sys.executable, "-m", "virnuc_assets.cli", "train-head", "--name", "benchmark"]
    command += ["--manifest", f"{work / 'manifest.tsv'}", "--records", f"{work / 'records.tsv'}"]
    command += ["--work", f"{work / 'store'}", "--out", f"{folder}"]
    command += ["--chunk-length", f"{CHUNK}", "--device", "cpu"]
    environment = {**os.environ, "VIRNUC_SHARDS": str(SHARDS), "VIRNUC_STORE": str(work)}
    subprocess.run(command, env=environment, check=True)
    return folder


def open_features(work: Path) -> Features:
    """What `train-head` embedded and labelled: one pool, cut into chunks of one length."""
    labelled = read_labelled(work / "manifest.tsv", work / "records.tsv")
    ids = {
        file: [line[1:] for line in file.read_text().split("\n") if line.startswith(">")]
        for file in labelled.files
    }
    records = [record for file in ids for record in labelled.label(file, ids[file])]
    layout = Layout(work / "store")
    opened = pipeline.open_embeddings(layout, SAMPLE, SHARDS)
    set_aside = (opened.dna.set_aside, opened.protein.set_aside)
    sample = IndexedSample(layout.index(SAMPLE), CHUNK, np.arange(len(records)), set_aside)
    frames = labelled_frames([sample], records, NO_MASK)
    return Features(frames, [EmbeddedSample(opened.dna, opened.protein)])


def compare(features: Features, split: Split, head: Head) -> dict[str, float]:
    """AUROCs of a part: groups weighing the same, and kinds, as `Validation` has them."""
    rows = features.frames.part(split)
    values, width = features.take(rows), features.dims[0]
    score = head.score(values[:, :width], values[:, width:])[:, 1].astype(np.float64)
    is_virus, group = features.frames.is_virus[rows], features.frames.group_names(rows)
    kind = np.array([KINDS[str(name)] for name in group])
    some = group != "mitochondrion"
    return {
        "auroc_groups_alike": balanced_auroc(score, group, is_virus),
        "auroc_kinds_alike": balanced_auroc(score[some], kind[some], is_virus[some]),
    }


if __name__ == "__main__":
    main()
