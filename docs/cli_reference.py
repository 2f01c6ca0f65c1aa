"""The page of the commands, made of their own help when the site is built (an mkdocs hook)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from virnuc_assets.cli.main import app

PAGE = "cli.md"
_INTRODUCTION = """\
# Commands

Each command's own help. Exit codes: 0 all done, 1 failed, 2 some files done and some not, 130
interrupted. [Settings](settings.md) are environment variables; where an option names one, the
option comes first.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to the site."""
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """Every command and its help, as Markdown."""
    sections = (
        f"## `{path}`\n\n```text\n{help_text.strip()}\n```\n"
        for path, help_text in _commands(typer.main.get_command(app), "virnuc")
    )
    return "\n".join([_INTRODUCTION, *sections])


def _commands(command: Any, path: str) -> Iterator[tuple[str, str]]:
    below = getattr(command, "commands", {})
    if not below:
        yield path, command.get_help(typer.Context(command, info_name=path))
    for name in sorted(below):
        yield from _commands(below[name], f"{path} {name}")
