"""`virnuc doctor`."""

from __future__ import annotations

import typer

from virnuc_assets import console
from virnuc_assets.settings import from_environment


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
