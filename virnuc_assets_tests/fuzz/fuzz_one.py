"""One target under atheris: `run` starts this, with the target's name and libFuzzer's options."""

from __future__ import annotations

import logging
import sys
import warnings

import atheris

if __name__ == "__main__":
    # Only what is loaded here is watched: the front end and the reference it is compared with.
    with atheris.instrument_imports(
        include=["virnuc_assets.sequences", "virnuc_assets_tests.fuzz"]
    ):
        from virnuc_assets_tests.fuzz.targets import TARGETS

    logging.disable(logging.WARNING)
    # Compiled hashing wraps in silence; NumPy, which stands in for it here, says so.
    warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning)
    program, name, *options = sys.argv
    atheris.Setup([program, *options], TARGETS[name])
    atheris.Fuzz()
