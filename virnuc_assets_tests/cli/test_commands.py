"""Commands that load no model: what they print, and one clear sentence for whatever is wrong."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from random import Random

import pyarrow.ipc
import pytest

from virnuc_assets_tests import untrained
from virnuc_assets_tests.cli.process import NO_MODELS

WHOLE_GZIP = gzip.compress(">a\n{}\n".format("".join(Random(0).choices("ACGT", k=3000))).encode())

BROKEN = {
    "empty": (b"", "the file is empty; give a FASTA or FASTQ file"),
    "no records": (b"\n\n \n", "the file holds no records; give a FASTA or FASTQ file"),
    "duplicate ids": (b">a\nACGT\n>b\nAC\n>a\nGG\n", "the id 'a' belongs to more than one record"),
    "zero-length record": (b">a\nACGT\n>b\n>c\nAC\n", "record 'b' has no sequence (line 3)"),
    "protein": (b">a\nACGT\n>p\nMKVLF\n", "record 'p' holds 'L', which is not a nucleotide, and"),
    "truncated gzip": (WHOLE_GZIP[:-100], "the gzip file is truncated; copy or download it again"),
    "text": (b"dear reader,\n", "so this is neither FASTA nor FASTQ; remove what"),
    "FASTQ of wrapped lines": (b"@r1\nAC\nGT\n+\nIIII\n", "has no '+' on the line after its seq"),
    "binary": (b"\x7fELF\x02\x01\x01\x00", "so this is neither FASTA nor FASTQ"),
}


def test_the_command_line_starts_without_torch_or_dagster():
    program = (
        "import sys, virnuc_assets.cli.main\n"
        "print([m for m in ('torch', 'transformers', 'dagster', 'esm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_index_says_what_it_made(virnuc, dna, tmp_path):
    done = virnuc("index", dna, "-o", "made", "--chunk-length", 300)
    assert done.returncode == 0
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    assert done.stdout == (
        f"made: 2 records, 2 chunks of 300 bases, {manifest['frames']} frames "
        f"({manifest['unique_nucleotides']} unique nucleotide and {manifest['unique_proteins']} "
        "unique protein sequences, 100.0% of the total); 0 records without an open frame\n"
    )
    assert done.stderr == ""
    table = pyarrow.ipc.open_file(tmp_path / "made" / "proteins.arrow").read_all()
    assert table.num_rows == manifest["unique_proteins"] > 0


def test_rna_is_read_as_dna_and_said_once(virnuc, tmp_path):
    (tmp_path / "rna.fa").write_text(">a\nAUGGCUAAA\n>b\nATGGCTAAA\n")
    done = virnuc("index", "rna.fa", "-o", "made")
    assert done.returncode == 0
    warning = "warning: rna.fa: 1 of 2 records hold U (RNA), which was read as T\n"
    assert done.stderr == warning


@pytest.mark.parametrize("case", BROKEN)
def test_broken_input_is_named_in_one_sentence(case, refused, tmp_path):
    content, sentence = BROKEN[case]
    (tmp_path / "broken.fa").write_bytes(content)
    said = refused("index", "broken.fa", "-o", "made")
    assert said.startswith("broken.fa: ")
    assert sentence in said
    assert not (tmp_path / "made" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("index", "none.fa", "-o", "made"), "none.fa: no such file; check the path"),
        (("index", "dna.fa", "-o", "dna.fa/x"), "dna.fa/x: cannot be written (Not a directory)"),
        (("index", "dna.fa", "-o", "made", "--chunk-length", 2), "chunk length 2: must be"),
        (("predict", "dna.fa", "-o", "dna.fa/x"), "/dna.fa/x: cannot be written (Not a directory"),
        (
            ("predict", "dna.fa", "-o", "x", "--device", "gpu0"),
            "--device=gpu0: 'gpu0' is no device",
        ),
        (("predict", "dna.fa", "-o", "x", "--device", "cuda"), "--device=cuda: no GPU is visible"),
        (("predict", "dna.fa"), "virnuc predict: missing option '--output' / '-o'; see virnuc"),
        (("predict", "dna.fa", "-o", "x", "--sped", 9), "virnuc predict: no such option: --sped"),
        (("foretell", "dna.fa"), "virnuc: no such command 'foretell'; see virnuc --help"),
        (("samples",), "virnuc samples: missing command; see virnuc samples --help"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_is_one_sentence(arguments, sentence, refused, dna):
    assert sentence in refused(*arguments, CUDA_VISIBLE_DEVICES="")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--encoder", "esm3"), "'esm3' is not one of 'esm2', 'dnabert-s'"),
        (("--encoder", "dnabert-s", "--dtype", "int8"), "'int8' is not one of 'auto', 'float32'"),
        (("--encoder", "dnabert-s", "-o", "."), ".: is a folder; name a file in it"),
        (("--encoder", "dnabert-s", "-o", "dna.fa"), "dna.fa: is the input file"),
        (("--encoder", "dnabert-s", "-o", "dna.fa/x.h5"), "cannot be written (Not a directory)"),
        (("--encoder", "esm2", "--weights", "none.pt"), "none.pt: no such weights file or folder"),
        (("--encoder", "esm2", "--weights", "esm2_t6_8M"), "esm2_t6_8M: is neither a file nor a"),
        (("--encoder", "esm2", "--weights", "DNABERT-S"), "for the encoder dnabert-s, not esm2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_embed_refuses_before_it_loads_a_model(options, sentence, refused, dna, tmp_path):
    output = () if "-o" in options else ("-o", "out.h5")
    assert sentence in refused("embed", "dna.fa", *options, *output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dna.fa"]


def test_a_missing_input_does_not_touch_the_output(refused, dna, tmp_path):
    said = refused("embed", "none.fa", "-o", "dna.fa", "--encoder", "dnabert-s")
    assert said == "none.fa: no such file; check the path"
    assert [path.name for path in tmp_path.iterdir()] == ["dna.fa"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            NO_MODELS | {"VIRNUC_ESM2": "esm2.pt"},
            "VIRNUC_ESM2 set, but not VIRNUC_DNABERT_S, VIRNUC_HEAD",
        ),
        ({"VIRNUC_HEAD": "lab"}, "lab: no such head; use a head's folder or one"),
        ({"VIRNUC_ESM2": "gone/x.pt"}, "gone/x.pt: no such weights file or folder"),
        ({"VIRNUC_DNABERT_S": "nope"}, "nope: is neither a file nor a known model"),
        ({"VIRNUC_DTYPE": "half"}, "VIRNUC_DTYPE=half: is not a data type"),
        ({"VIRNUC_CHUNK_LENGTH": "long"}, "'--chunk-length' (env var: 'VIRNUC_CHUNK_LENGTH')"),
        ({"VIRNUC_GPUS": "a,b"}, "=a,b: 'a' is no device; use auto, cpu, cuda, or physical GPU"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_an_unusable_setting_is_one_sentence(settings, sentence, refused, dna):
    assert sentence in refused("predict", "dna.fa", "-o", "out", **settings)


def test_a_head_for_other_chunks_is_refused_before_anything_is_made(refused, dna, tmp_path):
    head = tmp_path / "head300"
    head.mkdir()
    for file in (untrained.folder() / "head").iterdir():
        (head / file.name).write_bytes(file.read_bytes())
    card = json.loads((head / "head.json").read_text())
    (head / "head.json").write_text(json.dumps({**card, "chunk_length": 300}))
    said = refused("predict", "dna.fa", "-o", "out", VIRNUC_HEAD=str(head))
    assert "was trained on chunks of 300 bases and these are of 500; set the chunk length" in said
    assert not (tmp_path / "out").exists()


def test_samples_are_added_from_any_folder_and_listed(virnuc, dna, dagster_home, tmp_path):
    (tmp_path / "a b.fna").write_text(">x\nACGT\n")
    added = virnuc("samples", "add", "dna.fa", "a b.fna", DAGSTER_HOME=dagster_home)
    assert added.stdout == f"dna: {dna}\na_b: {tmp_path / 'a b.fna'}\n"
    assert not (tmp_path / "data").exists(), "nothing is written where the command is called"

    listed = virnuc("samples", "list", DAGSTER_HOME=dagster_home).stdout.splitlines()
    assert [line.split()[:5] for line in listed[2:]] == [
        ["a_b", "no", "0/8", "0/8", "no"],
        ["dna", "no", "0/8", "0/8", "no"],
    ]

    examined = virnuc("doctor", DAGSTER_HOME=dagster_home, CUDA_VISIBLE_DEVICES="")
    assert examined.returncode == 0
    assert f"{dagster_home}, 2 samples" in examined.stdout


@pytest.mark.parametrize(
    ("home", "arguments", "sentence"),
    [
        (None, ("dna.fa",), "DAGSTER_HOME is not set, so there is no platform to work with; set"),
        ("relative", ("dna.fa",), "DAGSTER_HOME=relative: is not the full path of a folder"),
        ("real", ("none.fa", "--name", "a|b"), "'a|b' cannot name a sample; use letters, digits"),
        ("real", ("dna.fa", "dna.fa", "--name", "a"), "--name: names one sample; give one file"),
        ("real", ("dna.fa", "x/dna.fasta"), "x/dna.fasta: would be sample dna, as dna.fa is"),
    ],
)
def test_a_sample_that_cannot_be_added(home, arguments, sentence, refused, dna, dagster_home):
    settings = {} if home is None else {"DAGSTER_HOME": dagster_home if home == "real" else home}
    assert sentence in refused("samples", "add", *arguments, **settings)


def test_an_imported_head_is_listed(virnuc, original):
    made = virnuc(
        "heads", "import", original / "module.pth", "--name", "lab", "--chunk-length", 500
    )
    assert made.returncode == 0
    assert (
        "768 (DNABERT-S) + 2560 (ESM-2) → 512 → 2, for chunks of 500 bases; "
        "use it with VIRNUC_HEAD=lab" in made.stdout
    )
    listed = virnuc("heads", "list").stdout.splitlines()
    assert [line.split() for line in listed[2:]] == [["lab", "lab", "500", "768", "+", "2560"]]


def test_models_list_names_public_and_configured_models(virnuc, tmp_path):
    (tmp_path / "esm2_t6_8M_UR50D.pt").write_bytes(b"")
    done = virnuc("models", "list", VIRNUC_MODELS=str(tmp_path), HF_HUB_CACHE=str(tmp_path / "hub"))
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["esm2_t6_8M_UR50D"] == ["6", "320", "yes"]
    assert rows["esm2_t36_3B_UR50D"] == ["36", "2560", "no"]
    assert rows["esm2"][:1] == rows["dnabert-s"][:1] == ["untrained"]


def test_doctor_fails_on_a_problem_and_says_what_to_do(virnuc, dna):
    settings = {"VIRNUC_ESM2": "esm2_t36_3B_UR50D", "VIRNUC_STORE": str(dna / "x")}
    done = virnuc("doctor", **settings, HF_HUB_CACHE="none", TORCH_HOME="none")
    assert done.returncode == 1
    assert done.stderr == ""
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "problem" in rows["esm2"]
    assert "virnuc models download esm2_t36_3B_UR50D" in rows["esm2"]
    assert "problem" in rows["store"]
    assert "ok" in rows["dnabert-s"]
    assert "DAGSTER_HOME is not set" in rows["Dagster"]


def test_doctor_says_what_the_bundled_model_is(virnuc):
    done = virnuc("doctor", **NO_MODELS)
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    for encoder in ("esm2", "dnabert-s"):
        assert "virnuc-mini-1: a small bundled model, not VirNucPro's" in rows[encoder]
    assert "virnuc-mini-1" in rows["head"]


def test_a_head_that_does_not_state_its_chunk_length_is_asked_for_it(refused, original):
    said = refused("heads", "import", original / "module.pth")
    assert said.endswith("give --chunk-length 300 or 500")
