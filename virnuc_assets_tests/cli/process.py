"""How `virnuc` is started."""

from __future__ import annotations

import os
import sys

from virnuc_assets_tests import untrained

COMMAND = (sys.executable, "-m", "virnuc_assets.cli")
NO_MODELS = {"VIRNUC_ESM2": "", "VIRNUC_DNABERT_S": "", "VIRNUC_HEAD": ""}
"""Settings that leave the models to the deployment's default."""


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with `settings` in place of those of a deployment.

    The models are the untrained ones where `settings` does not say otherwise.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VIRNUC_", "DAGSTER_"))
    }
    return {**kept, **untrained.settings(), **settings}
