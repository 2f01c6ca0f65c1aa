"""Labelled FASTA to a corpus: what is for testing stays out, what validates stays whole."""

import numpy as np
import pytest

from virnuc_assets.errors import InputError
from virnuc_assets.training.genomes import SHORTEST, read_genomes


@pytest.fixture
def manifest(write_fasta, write_table):
    """Eight phages and eight bacteria of two records each, and one of both for testing."""
    files = ["file class group split genus"]
    for name, label in (("phage", "virus"), ("bacteria", "other")):
        for number in range(9):
            split = "test" if number == 8 else ""
            file = f"{name}{number}.fa"
            write_fasta(file, [f"{name}{number}a", f"{name}{number}b"], length=600)
            files.append(f"{file} {label} {name} {split} G{name}{number}")
    return write_table("manifest.tsv", *files)


def texts(corpus):
    return [
        corpus.letters[start:stop].tobytes().decode()
        for start, stop in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)
    ]


def test_what_is_for_testing_never_enters(manifest):
    corpus = read_genomes(manifest, None, None, 1)
    assert set(corpus.genome) == {f"G{name}{n}" for name in ("phage", "bacteria") for n in range(8)}
    assert set(corpus.split) == {"train", "validation"}
    for name in ("phage8.fa", "bacteria8.fa"):
        lines = (manifest.parent / name).read_text().splitlines()
        assert not set(lines) & set(texts(corpus))


def test_letters_and_labels_are_the_files(manifest):
    corpus = read_genomes(manifest, None, None, 1)
    written = {}
    for path in manifest.parent.glob("*.fa"):
        lines = path.read_text().splitlines()
        written |= dict.fromkeys(lines[1::2], path.stem)
    for text, genome, group, is_virus in zip(
        texts(corpus), corpus.genome, corpus.group, corpus.is_virus, strict=True
    ):
        assert genome == f"G{written[text]}"
        assert genome.startswith(f"G{group}")
        assert is_virus == (group == "phage")
    assert not corpus.masked.any()


def test_genomes_held_out_are_whole_and_about_an_eighth_of_each_group(manifest):
    corpus = read_genomes(manifest, None, None, 1)
    for group in ("phage", "bacteria"):
        of_group = corpus.group == group
        held = set(corpus.genome[of_group & (corpus.split == "validation")])
        assert len(held) == 1
        assert not held & set(corpus.genome[of_group & (corpus.split == "train")])


def test_what_is_held_out_depends_on_the_seed_alone(manifest):
    drawn = [read_genomes(manifest, None, None, seed).split.tolist() for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2] or drawn[0] != drawn[3]


def test_a_genome_that_most_of_a_group_is_stays_in_training(manifest, write_fasta):
    write_fasta("phage0.fa", ["phage0a"], length=9000)
    for seed in range(6):
        corpus = read_genomes(manifest, None, None, seed)
        assert set(corpus.split[corpus.genome == "Gphage0"]) == {"train"}


def test_genomes_given_for_validation_are_kept(manifest):
    table = manifest.read_text()
    for genome in ("phage2", "bacteria5"):
        table = table.replace(f"\t\tG{genome}\n", f"\tvalidation\tG{genome}\n")
    manifest.write_text(table)
    corpus = read_genomes(manifest, None, None, 1)
    assert set(corpus.genome[corpus.split == "validation"]) == {"Gphage2", "Gbacteria5"}


def test_masked_places_are_stretches_of_their_own(manifest, write_table):
    mask = write_table("mask.tsv", "record_id start0 end", "bacteria3a 200 400", "elsewhere 0 9")
    corpus = read_genomes(manifest, None, mask, 1)
    assert corpus.lengths[corpus.genome == "Gbacteria3"].tolist() == [200, 200, 200, 600]
    assert corpus.masked[corpus.genome == "Gbacteria3"].tolist() == [False, True, False, False]
    assert corpus.masked.sum() == 1


def test_short_stretches_and_other_letters_are_left_out(manifest):
    path = manifest.parent / "phage0.fa"
    plain = "ACGGT" * 60
    path.write_text(f">a\n{plain}NN{plain.lower()[: SHORTEST - 1]}\n>b\n{plain[: SHORTEST - 1]}\n")
    corpus = read_genomes(manifest, None, None, 1)
    found = np.array(texts(corpus))[corpus.genome == "Gphage0"]
    assert found.tolist() == [plain]


def test_records_may_differ_from_their_file(manifest, write_table):
    lines = ["record_id file genus split"]
    for name in ("phage", "bacteria"):
        for number in range(9):
            for record in "ab":
                split = "test" if (name, number, record) == ("phage", 1, "b") else ""
                line = f"{name}{number}{record} {name}{number}.fa X{name}{number}{record} {split}"
                lines.append(line)
    corpus = read_genomes(manifest, write_table("records.tsv", *lines), None, 1)
    assert "Xphage1a" in corpus.genome
    assert "Xphage1b" not in corpus.genome


def test_two_genomes_of_a_class_cannot_validate(write_fasta, write_table):
    for name in ("a.fa", "b.fa"):
        write_fasta(name, [f"{name}1", f"{name}2"])
    manifest = write_table("m.tsv", "file class", "a.fa virus", "b.fa other")
    with pytest.raises(InputError, match=r"m\.tsv: .*the validation part has no virus"):
        read_genomes(manifest, None, None, 1)


def test_a_file_without_usable_stretches_is_explained(write_fasta, write_table):
    for name in ("a.fa", "b.fa"):
        write_fasta(name, list("1234"), length=SHORTEST - 1)
    manifest = write_table("m.tsv", "file class", "a.fa virus", "b.fa other")
    with pytest.raises(InputError, match=r"m\.tsv: .*the train part has no virus"):
        read_genomes(manifest, None, None, 1)
