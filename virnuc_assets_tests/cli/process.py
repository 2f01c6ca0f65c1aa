"""How `virnuc` is started."""

from __future__ import annotations

import os
import sys

COMMAND = (sys.executable, "-m", "virnuc_assets.cli")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without the settings of a deployment, and with `settings`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VIRNUC_", "DAGSTER_"))
    }
    return {**kept, **settings}
