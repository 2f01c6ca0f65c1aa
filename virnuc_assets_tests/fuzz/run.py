"""Fuzz the front end: `python -m virnuc_assets_tests.fuzz.run --seconds 60`.

Each target runs for its share of the time under atheris, as plain Python: so atheris sees which
lines an input reaches, and an access out of bounds raises. What it kept as worth keeping is then
given to the same target with compiled loops. An input that fails is left in `findings/`, where
`test_replay.py` takes it up; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from virnuc_assets_tests.fuzz.seeds import SEEDS

FINDINGS = Path(__file__).with_name("findings")

_ROUND_S = 300
_LONGEST = 128
_SLOWEST_S = 20
_MOST_MB = 3000
_SHARED_MEMORY = Path("/dev/shm")


def main() -> None:
    """Fuzz all targets; exit with 1, and the path of the input, where one fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1, help="of the inputs that are made up")
    arguments = parser.parse_args()
    if not find_spec("atheris"):
        sys.exit("atheris is not installed; it is one of the dev extra, for Linux on x86-64")
    rounds = -(-arguments.seconds // _ROUND_S)
    share = max(1, arguments.seconds // (rounds * len(SEEDS)))
    with TemporaryDirectory(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None) as folder:
        for number in range(rounds):
            for target in SEEDS:
                _fuzz(target, Path(folder), share, arguments.seed + number)


def _fuzz(target: str, folder: Path, seconds: int, seed: int) -> None:
    """Fuzz one target from its corpus in `folder`, then replay what the corpus has become."""
    corpus, temporary = folder / target, folder / "temporary"
    for place in (corpus, temporary, FINDINGS):
        place.mkdir(exist_ok=True)
    found = [path.read_bytes() for path in FINDINGS.glob(f"{target}-*")]
    for data in [*SEEDS[target], *found]:
        (corpus / sha1(data).hexdigest()).write_bytes(data)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={_LONGEST}",
        f"-timeout={_SLOWEST_S}",
        f"-rss_limit_mb={_MOST_MB}",
        f"-artifact_prefix={FINDINGS / target}-",
        "-print_final_stats=1",
    ]
    output = _call("fuzz_one", target, *options, str(corpus), temporary=temporary, compiled=False)
    _call("replay_one", target, str(corpus), temporary=temporary, compiled=True)
    tried = re.findall(r"number_of_executed_units: (\d+)", output)[-1]
    kept = len(list(corpus.iterdir()))
    sys.stdout.write(f"{target}: {tried} inputs, {kept} of them compiled too\n")
    sys.stdout.flush()


def _call(module: str, target: str, *rest: str, temporary: Path, compiled: bool) -> str:
    """Run `module` in a process of its own; what it printed, unless it fails."""
    before = _saved()
    result = subprocess.run(
        [sys.executable, "-m", f"{__package__}.{module}", target, *rest],
        env=os.environ | {"NUMBA_DISABLE_JIT": str(int(not compiled)), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        sys.stdout.write(result.stdout)
        saved = ", ".join(sorted(str(path) for path, _ in _saved() - before)) or "no input"
        sys.exit(f"{target}: {module} failed with status {result.returncode}; saved: {saved}")
    return result.stdout


def _saved() -> set[tuple[Path, int]]:
    return {(path, path.stat().st_mtime_ns) for path in FINDINGS.iterdir()}


if __name__ == "__main__":
    main()
