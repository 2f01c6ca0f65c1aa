"""`virnuc heads`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from virnuc_assets import console
from virnuc_assets.errors import InputError
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import check_name, sample_name

heads_app = typer.Typer(help="Classifier heads.")


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
