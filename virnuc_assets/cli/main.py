"""`virnuc`: the same stages as the assets, from a shell.

Exit codes: 0 all done, 1 failed, 2 some files done and some not (`failed.tsv` says which and why),
130 interrupted.

What only some commands need is imported by these: the shell answers at once.
"""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from virnuc_assets import console
from virnuc_assets.cli.backfill import backfill
from virnuc_assets.cli.compare import compare
from virnuc_assets.cli.demo import demo
from virnuc_assets.cli.doctor import doctor
from virnuc_assets.cli.embed import embed
from virnuc_assets.cli.evaluate import evaluate
from virnuc_assets.cli.explain import explain
from virnuc_assets.cli.gc import gc
from virnuc_assets.cli.heads import heads_app
from virnuc_assets.cli.import_run import import_run
from virnuc_assets.cli.index import index
from virnuc_assets.cli.inspect import inspect
from virnuc_assets.cli.models import models_app
from virnuc_assets.cli.predict import predict
from virnuc_assets.cli.samples import samples_app
from virnuc_assets.cli.train_head import train_head
from virnuc_assets.errors import VirnucError
from virnuc_assets.runner.background import leave

_INTERRUPTED = 130

app = typer.Typer(
    name="virnuc",
    help="Say which records of FASTA files are viral.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    demo,
    index,
    embed,
    predict,
    evaluate,
    train_head,
    backfill,
    inspect,
    explain,
    compare,
    import_run,
    gc,
    doctor,
):
    app.command()(command)
for group, commands in {"samples": samples_app, "heads": heads_app, "models": models_app}.items():
    app.add_typer(commands, name=group)


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


def _usage(error: TyperException) -> str:
    """A wrong command line in one sentence."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "virnuc"
    message = " ".join(
        error.format_message().replace("Value error, ", "").replace(". Choose", ", choose").split()
    ).rstrip(".")
    return f"{command}: {message[:1].lower()}{message[1:]}; see {command} --help"
