"""Where the bundled model's files lie, and what outputs say of it. Imports nothing heavy."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

NAME = "virnuc-mini-1"
"""What outputs call it, and a value of each of the three model settings."""
DATA = Path(str(files("virnuc_assets.mini") / "data"))
ESM2 = DATA / "models" / "esm2"
DNABERT_S = DATA / "models" / "dnabert_s"
HEAD = DATA / "heads" / NAME
NOTE = "a small bundled model, not VirNucPro's; see docs/mini_model.md for its accuracy"


def note_on(model: str) -> str:
    """What a reader of results made with `model`, a label, must know of it; mostly nothing."""
    return NOTE if model == NAME else ""


def described(model: str) -> str:
    """The label `model`, with the note on it."""
    note = note_on(model)
    return f"{model}: {note}" if note else model
