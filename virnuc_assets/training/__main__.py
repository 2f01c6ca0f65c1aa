"""`python -m virnuc_assets.training`: the mini model from labelled genomes, in two steps.

`corpus` reads the genomes; `mini` trains, on a machine that may be another, with a GPU.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets.training.corpus import read_corpus, write_corpus

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def corpus(
    manifest: Annotated[Path, typer.Argument(help="Table of FASTA files: file, class, group …")],
    records: Annotated[Path, typer.Argument(help="Table of their records.")],
    output: Annotated[Path, typer.Argument(help="The corpus, two bits a base.")],
    mask: Annotated[Path | None, typer.Option(help="Intervals not to learn from.")] = None,
    seed: Annotated[int, typer.Option(help="Of the genomes drawn for validation.")] = 1,
) -> None:
    """Read the labelled genomes that are not for testing."""
    from virnuc_assets.training.genomes import read_genomes

    write_corpus(output, read_genomes(manifest, records, mask, seed))


@app.command()
def mini(
    corpus: Annotated[Path, typer.Argument(help="What `corpus` wrote.")],
    output: Annotated[Path, typer.Argument(help="Folder for encoders, head and training.json.")],
    genomes: Annotated[float, typer.Option(help="Share of the training genomes.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of weights and batches.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that prepare batches.")] = 4,
) -> None:
    """Train both encoders and a head."""
    import torch

    from virnuc_assets.training import mini as recipe_of
    from virnuc_assets.training.batches import Tokens

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    genomes_used = recipe_of.with_fewer_genomes(read_corpus(corpus), genomes, seed)
    recipe = replace(recipe_of.Recipe(), seed=seed)
    tokeniser = output / "models" / "dnabert_s"
    recipe_of.write_dna_tokeniser(tokeniser, genomes_used, seed)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    trained = recipe_of.train(genomes_used, tokeniser, recipe, device, workers)
    temperature = recipe_of.calibrate(trained, genomes_used, Tokens(tokeniser))
    facts = recipe_of.facts_of(genomes_used, recipe)
    recipe_of.save(output, trained, temperature, facts)


if __name__ == "__main__":
    app()
