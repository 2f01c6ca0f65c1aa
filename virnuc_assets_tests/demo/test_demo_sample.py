from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import virnuc_assets.demo
from virnuc_assets.demo.sample import GENOME_ID, write_demo_sample
from virnuc_assets.errors import InputError

DATA = Path(virnuc_assets.demo.__path__[0]) / "data"
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def read_fasta(path: Path) -> dict[str, tuple[str, str]]:
    records = {}
    for entry in path.read_text().split(">")[1:]:
        header, _, letters = entry.partition("\n")
        name, _, description = header.partition(" ")
        records[name] = (description, letters.replace("\n", ""))
    return records


@pytest.fixture(scope="module")
def records() -> dict[str, tuple[str, str]]:
    return read_fasta(DATA / "demo.fa")


def test_the_committed_sample_is_what_the_script_makes(tmp_path: Path) -> None:
    write_demo_sample(tmp_path / "demo.fa", tmp_path / "demo.truth.tsv", DATA / "demo.fa")
    for name in ("demo.fa", "demo.truth.tsv"):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()
    assert (DATA / "demo.fa").stat().st_size < 120_000


def test_the_genome_is_phage_lambda(records: dict[str, tuple[str, str]]) -> None:
    genome = records[GENOME_ID][1]
    assert len(genome) == 48_502
    # MD5 of the letters of the packaged genome, upper case, without line breaks.
    assert hashlib.md5(genome.encode()).hexdigest() == "509bdb356475a21077713babc47a4a35"


def test_reads_come_from_where_their_headers_say(records: dict[str, tuple[str, str]]) -> None:
    genome = records[GENOME_ID][1]
    errors = 0
    for i in range(1, 41):
        description, read = records[f"lambda_read_{i:03d}"]
        place, strand = description.rsplit(":", 1)[1].rstrip(")").split("(")
        start, stop = map(int, place.split("-"))
        source = genome[start - 1 : stop]
        if strand == "-":
            source = source.translate(COMPLEMENT)[::-1]
        assert len(read) == len(source) == 150
        errors += sum(a != b for a, b in zip(read, source, strict=True))
    assert 0 < errors < 0.01 * 40 * 150


def test_the_truth_names_every_record_in_order(records: dict[str, tuple[str, str]]) -> None:
    lines = (DATA / "demo.truth.tsv").read_text().splitlines()
    assert lines[0] == "record\tclass"
    truth = dict(line.split("\t") for line in lines[1:])
    assert list(truth) == list(records)
    for name, kind in truth.items():
        assert kind == ("other" if name.startswith("decoy") else "virus")
        assert ("simulated" in records[name][0]) == (name != GENOME_ID)
    contigs = [len(records[f"decoy_contig_{i}"][1]) for i in (1, 2, 3)]
    assert contigs == [2_000, 4_500, 8_000]


def test_another_genome_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.fa"
    other.write_text(">x\nACGT\n")
    with pytest.raises(InputError, match=r"other\.fa: its first record is not NC_001416\.1"):
        write_demo_sample(tmp_path / "demo.fa", tmp_path / "truth.tsv", other)
