"""`python -m virnuc_assets.training`."""

import subprocess
import sys

import numpy as np
import pytest

from virnuc_assets.training.__main__ import main
from virnuc_assets.training.corpus import read_corpus


@pytest.fixture
def tables(write_fasta, write_table):
    """A manifest and the table of its records, of four genomes in each class."""
    files, records = ["file class group"], ["record_id file genus"]
    for name, label in (("phage", "virus"), ("bacteria", "other")):
        for number in range(8):
            file = f"{name}{number}.fa"
            write_fasta(file, [f"{name}{number}"], length=400)
            files.append(f"{file} {label} {name}")
            records.append(f"{name}{number} {file} G{name}{number}")
    return write_table("manifest.tsv", *files), write_table("records.tsv", *records)


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_a_corpus_is_written(tables, tmp_path, monkeypatch):
    output = tmp_path / "corpus.npz"
    assert call(monkeypatch, "corpus", *tables, output, "--seed", 3) == 0
    corpus = read_corpus(output)
    assert corpus.letters.size == 16 * 400
    assert len(np.unique(corpus.genome[corpus.split == "validation"])) == 2


def test_a_manifest_that_cannot_be_used_is_one_sentence(tables, tmp_path):
    manifest, records = tables
    manifest.write_text("file\tclass\nnone.fa\tvirus\n")
    done = subprocess.run(
        [sys.executable, "-m", "virnuc_assets.training", "corpus", manifest, records, "c.npz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "manifest.tsv: line 2: there is no file" in line
    assert not (tmp_path / "c.npz").exists()


def test_a_corpus_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch):
    said = call(monkeypatch, "mini", tmp_path / "none.npz", tmp_path / "out")
    assert "none.npz: is no corpus" in said
