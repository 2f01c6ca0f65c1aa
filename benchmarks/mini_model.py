"""The mini model on genera it never saw, beside simple models of composition on the same frames.

Takes the split `test` of a labelled data set: whole records in a random order until every genus of
bacteria and archaea, and plant RNA viruses, have enough bases, and all of the other groups. They
go through what `virnuc evaluate` runs, in chunks of 500 and of 300 bases. Models of composition,
fitted to the other splits, score the same frames, and one rule makes records of frames for all (see
`composition_baselines.py`). Nothing is chosen by the test split.

The headline weighs kinds alike: phages, RNA viruses and eukaryotic DNA viruses; bacteria with their
plasmids, archaea, and eukaryotes with their organelles. It leaves out the records that training
genomes may hold too, and nothing else; with the mask of phage-like regions, chunks that it covers
by half or more are left out as well.

Two controls of leaks are in `leak_control.py`, and the speed of `virnuc predict` on reads of 150
bases is measured too. Each stage keeps what it found in the work folder, and a later call with
other `--stages` goes on from there. Models are those of the environment (VIRNUC_ESM2 and its like).

    python benchmarks/mini_model.py DATA --work WORK --output benchmarks/results/mini-model.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pyfastx
from composition_baselines import fit_baselines, score_with_baselines
from esm2_cpu import processor
from leak_control import shared_words, shuffled_labels

from virnuc_assets.classifier import result_files
from virnuc_assets.evaluation.evaluate import LEFT_OUT, measure_levels
from virnuc_assets.evaluation.mask import read_mask
from virnuc_assets.evaluation.scored import Scored, read_scored
from virnuc_assets.predict_fasta import predict_files
from virnuc_assets.settings import Settings, from_environment
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.layout import Layout
from virnuc_assets.training.corpus import Corpus, read_corpus, write_corpus
from virnuc_assets.training.genomes import read_genomes
from virnuc_assets.training.validation import KINDS

ROOT = Path(__file__).parents[1]
MANIFEST, RECORDS, MASK = "manifest.tsv", "records.tsv.gz", "phage_like_regions.tsv"
MINI = "virnuc-mini-1"
ENOUGH_BASES = {"bacteria": 50_000, "archaea": 200_000, "plant-rna-virus": 1_000_000}
"""Of a group's genus, or of the group where genera are not told."""
READS, READ_LENGTH = 10_000, 150
KIND_COLUMNS = ("phage", "RNA virus", "eukaryotic DNA virus")
SEED = 1
PLAIN, MASKED = "all", "masked"


def main() -> None:
    """Run the stages asked for, gather what there is, print, write."""
    stages: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "records": draw_records,
        "calls": call_records,
        "baselines": make_baselines,
        "overlap": control_by_words,
        "metrics": measure_models,
        "shuffled": control_by_shuffling,
        "speed": measure_speed,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the labelled genomes and their tables")
    parser.add_argument("--work", type=Path, required=True, help="what later calls go on from")
    parser.add_argument("--corpus", type=Path, help="of `python -m virnuc_assets.training corpus`")
    parser.add_argument("--stages", nargs="+", choices=list(stages), default=list(stages))
    parser.add_argument("--lengths", nargs="+", type=int, default=[500, 300], help="of chunks")
    parser.add_argument("--share", type=float, default=1.0, help="of each group's test records")
    parser.add_argument("--frames", type=int, default=70_000, help="that baselines are fitted on")
    parser.add_argument("--shuffles", type=int, default=2000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.stages:
        began = time.monotonic()
        found = stages[name](options)
        (options.work / f"{name}.json").write_text(json.dumps(found))
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    result = {
        name: json.loads((options.work / f"{name}.json").read_text())
        for name in stages
        if (options.work / f"{name}.json").exists()
    }
    result = {"machine": f"{processor()}, {os.cpu_count()} cores", "model": MINI, **result}
    print_result(result)
    write_result(options.output, result)


def draw_records(options: argparse.Namespace) -> dict[str, Any]:
    """Write `labels.tsv` (id, group, length, is_virus, file) and `test.fa` to the work folder."""
    records = _table(options.data).filter(pl.col("split") == "test").sort("record_id")
    rng = np.random.default_rng(SEED)
    records = records[rng.permutation(len(records))]
    taken = pl.col("length").cum_sum().over("group", "genus") - pl.col("length")
    limit = pl.col("group").replace_strict(ENOUGH_BASES, default=None, return_dtype=pl.Int64)
    drawn = records.filter((taken < limit).fill_null(True))
    labels = drawn.select(
        "group", "length", "file", id="record_id", is_virus=pl.col("class") == "virus"
    )
    labels.write_csv(options.work / "labels.tsv", separator="\t")
    place, of_group = pl.int_range(pl.len()).over("group"), pl.len().over("group")
    drawn = labels.filter(place < (options.share * of_group).ceil())
    write_records(options.work / "test.fa", options.data, drawn)
    groups = drawn.group_by("group").agg(pl.len(), pl.col("length").sum()).sort("group")
    return {
        "bases_of_the_whole_split": int(records["length"].sum()),
        "records": len(drawn),
        "bases": int(drawn["length"].sum()),
        "records_and_bases_of_groups": {name: of for name, *of in groups.iter_rows()},
    }


def write_records(fasta: Path, data: Path, labels: pl.DataFrame) -> None:
    """Write the records of `labels` (file and id), in their files' order."""
    wanted = set(labels["id"])
    with fasta.open("w") as output:
        for file in labels["file"].unique().sort():
            for name, sequence in pyfastx.Fastx(str(data / file)):
                if name in wanted:
                    output.write(f">{name}\n{sequence}\n")


def call_records(options: argparse.Namespace) -> dict[str, Any]:
    """Index, embed and call the test records in chunks of each length; says by what."""
    found: dict[str, Any] = {}
    for length in options.lengths:
        settings = _settings(options, length)
        if predict_files([options.work / "test.fa"], settings):
            raise SystemExit(f"{settings.store}: not all was called; see what was said above")
        results = Layout(settings.store).predictions("test")
        found[str(length)] = read_json(results / result_files.MANIFEST)
    return found


def make_baselines(options: argparse.Namespace) -> dict[str, Any]:
    """Fit the models of composition, and keep them."""
    corpus = _corpus(options)
    found: dict[str, Any] = {"frames": options.frames}
    for length in options.lengths:
        models = fit_baselines(corpus, length, options.frames)
        joblib.dump(models, options.work / f"baselines-{length}.joblib")
        found[str(length)] = {model.name: model.facts for model in models}
    return found


def measure_models(options: argparse.Namespace) -> dict[str, Any]:
    """Metrics of every model, chunk length, mask, level and kind; and of every group.

    Records that may be in the training genomes are left out everywhere, as if masked as a whole.
    """
    labels = pl.read_csv(options.work / "labels.tsv", separator="\t")
    kinds = labels.with_columns(pl.col("group").replace_strict(KINDS))
    overlap = json.loads((options.work / "overlap.json").read_text())
    known = [row["record_id"] for row in overlap["suspected"]]
    suspected = labels.filter(pl.col("id").is_in(known)).select(
        "id", start=pl.lit(0, pl.Int64), end="length"
    )
    left_out = {
        PLAIN: suspected,
        MASKED: pl.concat([suspected, read_mask(options.data / MASK)]),
    }
    by_kind, by_group, count = [], [], {}
    for length in options.lengths:
        layout = Layout(_settings(options, length).store)
        results = {MINI: layout.predictions("test")}
        models = joblib.load(options.work / f"baselines-{length}.joblib")
        results |= score_with_baselines(models, layout.index("test"), results[MINI])
        for (model, folder), (name, hidden) in product(results.items(), left_out.items()):
            which = {"model": model, "chunk_length": length, "measured": name}
            scored = read_scored(folder, kinds, hidden, length)
            by_kind += _rows(scored, which)
            by_group += _rows(read_scored(folder, labels, hidden, length), which)
            count[f"{length}, {name}"] = {
                "chunks_left_out": scored.n_masked_chunks,
                "chunks": scored.n_chunks,
                "records": len(scored.records),
            }
    return {"measured": count, "by_kind": by_kind, "by_group": by_group}


def _rows(scored: Scored, which: dict[str, Any]) -> list[dict[str, Any]]:
    rows = measure_levels(scored).filter(
        (pl.col("no_call") == LEFT_OUT) & pl.col("level").is_in(["frames", "records_3kb"])
    )
    return [
        which | {key: _short(value) for key, value in row.items()}
        for row in rows.drop("tool", "no_call").iter_rows(named=True)
    ]


def control_by_shuffling(options: argparse.Namespace) -> dict[str, Any]:
    """See `leak_control.shuffled_labels`."""
    length = max(options.lengths)
    layout = Layout(_settings(options, length).store)
    labels = pl.read_csv(options.work / "labels.tsv", separator="\t")
    return shuffled_labels(
        _corpus(options), length, options.frames, layout.index("test"), labels, options.shuffles
    )


def control_by_words(options: argparse.Namespace) -> dict[str, Any]:
    """See `leak_control.shared_words`; of the whole test split."""
    return shared_words(options.data, _table(options.data))


def measure_speed(options: argparse.Namespace) -> dict[str, Any]:
    """`virnuc predict` on reads, as a process of its own: seconds, memory, and how good it is."""
    labels = pl.read_csv(options.work / "labels.tsv", separator="\t")
    reads = options.work / "reads.fa"
    of_read = write_reads(options.work / "test.fa", reads, labels)
    store = options.work / f"reads-{time.time_ns()}"
    command = ["-c", "from virnuc_assets.cli.main import main; main()", "predict", str(reads)]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    load = os.getloadavg()[0]
    began, before = time.monotonic(), os.times()
    process = subprocess.Popen([sys.executable, *command, "-o", str(store)], env=environ)
    highest: Counter[str] = Counter()
    while process.poll() is None:
        resident = _resident(process.pid)
        highest |= Counter({"largest": max(resident, default=0), "together": sum(resident)})
        time.sleep(0.1)
    seconds, after = time.monotonic() - began, os.times()
    if process.returncode:
        raise SystemExit(f"virnuc predict ended with {process.returncode}")
    scored = read_scored(Layout(store).predictions("reads"), of_read, None, max(options.lengths))
    rows = measure_levels(scored).filter(pl.col("no_call") == LEFT_OUT, pl.col("label") == "all")
    return {
        "reads": READS,
        "read_length": READ_LENGTH,
        "seconds": seconds,
        "processor_seconds": sum(after[2:4]) - sum(before[2:4]),
        "load_before": load,
        "peak_mb_of_all_processes_together": highest["together"] / 1e6,
        "peak_mb_of_the_largest_process": highest["largest"] / 1e6,
        "without_a_frame": int(scored.records["call"].null_count()),
        "metrics": [
            {key: _short(value) for key, value in row.items()}
            for row in rows.filter(pl.col("weight") == "groups").iter_rows(named=True)
        ],
    }


def write_reads(fasta: Path, output: Path, labels: pl.DataFrame) -> pl.DataFrame:
    """Windows of the test records, of every kind as many, either strand; returns their labels."""
    sequences = {name: sequence.upper() for name, sequence in pyfastx.Fastx(str(fasta))}
    rng = np.random.default_rng(SEED)
    kinds = sorted(set(KINDS.values()))
    rows = []
    labels = labels.filter(pl.col("length") >= READ_LENGTH).with_columns(
        pl.col("group").replace_strict(KINDS)
    )
    reverse = str.maketrans("ACGT", "TGCA")
    with output.open("w") as file:
        for number in range(READS):
            kind = labels.filter(pl.col("group") == kinds[number % len(kinds)])
            bases = kind["length"].to_numpy()
            row = kind.row(int(rng.choice(len(kind), p=bases / bases.sum())), named=True)
            start = int(rng.integers(row["length"] - READ_LENGTH + 1))
            read = sequences[row["id"]][start : start + READ_LENGTH]
            if rng.random() < 0.5:
                read = read.translate(reverse)[::-1]
            file.write(f">read{number}\n{read}\n")
            rows.append((f"read{number}", row["is_virus"], row["group"]))
    return pl.DataFrame(rows, schema=["id", "is_virus", "group"], orient="row")


def _resident(root: int) -> list[int]:
    """Resident bytes of a process and all below it; memory that two share counts in both."""
    parents, resident = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            parents[int(folder.name)] = int(stat[1])
            resident[int(folder.name)] = int(stat[21]) * os.sysconf("SC_PAGE_SIZE")
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return [resident.get(pid, 0) for pid in family]


def print_result(result: dict[str, Any]) -> None:
    """The tables that matter most, as far as their stages have run."""
    print(result["machine"])
    rows = result.get("metrics", {}).get("by_kind", [])
    lengths = dict.fromkeys(row["chunk_length"] for row in rows)
    for level, length, measured in product(("frames", "records_3kb"), lengths, (PLAIN, MASKED)):
        which = (level, length, measured)
        if these := [x for x in rows if (x["level"], x["chunk_length"], x["measured"]) == which]:
            print(f"\n{level}, chunks of {length}, {measured}")
            _print_models(these)
    for name in ("shuffled", "overlap", "speed"):
        if name in result:
            short = {
                key: len(of) if isinstance(of, list) else of for key, of in result[name].items()
            }
            print(f"\n{name}: {json.dumps(short)}")


def _print_models(rows: list[dict[str, Any]]) -> None:
    columns = ("auroc", "auprc", "mcc", "recall_at_1_percent_fpr", "ece")
    heads = (*columns[:3], "rec@1%", columns[4], "items", *KIND_COLUMNS)
    print(" " * 40 + "".join(f"{head[:12]:>13}" for head in heads))
    for model in dict.fromkeys(row["model"] for row in rows):
        of = {(row["group"], row["weight"]): row for row in rows if row["model"] == model}
        values = [of["all", "groups"][name] for name in columns]
        values += [of["all", "items"]["auroc"]]
        values += [of[kind, "groups"]["auroc"] for kind in KIND_COLUMNS]
        print(f"{model:<40}" + "".join(f"{value:>13.4f}" for value in values))


def write_result(path: Path, result: dict[str, Any]) -> None:
    """As JSON, rows of metrics one a line."""
    text = json.dumps(result, indent=1)
    metrics = result.get("metrics")
    if metrics:
        tables = {name: metrics[name] for name in ("by_kind", "by_group")}
        marked = result | {"metrics": metrics | {name: f"@{name}" for name in tables}}
        text = json.dumps(marked, indent=1)
        for name, rows in tables.items():
            lines = ",\n   ".join(json.dumps(row) for row in rows)
            text = text.replace(f'"@{name}"', f"[\n   {lines}\n  ]")
    path.write_text(text + "\n")


def _settings(options: argparse.Namespace, length: int) -> Settings:
    settings = from_environment()
    models = replace(settings.models, chunk_length=length)
    return replace(settings, store=(options.work / str(length)).absolute(), models=models)


def _corpus(options: argparse.Namespace) -> Corpus:
    """The training and validation genomes: as given, as made by an earlier call, or made now."""
    path = options.corpus or options.work / "corpus.npz"
    if not path.exists():
        tables = (options.data / name for name in (MANIFEST, RECORDS, MASK))
        write_corpus(path, read_genomes(*tables, SEED))
    return read_corpus(path)


def _table(data: Path) -> pl.DataFrame:
    """The table of records; an id names one record over all files."""
    table = pl.read_csv(data / RECORDS, separator="\t", infer_schema_length=0)
    return table.with_columns(pl.col("length").cast(pl.Int64))


def _short(value: object) -> object:
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
