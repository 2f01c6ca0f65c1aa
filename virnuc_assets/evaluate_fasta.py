"""Labelled FASTA files → calls, and how good they are, below one folder.

Everything that people give is read and checked before anything is embedded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from virnuc_assets import console, pipeline
from virnuc_assets.classifier import result_files
from virnuc_assets.errors import InputError
from virnuc_assets.evaluation import mask as masks
from virnuc_assets.evaluation import other_calls, scored, truth
from virnuc_assets.evaluation.evaluate import OURS
from virnuc_assets.evaluation.write import (
    JSON,
    PAGE,
    TSV,
    Evaluated,
    headline,
    write_evaluation,
)
from virnuc_assets.mini.bundled import described
from virnuc_assets.predict_fasta import predict_files
from virnuc_assets.sequences.manifest import RECORDS_FILE
from virnuc_assets.settings import Settings
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import register, sample_name


@dataclass(frozen=True)
class Labelled:
    """FASTA files and where their labels come from."""

    mixed: tuple[Path, ...]
    """Files whose records the truth table labels."""
    truth: Path | None
    """Columns id, label (virus or other) and, where it is known, group."""
    virus: tuple[Path, ...]
    """Files of viruses alone."""
    other: tuple[Path, ...]
    """Files of anything but viruses."""

    @property
    def files(self) -> list[Path]:
        """All FASTA files, in this order."""
        return [*self.mixed, *self.virus, *self.other]

    def check(self) -> None:
        """Refuse files without labels, and labels without files.

        Raises:
            InputError: there are such.
        """
        if not self.files:
            raise InputError(
                "nothing to evaluate; give FASTA files with --truth TABLE, or --virus FILE and "
                "--other FILE"
            )
        if self.mixed and self.truth is None:
            raise InputError(
                f"{self.mixed[0]}: what its records are is not given; add --truth TABLE, or give a "
                "file of one class with --virus or --other"
            )
        if self.truth is not None and not self.mixed:
            raise InputError(
                f"--truth {self.truth}: labels the records of files given without --virus and "
                "--other, and there are none; give them, or leave --truth out"
            )


def evaluate_files(
    labelled: Labelled, calls: Sequence[str], mask: Path | None, settings: Settings
) -> bool:
    """Call the records of labelled files into `settings.store`, and measure the calls there.

    Args:
        labelled: at least one file.
        calls: tables of other tools' calls, `path` or `name=path`.
        mask: intervals to leave out.
        settings: which models, and where everything is written.

    Returns:
        Whether it was measured; not where a file could not be called, which has then been said.

    Raises:
        InputError: a file or a table cannot be used, or they do not belong together.
        StoreError: the store cannot be written.
    """
    labelled.check()
    layout = Layout(settings.store)
    table = None if labelled.truth is None else truth.read_truth(labelled.truth)
    tools = other_calls.named_files(calls, taken=OURS)
    called = {name: other_calls.read_calls(path) for name, path in tools.items()}
    hidden = None if mask is None else masks.read_mask(mask)
    samples = _index(labelled, layout, settings.models.chunk_length)
    labels = _label(labelled, table, samples)
    for name, path in tools.items():
        other_calls.check_known(path, called[name], labels["id"])
    if hidden is not None and not hidden["id"].is_in(labels["id"].implode()).any():
        console.warn(f"{mask}: names none of the records, so that it leaves out nothing")
    if predict_files(labelled.files, settings):
        return False
    chunk_length = settings.models.chunk_length
    parts = [
        scored.read_scored(layout.predictions(str(name)), rows, hidden, chunk_length)
        for (name,), rows in labels.group_by("sample", maintain_order=True)
    ]
    first = read_json(layout.predictions(next(iter(samples))) / result_files.MANIFEST)
    evaluated = Evaluated(
        title=settings.store.name,
        model=first["model"],
        chunk_length=chunk_length,
        scored=scored.together(parts),
        tools=called,
        provenance=_provenance(labelled, tools, mask, first["provenance"]),
    )
    _show(write_evaluation(settings.store, evaluated), evaluated, settings.store)
    return True


def _show(rows: pl.DataFrame, evaluated: Evaluated, folder: Path) -> None:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    metrics = ("auroc", "auprc", "recall_at_1_percent_fpr", "ece")
    of_calls = ("call_recall", "call_false_positive_rate", "call_mcc")
    header = ("AUROC", "AUPRC", "recall at 1 % FPR", "ECE", "recall", "FPR", "MCC of calls")
    console.table(
        f"{evaluated.title}: chunks of {evaluated.chunk_length} bases, all groups weigh the same",
        ("tool", "level", "n", "virus", "no call", *header),
        (
            (
                row["tool"],
                row["level"],
                str(row["n"]),
                str(row["n_virus"]),
                "" if row["n_no_call"] is None else str(row["n_no_call"]),
                *(number(row[name]) for name in (*metrics, *of_calls)),
            )
            for row in headline(rows).iter_rows(named=True)
        ),
        right=("n", "virus", "no call", *header),
    )
    masked = evaluated.scored
    if "mask" in evaluated.provenance:
        console.result(
            f"the mask left out {masked.n_masked_chunks} chunks, and {masked.n_masked_records} "
            "records of which it left no called chunk"
        )
    console.result(f"model: {described(evaluated.model)}")
    console.files_made({"page": folder / PAGE, "table": folder / TSV, "all numbers": folder / JSON})


def _index(labelled: Labelled, layout: Layout, chunk_length: int) -> dict[str, pl.DataFrame]:
    """Index every file; sample and id of its records, by sample."""
    samples: dict[str, pl.DataFrame] = {}
    for path in labelled.files:
        name = sample_name(path)
        if name in samples:
            raise InputError(
                f"{path}: is sample {name}, and so is a file given before; give each file once, "
                "under a name of its own"
            )
        register(layout, name, path)
        if pipeline.index_there(layout.index(name), path, chunk_length) is None:
            pipeline.index_sample(layout, name, chunk_length)
        records = result_files.read_parquet(layout.index(name) / RECORDS_FILE, ["id"])
        samples[name] = records.select(pl.lit(name).alias("sample"), pl.col("id").cast(pl.String))
    return samples


def _label(
    labelled: Labelled, table: pl.DataFrame | None, samples: dict[str, pl.DataFrame]
) -> pl.DataFrame:
    """sample, id, is_virus and group of every record."""
    parts = []
    if labelled.truth is not None and table is not None:
        mixed = pl.concat([samples[sample_name(path)] for path in labelled.mixed])
        parts.append(truth.label_by_table(mixed, table, labelled.truth))
    for paths, is_virus in ((labelled.virus, True), (labelled.other, False)):
        parts += [truth.label_by_file(samples[sample_name(path)], is_virus) for path in paths]
    labels = pl.concat(parts)
    truth.check_labels(labels)
    return labels


def _provenance(
    labelled: Labelled, tools: Mapping[str, Path], mask: Path | None, models: Mapping[str, str]
) -> dict[str, str]:
    """What the numbers come from; of every file its name and SHA-256."""
    of_sample = ("sample", "input_sha256", "index_digest")
    found = {key: value for key, value in models.items() if key not in of_sample}
    files = [(f"file {path.name}", path) for path in labelled.files]
    files += [(f"calls of {name}", path) for name, path in tools.items()]
    files += [(what, path) for what, path in (("truth", labelled.truth), ("mask", mask)) if path]
    return found | {what: f"{path.name} sha256:{sha256_file(path)}" for what, path in files}
