"""`virnuc train-head`: labelled files to a head that calls records; nothing is done twice."""

import json
import re
import subprocess

import polars as pl
import pytest

from virnuc_assets.inspection import inspect
from virnuc_assets.store.digests import sha256_file
from virnuc_assets_tests.cli.process import COMMAND, environment

PER_CLASS = 24
BLOCKS = re.compile(r"(\d+) of (\d+) blocks done before")


@pytest.fixture
def virnuc(tmp_path):
    def run(*arguments, **settings):
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def labelled(write_fasta, write_table):
    """A manifest and a table of records: viruses are rich in GC, two records are a genome."""
    lines = ["record_id file group virus_cluster genus"]
    for name, gc in (("v", 0.72), ("o", 0.5)):
        ids = [f"{name}{i}" for i in range(PER_CLASS)]
        write_fasta(f"data/{name}.fa", ids, gc=gc, length=600)
        for i, one in enumerate(ids):
            cluster = f"C{i // 2} " if name == "v" else f" G{i // 2}"
            lines.append(f"{one} data/{name}.fa {name}-{i % 4 // 2} {cluster}")
    manifest = write_table("m.tsv", "file class", "data/v.fa virus", "data/o.fa other")
    return manifest, write_table("r.tsv", *lines)


def train(virnuc, labelled, *more):
    manifest, records = labelled
    arguments = ("--manifest", manifest, "--records", records, "--chunk-length", 90, *more)
    return virnuc(
        "train-head", "--name", "toy", *arguments, VIRNUC_STORE="store", VIRNUC_GPUS="cpu"
    )


@pytest.mark.slow
def test_a_head_is_trained_listed_and_used_and_the_same_call_gives_the_same_head(
    virnuc, labelled, write_fasta, write_table, tmp_path
):
    mask = write_table("mask.tsv", "record_id start0 end", "o0 0 300", "o5 100 500")
    first = train(virnuc, labelled, "--mask", mask, "--learning-curve")
    assert first.returncode == 0, first.stderr
    assert all(done == "0" for done, _ in BLOCKS.findall(first.stderr))
    folder = tmp_path / "store" / "heads" / "toy"
    metrics = json.loads((folder / "metrics.json").read_text())
    card = (folder / "model_card.md").read_text()

    (test,) = [
        row
        for row in metrics["metrics"]
        if (row["part"], row["masked"], row["group"], row["weight"])
        == ("test", "kept", "all", "groups")
    ]
    assert test["auroc"] > 0.9
    groups = {row["group"] for row in metrics["metrics"] if row["part"] == "test"}
    assert groups == {"all", "v-0", "v-1", "o-0", "o-1"}
    genomes = pl.DataFrame(metrics["counts"]).group_by("group").agg(pl.col("genomes").sum())
    assert genomes["genomes"].to_list() == [PER_CLASS // 4] * 4
    assert [point["share"] for point in metrics["learning_curve"]] == [0.1, 0.3, 1.0]
    assert metrics["masked_frames"] > 0
    assert metrics["provenance"]["table m.tsv"] == sha256_file(labelled[0])
    inspected = inspect(folder / "metrics.json", deep=False)
    assert (inspected.facts["name"], inspected.faults) == ("toy", ())
    for text in (metrics["provenance"]["head"], "untrained", f"{test['auroc']:.4f}"):
        assert text in card
    for name in ("training", "curves", "reliability", "learning_curve"):
        assert f"]({name}.svg)" in card
        assert (folder / f"{name}.svg").read_text().startswith("<?xml")

    # Nothing is embedded again, and the CPU gives the same bits.
    head = (folder / "head.safetensors").read_bytes()
    second = train(virnuc, labelled, "--mask", mask)
    assert second.returncode == 0, second.stderr
    assert len(BLOCKS.findall(second.stderr)) == 2
    assert all(done == n for done, n in BLOCKS.findall(second.stderr))
    assert (folder / "head.safetensors").read_bytes() == head

    listed = virnuc("heads", "list", VIRNUC_STORE="store")
    assert "toy   toy    90            48 + 64" in listed.stdout
    new = write_fasta("new.fa", ["viral", "viral2"], gc=0.72, length=900)
    called = virnuc(
        *("predict", new, "-o", "out", "--chunk-length", 90, "--device", "cpu"),
        VIRNUC_STORE="store",
        VIRNUC_HEAD="toy",
    )
    assert called.returncode == 0, called.stderr
    records = pl.read_parquet(tmp_path / "out" / "predictions" / "new" / "records.parquet")
    assert records["is_virus"].to_list() == [True, True]


@pytest.mark.slow
def test_a_head_for_two_chunk_lengths_states_none(virnuc, labelled, tmp_path):
    done = train(virnuc, labelled, "--chunk-length", 60, "--out", "head", "--work", "work")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "head" / "head.json").read_text())["chunk_length"] is None
    rows = json.loads((tmp_path / "head" / "metrics.json").read_text())["metrics"]
    assert {row["chunk_length"] for row in rows} == {60, 90}
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (["--virus", "x.fa"], {}, "--other: no file is given, and a classifier needs both"),
        (["--manifest", "none.tsv"], {}, "none.tsv: no such file; give a tab-separated table"),
        (["--manifest", "bad.tsv"], {}, "bad.tsv: line 2: there is no file "),
        (
            ["--manifest", "bad.tsv"],
            {"VIRNUC_ESM2": "esm2_t6_8M_UR50D", "VIRNUC_DNABERT_S": ""},
            "VIRNUC_ESM2 set, but not VIRNUC_DNABERT_S; set both (virnuc-mini-1 is the bundled",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence(virnuc, write_table, arguments, settings, sentence):
    write_table("bad.tsv", "file class", "missing.fa virus")
    done = virnuc("train-head", "--name", "toy", *arguments, **settings)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {sentence}")
    assert "Traceback" not in done.stderr
