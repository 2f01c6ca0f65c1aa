"""The bundled sample: what its headers, its truth and the code say of it is one and the same."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

from virnuc_assets.demo.sample import CONTIGS, FASTA, TRUTH, write_demo_sample
from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.truth import read_truth

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
    return read_fasta(FASTA)


def test_the_committed_sample_is_what_the_script_makes(tmp_path: Path) -> None:
    write_demo_sample(tmp_path / "demo.fa", tmp_path / "demo.truth.tsv", FASTA)
    assert (tmp_path / "demo.fa").read_bytes() == FASTA.read_bytes()
    assert (tmp_path / "demo.truth.tsv").read_bytes() == TRUTH.read_bytes()
    assert FASTA.stat().st_size < 200_000


def test_pieces_are_as_long_as_their_places_say(records: dict[str, tuple[str, str]]) -> None:
    for contig in CONTIGS:
        description, letters = records[contig.id]
        assert description.endswith(f", {contig.accession}:{contig.first}-{contig.last}")
        assert len(letters) == contig.last - contig.first + 1
        assert contig.first % 1000 == 1


def test_phix174_is_phix174(records: dict[str, tuple[str, str]]) -> None:
    # Of the letters, upper case, without line breaks.
    digest = hashlib.md5(records["phiX174"][1].encode()).hexdigest()
    assert digest == "3332ed720ac7eaa9b3655c06f6b9e196"


def test_reads_come_from_where_their_headers_say(records: dict[str, tuple[str, str]]) -> None:
    errors = bases = 0
    for name, (description, read) in records.items():
        if "_read_" not in name:
            continue
        origin, place = description.removeprefix("simulated from ").split(":")
        assert name.startswith(f"{origin}_read_")
        place, strand = place.rstrip(")").split("(")
        start, stop = map(int, place.split("-"))
        source = records[origin][1][start - 1 : stop]
        if strand == "-":
            source = source.translate(COMPLEMENT)[::-1]
        assert len(read) == len(source) == 150
        errors += sum(a != b for a, b in zip(read, source, strict=True))
        bases += len(read)
    assert 0 < errors < 0.01 * bases


def test_the_truth_names_every_record_in_order(records: dict[str, tuple[str, str]]) -> None:
    assert read_truth(TRUTH)["id"].to_list() == list(records)
    with TRUTH.open(newline="") as handle:
        truth = {row["id"]: row for row in csv.DictReader(handle, delimiter="\t")}
    for contig in CONTIGS:
        of_it = [truth[name] for name in records if name.startswith(contig.id)]
        assert {(row["label"], row["group"]) for row in of_it} == {(contig.label, contig.group)}
        assert len(of_it) == 1 + {"virus": 4, "other": 2}[contig.label]


def test_other_sequences_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.fa"
    for text, why in (
        (">x\nACGT\n", r"other\.fa: record 'x' has 4 bases where lambda_1 with 6000 is wanted"),
        ("".join(FASTA.read_text().partition(">lambda_2")[:1]), r"other\.fa: holds 1 of 20 pieces"),
    ):
        other.write_text(text)
        with pytest.raises(InputError, match=why):
            write_demo_sample(tmp_path / "demo.fa", tmp_path / "truth.tsv", other)
