"""Loops are compiled where nothing can be kept, too, and a person is told once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def test_without_a_folder_for_machine_code(tmp_path):
    """Neither beside the module nor in a cache folder, as in a container that is read-only."""
    program = textwrap.dedent(
        """
        from numba.core import caching

        caching.CacheImpl._locator_classes = []
        from virnuc_assets.sequences.repeated_ids import hash_ids
        import pyarrow as pa

        print(hash_ids(pa.array([""], pa.large_string()))[0])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == str(0xCBF29CE484222325), done.stderr
    assert done.stderr.count("set NUMBA_CACHE_DIR to a folder that can be written") == 1
