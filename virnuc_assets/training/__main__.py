"""`python -m virnuc_assets.training`: the mini model from labelled genomes, in two steps.

`corpus` reads the genomes; `mini` trains, on a machine that may be another, with a GPU.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets.errors import VirnucError
from virnuc_assets.training.corpus import read_corpus, with_fewer_genomes, write_corpus

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
    corpus_file: Annotated[Path, typer.Argument(metavar="CORPUS", help="What `corpus` wrote.")],
    output: Annotated[Path, typer.Argument(help="Folder for encoders, head and training.json.")],
    genomes: Annotated[float, typer.Option(help="Share of the training genomes.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of weights and batches.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that prepare batches.")] = 4,
) -> None:
    """Train both encoders and a head."""
    import torch

    from virnuc_assets.training.mini import Recipe
    from virnuc_assets.training.mini_files import facts_of, save, write_dna_tokeniser
    from virnuc_assets.training.mini_training import train

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = with_fewer_genomes(read_corpus(corpus_file), genomes, seed)
    recipe = replace(Recipe(), seed=seed)
    tokeniser = output / "models" / "dnabert_s"
    write_dna_tokeniser(tokeniser, known, seed)
    # The tokeniser has run here already, so it would use one thread once processes are forked.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    trained = train(known, tokeniser, recipe, device, workers)
    save(output, trained, facts_of(known, recipe))


def main() -> None:
    """Entry point: explained failures are one sentence, everything else a traceback."""
    try:
        app(prog_name="python -m virnuc_assets.training")
    except VirnucError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
