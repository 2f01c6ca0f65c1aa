"""`virnuc`: the same stages as the assets, from a shell.

Exit codes: 0 all done, 1 failed, 2 some files done and some not (`failed.tsv` says which and why),
130 interrupted.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from virnuc_assets import __version__, console, embed_fasta, pipeline
from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import InputError, SettingsError, VirnucError
from virnuc_assets.runner import client
from virnuc_assets.runner.job import Encoding
from virnuc_assets.settings import DEMO_DATA, Settings, device_list, from_environment
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.embeddings import shard_path
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import all_samples, check_name, register, sample_name

if TYPE_CHECKING:
    from dagster import DagsterInstance

app = typer.Typer(
    name="virnuc",
    help="Say which records of FASTA files are viral.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
samples_app = typer.Typer(help="Samples of the Dagster platform.", no_args_is_help=True)
heads_app = typer.Typer(help="Classifier heads.", no_args_is_help=True)
models_app = typer.Typer(help="Encoder weights.", no_args_is_help=True)
app.add_typer(samples_app, name="samples")
app.add_typer(heads_app, name="heads")
app.add_typer(models_app, name="models")

_ENCODERS: tuple[EncoderName, ...] = ("dnabert-s", "esm2")
_Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda (all GPUs), or physical GPU ids such as 0,2.")
]
_ChunkLength = Annotated[
    int, typer.Option(envvar="VIRNUC_CHUNK_LENGTH", help="Bases in a chunk: 300 or 500.")
]


@app.command()
def demo() -> None:
    """Take the bundled sample through the assets and show its calls."""
    from virnuc_assets.materialise import materialise_sample

    settings = from_environment()
    with _dagster_instance() as instance:
        materialise_sample(settings, "demo", DEMO_DATA / "demo.fa", instance)
    layout = Layout(settings.store)
    console.print_calls(layout.predictions("demo"), "demo sample")
    console.files_made(
        {
            "calls and scores": layout.predictions("demo"),
            "report": layout.report("demo"),
            "index and embeddings": layout.samples / "demo",
        }
    )
    console.out.print("The UI: make ui, then http://127.0.0.1:3000", highlight=False)


@app.command()
def index(
    fasta: Annotated[Path, typer.Argument(help="FASTA file, plain or gzip.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the index.")],
    chunk_length: _ChunkLength = 500,
) -> None:
    """Cut records into chunks, translate six frames, list the unique stop-free sequences."""
    from virnuc_assets.sequences.index import build_index

    manifest = build_index(fasta, output, chunk_length, tool_version=__version__)
    for warning in manifest.warnings:
        console.warn(f"{fasta}: {warning}")
    console.out.print(
        f"{manifest.records} records, {manifest.chunks} chunks, {manifest.frames} frames "
        f"({manifest.unique_nucleotides} unique nucleotide and {manifest.unique_proteins} unique "
        f"protein sequences); {manifest.records_without_open_frame} records without an open frame",
        highlight=False,
    )


@app.command()
def embed(
    fasta: Annotated[Path, typer.Argument(help="Proteins for esm2, DNA for dnabert-s.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file to write.")],
    encoder: Annotated[str, typer.Option(help="esm2 or dnabert-s.")],
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint file or folder, or a public name.")
    ] = None,
    device: _Device = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    token_budget: Annotated[int | None, typer.Option(help="Tokens in a pack.")] = None,
    long_sequences: Annotated[
        str, typer.Option(help="truncate (at the model's limit) or window (mean of windows).")
    ] = "truncate",
) -> None:
    """Mean embeddings of every record, in input order, as one HDF5 file."""
    settings = from_environment()
    name = _encoder_name(encoder)
    encoding = Encoding(
        encoder=name,
        weights=weights or settings.models.encoding(name).weights,
        dtype=dtype,
        attention=settings.models.attention,
        token_budget=token_budget,
        long_sequences=_one_of("--long-sequences", long_sequences, ("truncate", "window")),  # type: ignore[arg-type]
        devices=_devices(device),
    )
    catalog.resolve_weights(name, encoding.weights)
    job = embed_fasta.plan(fasta, output, encoding)
    (shard,) = console.follow(client.stream(job), fasta.name)
    embed_fasta.collect(job, output)
    facts = shard.metadata
    console.out.print(
        f"{output}: {facts['rows']} unique sequences, {facts['tokens']} tokens, packing efficiency "
        f"{facts['packing_efficiency']:.3f}, {facts['attention']} on {facts['device']}; "
        f"model: {facts['model']}",
        highlight=False,
        soft_wrap=True,
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
    """Call the records of FASTA files. Interrupted, it goes on where it stopped."""
    settings = from_environment()
    models = dataclasses.replace(settings.models, chunk_length=chunk_length)
    if device != "auto":
        models = dataclasses.replace(models, gpus=_devices(device))
    head = pipeline.head_folder(Layout(settings.store), models.head)
    for encoder in _ENCODERS:
        catalog.resolve_weights(encoder, models.encoding(encoder).weights)
    settings = Settings(output.absolute(), settings.n_shards, models)
    layout = Layout(settings.store)
    failed: list[tuple[str, str, str]] = []
    sources: dict[str, Path] = {}
    for path in fasta:
        name = sample_name(path)
        try:
            if name in sources:
                raise InputError(
                    f"{path}: would be sample {name}, as {sources[name]} is; rename one of them"
                )
            sources[name] = path
            _predict_one(layout, name, path, settings, head)
        except VirnucError as error:
            failed.append((name, str(path), str(error)))
            console.fail(str(error))
        except console.RunFailed as error:
            failed += [(name, str(path), message) for message in error.messages]
            for message in error.messages:
                console.fail(message)
    _write_failures(settings.store / "failed.tsv", failed)
    if failed:
        bad = len({path for _, path, _ in failed})
        console.err.print(f"{bad} of {len(fasta)} files failed; see {settings.store}/failed.tsv")
        raise typer.Exit(1 if bad == len(fasta) else 2)


@samples_app.command("add")
def samples_add(
    fasta: Annotated[list[Path], typer.Argument(help="FASTA files, one sample each.")],
    name: Annotated[str | None, typer.Option(help="Name of the sample (one file only).")] = None,
) -> None:
    """Register FASTA files as samples of the platform."""
    if name is not None and len(fasta) > 1:
        raise InputError("--name: names one sample; give one file, or leave the name out")
    layout = Layout(from_environment().store)
    with _dagster_instance() as instance:
        for path in fasta:
            sample = register(layout, name or sample_name(path), path)
            instance.add_dynamic_partitions("sample", [sample.name])
            console.out.print(f"{sample.name}: {sample.source}", highlight=False, soft_wrap=True)


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
        int | None, typer.Option(help="Chunk length it was trained for: 300 or 500.")
    ] = None,
) -> None:
    """Convert a head of the original tool; nothing in the file is executed."""
    from virnuc_assets.classifier.import_pth import import_pth

    head = check_name(name or sample_name(file.with_suffix("")))
    folder = Layout(from_environment().store).heads / head
    card = import_pth(file, folder, head, chunk_length=chunk_length)
    console.out.print(
        f"{folder}: {card.dna_dim} + {card.protein_dim} → {card.hidden_dim} → 2; use it with "
        f"VIRNUC_HEAD={folder.name}",
        highlight=False,
        soft_wrap=True,
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
    )
    console.table(
        "configured",
        ("encoder", "weights"),
        ((encoder, settings.models.encoding(encoder).weights) for encoder in _ENCODERS),
    )


@models_app.command("download")
def models_download(name: Annotated[str, typer.Argument(help="A public model's name.")]) -> None:
    """Fetch a public model to this machine."""
    weights = catalog.download(name)
    console.out.print(f"{weights.path}", highlight=False, soft_wrap=True)


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


def _predict_one(layout: Layout, name: str, path: Path, settings: Settings, head: Path) -> None:
    from virnuc_assets.classifier.report import write_report

    register(layout, name, path)
    manifest = pipeline.index_sample(layout, name, settings.models.chunk_length)
    for warning in manifest.warnings:
        console.warn(f"{path}: {warning}")
    for encoder in _ENCODERS:
        job = pipeline.embedding_job(
            layout,
            name,
            settings.models.encoding(encoder),
            settings.n_shards,
            tuple(range(settings.n_shards)),
        )
        console.follow(client.stream(job), f"{name}: {encoder}")
    pipeline.predict_sample(layout, name, settings.n_shards, head)
    report = write_report(layout.predictions(name), layout.report(name), title=name)
    console.print_calls(layout.predictions(name), name)
    console.files_made({"calls and scores": layout.predictions(name), "report": report.path})


def _write_failures(path: Path, failed: list[tuple[str, str, str]]) -> None:
    if not failed:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(("sample", "file", "reason"))
        writer.writerows(failed)


def _encoder_name(text: str) -> EncoderName:
    return _one_of("--encoder", text, ("esm2", "dnabert-s"))  # type: ignore[return-value]


def _one_of(option: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise InputError(f"{option} {text}: is not known; use {' or '.join(choices)}")
    return text


def _devices(text: str) -> tuple[str, ...]:
    return () if text in ("auto", "cuda") else device_list(text)


def _shards(layout: Layout, sample: str, encoder: str, n_shards: int) -> str:
    folder = layout.embeddings(sample, encoder)
    there = sum(shard_path(folder, shard, n_shards).exists() for shard in range(n_shards))
    return f"{there}/{n_shards}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _dagster_instance() -> DagsterInstance:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise SettingsError(
            "DAGSTER_HOME is not set, so there is no platform to add samples to; export it as the "
            "folder of dagster.yaml, or call `virnuc predict` to do without"
        )
    from dagster import DagsterInstance

    return DagsterInstance.get()


def main() -> None:
    """Entry point: explained failures are one sentence, everything else a traceback."""
    code = 1
    try:
        code = app(standalone_mode=False) or 0
    except typer.Abort:
        console.fail("interrupted; what is finished is kept, the same command goes on from there")
        code = 130
    except TyperException as error:
        console.fail(f"{error.format_message()} (see --help)")
    except VirnucError as error:
        console.fail(str(error))
    except console.RunFailed as error:
        for message in error.messages:
            console.fail(message)
    sys.exit(code)
