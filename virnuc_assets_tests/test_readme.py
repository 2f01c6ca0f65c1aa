"""The README's commands do what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from virnuc_assets.demo.sample import FASTA

README = Path(__file__).parents[1] / "README.md"
MARKED = re.compile(r"<!-- run by the tests -->\n```sh\n(.*?)```", re.DOTALL)


def test_the_marked_commands_work(tmp_path):
    (block,) = MARKED.findall(README.read_text())
    records = FASTA.read_text().split(">")[1:]
    reads = [record for record in records if "_read_" in record.split()[0]]
    (tmp_path / "reads.fa").write_text("".join(f">{read}" for read in reads[:10]))
    (tmp_path / "proteins.fa").write_text(">a\nMKTAYIAKQR\n>b\nMSLLTEVET\n")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("VIRNUC_", "DAGSTER_"))}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    done = subprocess.run(
        [shutil.which("bash"), "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model: virnuc-mini-1: a small bundled model, not VirNucPro's" in done.stdout
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"reads.fa", "proteins.fa", "results", "index", "proteins.h5"}
    assert (tmp_path / "results" / "predictions" / "reads" / "records.parquet").exists()


def test_every_file_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (README.parent / link).exists()] == []
