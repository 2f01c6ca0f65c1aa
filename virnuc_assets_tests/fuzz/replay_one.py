"""A corpus through one target, with compiled loops: `run` starts this."""

from __future__ import annotations

import faulthandler
import logging
import sys
from pathlib import Path

from virnuc_assets_tests.fuzz.run import FINDINGS
from virnuc_assets_tests.fuzz.targets import TARGETS

_SLOWEST_S = 120  # compiling included

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    faulthandler.enable()
    _, name, corpus = sys.argv
    for file in sorted(Path(corpus).iterdir()):
        data = file.read_bytes()
        trial = FINDINGS / f"{name}-compiled-{file.name}"
        trial.write_bytes(data)  # stays if the process dies of it
        faulthandler.dump_traceback_later(_SLOWEST_S, exit=True)
        TARGETS[name](data)
        faulthandler.cancel_dump_traceback_later()
        trial.unlink()
