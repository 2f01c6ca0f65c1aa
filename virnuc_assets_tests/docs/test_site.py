"""The documentation builds without a warning, stands alone, and speaks of what there is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from virnuc_assets.cli.main import app

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
LOADED = re.compile(
    r'<(?:script|img|iframe)[^>]* src="(https?:[^"]+)|<link[^>]* href="(https?:[^"]+)'
)
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(?:\S+=\S+ )*(virnuc .*)", re.MULTILINE)
BRACES = re.compile(r"\$\(.*?\)|…")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_load_nothing_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    assert {page.name: LOADED.findall(page.read_text()) for page in pages} == {
        page.name: [] for page in pages
    }


def commands(command, path=()):
    """Every command with its words, those of groups too."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_reference_has_every_command(site):
    page = (site / "cli.html").read_text()
    leaves = [path for path, command in COMMANDS.items() if not hasattr(command, "commands")]
    assert [path for path in leaves if f">virnuc {' '.join(path)}</code>" not in page] == []


def shown():
    """Each `virnuc` command line in a shell block of the documentation and the README."""
    for page in [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for block in BLOCK.findall(page.read_text()):
            for line in COMMAND.findall(block.replace("\\\n", " ")):
                yield page.name, line


@pytest.mark.parametrize(("page", "line"), sorted(set(shown())))
def test_commands_that_are_shown_exist_with_their_options(page, line):
    words = shlex.split(BRACES.sub("x", line), comments=True)[1:]
    path = next(tuple(words[:n]) for n in (2, 1) if tuple(words[:n]) in COMMANDS)
    known = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    options = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    assert [option for option in options if option not in {*known, "--help"}] == []
