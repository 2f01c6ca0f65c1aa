"""`virnuc`: the same stages as the assets, from a shell.

Exit codes: 0 all done, 1 failed, 2 some files done and some not (`failed.tsv` says which and why),
130 interrupted.

What only some commands need is imported by these: the shell answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from virnuc_assets import __version__, console
from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName, LongSequences
from virnuc_assets.errors import InputError, VirnucError
from virnuc_assets.instance import open_instance
from virnuc_assets.runner import client
from virnuc_assets.runner.background import in_thread, leave
from virnuc_assets.runner.job import Encoding
from virnuc_assets.settings import (
    ENCODERS,
    Dtype,
    Settings,
    check_encoders_go_together,
    check_models_go_together,
    device_list,
    from_environment,
)
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import all_samples, check_name, register, sample_name

_INTERRUPTED = 130

app = typer.Typer(
    name="virnuc",
    help="Say which records of FASTA files are viral.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
samples_app = typer.Typer(help="Samples of the Dagster platform.")
heads_app = typer.Typer(help="Classifier heads.")
models_app = typer.Typer(help="Encoder weights.")
app.add_typer(samples_app, name="samples")
app.add_typer(heads_app, name="heads")
app.add_typer(models_app, name="models")

_Device = Annotated[
    str,
    typer.Option(
        envvar="VIRNUC_GPUS", help="auto, cpu, cuda (all GPUs), or physical GPU ids such as 0,2."
    ),
]
_ChunkLength = Annotated[
    int, typer.Option(envvar="VIRNUC_CHUNK_LENGTH", help="Bases in a chunk: 300 or 500.")
]


@app.command()
def demo() -> None:
    """Take the bundled sample through the assets, show its calls, and how many are right."""
    from virnuc_assets.demo.compare import calls_by_truth
    from virnuc_assets.demo.sample import FASTA
    from virnuc_assets.materialise import materialise_sample

    settings = from_environment()
    with open_instance() as instance:
        materialise_sample(settings, "demo", FASTA, instance)
    layout = Layout(settings.store)
    console.print_calls(layout.predictions("demo"), "demo sample")
    counts = ("n", "right", "wrong", "no_call")
    console.table(
        "these calls and the truth (so few records do not measure a model)",
        ("records", "truth", "n", "right", "wrong", "no call"),
        (
            (row["kind"], row["label"], *(str(row[name]) for name in counts))
            for row in calls_by_truth(layout.predictions("demo")).iter_rows(named=True)
        ),
        right=("n", "right", "wrong", "no call"),
    )
    console.files_made(
        {
            "calls and scores": layout.predictions("demo"),
            "report": layout.report("demo"),
            "index and embeddings": layout.samples / "demo",
        }
    )
    console.result("The UI: make ui, then http://127.0.0.1:3000")


@app.command()
def index(
    fasta: Annotated[Path, typer.Argument(help="FASTA or FASTQ file, plain, gzip or zstd.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the index.")],
    chunk_length: _ChunkLength = 500,
) -> None:
    """Chunk and translate a file; list its stop-free sequences."""
    from virnuc_assets.sequences.index import build_index

    manifest = build_index(fasta, output, chunk_length, tool_version=__version__)
    console.result(
        f"{output}: {manifest.records} records, {manifest.chunks} chunks of {chunk_length} bases, "
        f"{manifest.frames} frames ({manifest.unique_nucleotides} unique nucleotide and "
        f"{manifest.unique_proteins} unique protein sequences, {manifest.unique_share:.1%} of "
        "the total); "
        f"{manifest.records_without_open_frame} records without an open frame"
    )


@app.command()
def embed(
    fasta: Annotated[Path, typer.Argument(help="Proteins for esm2, DNA for dnabert-s.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file to write.")],
    encoder: Annotated[EncoderName, typer.Option(help="Which encoder.")],
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint file or folder, or a public name.")
    ] = None,
    device: _Device = "auto",
    dtype: Annotated[
        Dtype,
        typer.Option(envvar="VIRNUC_DTYPE", help="auto: float16 on a GPU, float32 on a CPU."),
    ] = "auto",
    token_budget: Annotated[
        int | None, typer.Option(envvar="VIRNUC_TOKEN_BUDGET", help="Tokens in a pack.")
    ] = None,
    long_sequences: Annotated[
        LongSequences,
        typer.Option(help="Over the model's limit: keep the start, or average over windows."),
    ] = "truncate",
    exact: Annotated[
        bool, typer.Option("--exact", help="float32 and plain layers, whatever --dtype says.")
    ] = False,
    validate: Annotated[
        int, typer.Option(min=0, help="Embed N of each block in float32 too, and compare.")
    ] = 0,
) -> None:
    """Embed every record of a file, in its order, into one HDF5 file."""
    from virnuc_assets import embed_fasta

    settings = from_environment()
    attention = settings.models.attention
    if exact:
        dtype, attention = "float32", "sdpa"
    encoding = Encoding(
        encoder=encoder,
        weights=weights or settings.models.encoding(encoder).weights,
        dtype=dtype,
        attention=attention,
        token_budget=token_budget,
        long_sequences=long_sequences,
        validate=validate,
        devices=device_list(device, "--device"),
    )
    catalog.resolve_weights(encoder, encoding.weights)
    with embed_fasta.sole_work(fasta, output, console.warn):
        job = embed_fasta.plan(fasta, output, encoding)
        (shard,) = console.follow(client.stream(job), fasta.name)
        records = in_thread(embed_fasta.collect, job, output).result()
    facts = shard.metadata
    console.result(
        f"{output}: {records} records, {facts['rows']} unique sequences, {facts['tokens']} tokens, "
        f"{facts['dtype']}, {facts['attention']} on {facts['device']}"
    )
    console.result(f"model: {facts['model']}")
    if "float32_cosine_min" in facts:
        console.result(
            f"cosine to float32 of {facts['float32_cosine_of']} sequences: "
            f"{facts['float32_cosine_min']:.6f} at least, "
            f"{facts['float32_cosine_median']:.6f} in the middle"
        )
    if facts["truncated"]:
        console.warn(f"{facts['truncated']} sequences were cut at the model's limit")


@app.command()
def predict(
    fasta: Annotated[list[Path], typer.Argument(help="FASTA files, one sample each.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything made.")],
    chunk_length: _ChunkLength = 500,
    device: _Device = "auto",
) -> None:
    """Call the records of files; go on where an earlier call stopped."""
    from virnuc_assets import predict_fasta

    settings = _settings_below(output, chunk_length, device)
    failures = predict_fasta.predict_files(fasta, settings)
    if failures:
        bad = len({failure.file for failure in failures})
        listed = settings.store / predict_fasta.FAILURES_FILE
        where = f"; see {listed}" if listed.exists() else ""
        console.say(f"{bad} of {len(fasta)} files failed{where}")
        raise typer.Exit(1 if bad == len(fasta) else 2)


@app.command()
def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything made.")],
    fasta: Annotated[
        list[Path] | None, typer.Argument(help="FASTA files whose records --truth labels.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Table: id, label (virus or other), and perhaps group.")
    ] = None,
    virus: Annotated[
        list[Path] | None, typer.Option(help="FASTA file of viruses alone; may be repeated.")
    ] = None,
    other: Annotated[
        list[Path] | None, typer.Option(help="FASTA file without viruses; may be repeated.")
    ] = None,
    calls: Annotated[
        list[str] | None,
        typer.Option(help="Another tool's calls to compare with, [NAME=]TABLE: id, call, score."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Table of places to leave out: record_id, start0, end.")
    ] = None,
    chunk_length: _ChunkLength = 500,
    device: _Device = "auto",
) -> None:
    """Call the records of labelled files, and measure how good the calls are."""
    from virnuc_assets import evaluate_fasta

    labelled = evaluate_fasta.Labelled(
        tuple(fasta or ()), truth, tuple(virus or ()), tuple(other or ())
    )
    settings = _settings_below(output, chunk_length, device)
    if not evaluate_fasta.evaluate_files(labelled, calls or [], mask, settings):
        raise typer.Exit(1)


@app.command("train-head")
def train_head(
    name: Annotated[str, typer.Option(help="Name of the head; VIRNUC_HEAD=NAME uses it.")],
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Table of labelled files: file, class, and perhaps group, split, genome."
        ),
    ] = None,
    records: Annotated[
        Path | None, typer.Option(help="Table of the files' records: record_id, file, and so on.")
    ] = None,
    virus: Annotated[
        list[Path] | None, typer.Option(help="FASTA file of viruses alone; may be repeated.")
    ] = None,
    other: Annotated[
        list[Path] | None, typer.Option(help="FASTA file without viruses; may be repeated.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Table of doubtful negatives, such as prophages: record_id, start0, end."
        ),
    ] = None,
    chunk_length: Annotated[
        list[int] | None,
        typer.Option(
            envvar="VIRNUC_CHUNK_LENGTH", help="Bases in a chunk, 500 by default; may be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the head; below VIRNUC_STORE by default.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder of indexes and embeddings; below VIRNUC_STORE by default."),
    ] = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Train on 10 % and 30 % of the genomes too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn and how weights start.")] = 0,
    hidden_dim: Annotated[int, typer.Option(min=1, help="Width of the hidden layer.")] = 512,
    device: _Device = "auto",
) -> None:
    """Train a head on labelled files; go on where an earlier call stopped."""
    from virnuc_assets.train_head import Recipe, make_head
    from virnuc_assets.training.head_scores import headline
    from virnuc_assets.training.head_training import TrainingSettings
    from virnuc_assets.training.labelled import labelled_files

    check_encoders_go_together()
    configured = from_environment()
    layout = Layout(configured.store)
    recipe = Recipe(
        name=check_name(name),
        labelled=labelled_files(manifest, records, virus or [], other or []),
        chunk_lengths=tuple(dict.fromkeys(chunk_length or [500])),
        mask=mask,
        learning_curve=learning_curve,
        training=TrainingSettings(seed=seed, hidden_dim=hidden_dim),
    )
    models = dataclasses.replace(configured.models, gpus=device_list(device, "--device"))
    settings = Settings((work or layout.training(name)).absolute(), configured.n_shards, models)
    head = make_head(
        recipe,
        settings,
        out or layout.heads / name,
        lambda job, title: console.follow(client.stream(job), title),
        console.say,
    )
    metrics = ("auroc", "auprc", "mcc", "recall_at_1_percent_fpr", "ece")
    console.table(
        f"{name}: frames, every group of a class weighing the same",
        ("part", "chunk length", "frames", "AUROC", "AUPRC", "MCC", "recall at 1 % FPR", "ECE"),
        (
            (
                row["part"],
                str(row["chunk_length"]),
                str(row["n"]),
                *(console.shown(row[metric]) for metric in metrics),
            )
            for row in headline(head.metrics).iter_rows(named=True)
        ),
        right=("frames",),
    )
    console.files_made(
        {"head, metrics and card": head.folder, "index and embeddings": settings.store}
    )


@app.command()
def inspect(
    files: Annotated[
        list[Path], typer.Argument(help="Files or folders that virnuc wrote.", metavar="FILE...")
    ],
    deep: Annotated[
        bool, typer.Option("--deep", help="Hash and read all contents, not only what is said.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what files are, where they came from, and whether they are whole."""
    from virnuc_assets import inspection

    found = [inspection.inspect(path, deep) for path in files]
    if as_json:
        values = [{**dataclasses.asdict(one), "path": str(one.path)} for one in found]
        console.plain(json.dumps(values, indent=2))
    for one in found:
        if not as_json:
            state = "not whole" if one.faults else "whole" if deep else "no fault found"
            console.table(
                f"{one.path}: {one.kind}, {state}",
                ("what", "found"),
                ((name.replace("_", " "), console.shown(fact)) for name, fact in one.facts.items()),
            )
        for fault in one.faults:
            console.fail(fault)
    if any(one.faults for one in found):
        raise typer.Exit(1)


@samples_app.command("add")
def samples_add(
    fasta: Annotated[list[Path], typer.Argument(help="FASTA files, one sample each.")],
    name: Annotated[str | None, typer.Option(help="Name of the sample (one file only).")] = None,
) -> None:
    """Register FASTA files as samples of the platform."""
    if name is not None and len(fasta) > 1:
        raise InputError("--name: names one sample; give one file, or leave the name out")
    sources: dict[str, Path] = {}
    for path in fasta:
        sample = check_name(name or sample_name(path))
        if sample in sources:
            raise InputError(
                f"{path}: would be sample {sample}, as {sources[sample]} is; rename one of them"
            )
        sources[sample] = path
    layout = Layout(from_environment().store)
    absolute = {sample: path.absolute() for sample, path in sources.items()}
    with open_instance() as instance:
        for sample, path in absolute.items():
            added = register(layout, sample, path)
            instance.add_dynamic_partitions("sample", [added.name])
            console.result(f"{added.name}: {added.source}")


@samples_app.command("list")
def samples_list() -> None:
    """List the platform's samples and how far each is."""
    settings = from_environment()
    layout = Layout(settings.store)
    console.table(
        f"samples in {layout.samples}",
        ("sample", "index", "ESM-2 shards", "DNABERT-S shards", "predictions", "source"),
        (
            (
                sample.name,
                _yes((layout.index(sample.name) / "manifest.json").exists()),
                _shards(layout, sample.name, "esm2", settings.n_shards),
                _shards(layout, sample.name, "dnabert-s", settings.n_shards),
                _yes((layout.predictions(sample.name) / "results.json").exists()),
                sample.source,
            )
            for sample in all_samples(layout)
        ),
    )


@heads_app.command("import")
def heads_import(
    file: Annotated[Path, typer.Argument(help="Pickled MLPClassifier (.pth) of the original.")],
    name: Annotated[str | None, typer.Option(help="Name of the head; the file's stem.")] = None,
    chunk_length: Annotated[
        int | None,
        typer.Option(help="Bases in the chunks it was trained on; from a name like 500_model.pth."),
    ] = None,
    dna_dim: Annotated[
        int, typer.Option(help="How many of its inputs are DNABERT-S's; ESM-2 has the rest.")
    ] = 768,
) -> None:
    """Convert a head of the original tool; nothing in the file is executed."""
    from virnuc_assets.classifier.import_pth import import_pth

    head = check_name(name or sample_name(file.with_suffix("")))
    folder = Layout(from_environment().store).heads / head
    length = chunk_length or _length_in_name(file)
    card = import_pth(file, folder, head, dna_dim=dna_dim, chunk_length=length)
    console.result(
        f"{folder}: {card.dna_dim} (DNABERT-S) + {card.protein_dim} (ESM-2) → {card.hidden_dim} "
        f"→ 2, for chunks of {length} bases; use it with VIRNUC_HEAD={head}, beside VIRNUC_ESM2 "
        "and VIRNUC_DNABERT_S"
    )


@heads_app.command("list")
def heads_list() -> None:
    """List the imported heads."""
    from virnuc_assets.classifier.head_files import CARD_FILE, read_card

    heads = Layout(from_environment().store).heads
    cards = [read_card(path.parent) for path in sorted(heads.glob(f"*/{CARD_FILE}"))]
    console.table(
        f"heads in {heads}",
        ("name", "label", "chunk length", "DNABERT-S + ESM-2 dims"),
        (
            (
                card.name,
                card.label,
                str(card.chunk_length or "not stated"),
                f"{card.dna_dim} + {card.protein_dim}",
            )
            for card in cards
        ),
    )


@models_app.command("list")
def models_list() -> None:
    """List the public models and the ones configured."""
    settings = from_environment()
    shapes = {**catalog.ESM2_SHAPES, catalog.DNABERT_S: catalog.DNABERT_S_SHAPE}
    console.table(
        "public models",
        ("name", "layers", "dim", "on this machine"),
        (
            (name, str(shape.layers), str(shape.dim), _yes(catalog.is_available(name)))
            for name, shape in shapes.items()
        ),
        right=("layers", "dim"),
    )
    console.table(
        "configured",
        ("encoder", "model", "weights"),
        (_configured(encoder, settings.models.encoding(encoder).weights) for encoder in ENCODERS),
    )


@models_app.command("download")
def models_download(name: Annotated[str, typer.Argument(help="A public model's name.")]) -> None:
    """Fetch a public model to this machine."""
    with console.stage(f"{name}: downloading"):
        weights = catalog.download(name)
    console.result(str(weights.path))


@app.command()
def doctor() -> None:
    """Say what this machine has, what will be used, and what to fix."""
    from virnuc_assets.doctor import examine

    findings = examine(from_environment())
    console.table(
        "virnuc doctor",
        ("what", "status", "found", "to do"),
        ((f.subject, f.status, f.detail, f.fix) for f in findings),
    )
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(1)


def _settings_below(output: Path, chunk_length: int, device: str) -> Settings:
    """The configured models, checked to be there and to fit, with everything made in `output`."""
    from virnuc_assets import pipeline

    check_models_go_together()
    configured = from_environment()
    models = dataclasses.replace(
        configured.models,
        chunk_length=chunk_length,
        gpus=device_list(device, "--device"),
        # Heads are imported into the deployment's store, not into this call's output.
        head=str(pipeline.head_folder(Layout(configured.store), configured.models.head)),
    )
    settings = Settings(output.absolute(), configured.n_shards, models)
    pipeline.check_models(Layout(settings.store), models)
    return settings


def _configured(encoder: EncoderName, setting: str) -> tuple[str, str, str]:
    try:
        weights = catalog.resolve_weights(encoder, setting)
    except VirnucError as error:
        return encoder, "not usable", str(error)
    return encoder, weights.label, str(weights.path)


def _shards(layout: Layout, sample: str, encoder: str, n_shards: int) -> str:
    from virnuc_assets.store.embeddings import shard_path

    folder = layout.embeddings(sample, encoder)
    there = sum(shard_path(folder, shard, n_shards).exists() for shard in range(n_shards))
    return f"{there}/{n_shards}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _usage(error: TyperException) -> str:
    """A wrong command line in one sentence."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "virnuc"
    message = " ".join(
        error.format_message().replace("Value error, ", "").replace(". Choose", ", choose").split()
    ).rstrip(".")
    return f"{command}: {message[:1].lower()}{message[1:]}; see {command} --help"


def _length_in_name(file: Path) -> int:
    # The original's heads are called 300_model.pth and 500_model.pth. A head used on chunks of
    # another length gives numbers that look right.
    found = re.match(r"(300|500)_", file.name)
    if found is None:
        raise InputError(
            f"{file}: its name does not say which chunk length it was trained on; give "
            "--chunk-length 300 or 500"
        )
    return int(found[1])


def main() -> None:
    """Entry point: explained failures are one sentence, everything else a traceback."""
    console.show_logged_warnings()
    code = 1
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="virnuc", standalone_mode=False) or 0
        if code == _INTERRUPTED:
            console.fail("interrupted; what is finished is kept and not done again")
            leave(code)
    except TyperException as error:
        console.fail(_usage(error))
    except VirnucError as error:
        console.fail(str(error))
    except console.RunFailed as error:
        console.fail_run(error)
    sys.exit(code)


if __name__ == "__main__":
    main()
