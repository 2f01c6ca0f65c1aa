"""`virnuc embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.cli.options import Device
from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName, LongSequences
from virnuc_assets.runner import client
from virnuc_assets.runner.background import in_thread
from virnuc_assets.runner.job import Encoding
from virnuc_assets.settings import Dtype, device_list, from_environment, model_path


def embed(
    fasta: Annotated[Path, typer.Argument(help="Proteins for esm2, DNA for dnabert-s.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file to write.")],
    encoder: Annotated[EncoderName, typer.Option(help="Which encoder.")],
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint file or folder, or a public name.")
    ] = None,
    device: Device = "auto",
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
        weights=model_path(weights) if weights else settings.models.encoding(encoder).weights,
        dtype=dtype,
        attention=attention,
        token_budget=token_budget,
        long_sequences=long_sequences,
        validate=validate,
        devices=device_list(device, "--device"),
        ray=settings.models.ray,
    )
    catalog.resolve_weights(encoder, encoding.weights)
    with embed_fasta.sole_work(fasta, output, console.warn):
        # On a cluster, workers stand in another folder.
        job = embed_fasta.plan(fasta, output.absolute(), encoding)
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
