"""The demo sample: pieces of real genomes, viral and not, and reads simulated from them.

Whole records of up to 10 kb; of longer ones 6 kb from a third of their length on, and of two of
them 6 kb from two thirds on as well, the starts rounded down to a thousand. `data/README.md` says
where the sequences were taken from.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from virnuc_assets.errors import InputError
from virnuc_assets.store.atomic import atomic_path

DATA = Path(__file__).parent / "data"
FASTA = DATA / "demo.fa"
TRUTH = DATA / "demo.truth.tsv"
"""Of every record id, label (virus or other) and group."""

_SEED = 1416
READ_LENGTH = 150
_READS_OF_A_CONTIG = {"virus": 4, "other": 2}
_ERROR_RATE = 0.005
_BASES = "ACGT"
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_LINE = 70


@dataclass(frozen=True)
class Contig:
    """A piece of a published sequence; places are counted from 1, both ends included."""

    id: str
    label: str
    group: str
    accession: str
    first: int
    last: int
    what: str

    @property
    def header(self) -> str:
        """The record's header."""
        return f"{self.id} {self.what}, {self.accession}:{self.first}-{self.last}"


CONTIGS = (
    Contig("lambda_1", "virus", "phage", "NC_001416.1", 16_001, 22_000, "phage lambda"),
    Contig("lambda_2", "virus", "phage", "NC_001416.1", 32_001, 38_000, "phage lambda"),
    Contig("phiX174", "virus", "phage", "NC_001422.1", 1, 5_386, "phage phiX174"),
    Contig("HIV_1", "virus", "retrovirus", "NC_001802.1", 1, 9_181, "HIV-1"),
    Contig("flu_HA", "virus", "RNA virus", "EU851978.1", 1, 1_698, "influenza A, segment 4"),
    Contig("flu_NP", "virus", "RNA virus", "KF527485.1", 1, 1_444, "influenza A, segment 5"),
    Contig("flu_NA", "virus", "RNA virus", "HM138502.1", 1, 1_410, "influenza A, segment 6"),
    Contig(
        *("E_coli_1", "other", "bacteria", "NC_008253.1", 1_646_001, 1_652_000),
        "Escherichia coli 536",
    ),
    Contig(
        *("E_coli_2", "other", "bacteria", "NC_008253.1", 3_292_001, 3_298_000),
        "Escherichia coli 536",
    ),
    Contig(
        *("Klebsiella", "other", "bacteria", "CP000647.1", 1_771_001, 1_777_000),
        "Klebsiella pneumoniae MGH 78578",
    ),
    Contig(
        *("Leptospira", "other", "bacteria", "NZ_AHMY02000051.1", 185_001, 191_000),
        "Leptospira kirschneri H1",
    ),
    Contig(
        *("M_tuberculosis", "other", "bacteria", "NC_000962.3", 1_470_001, 1_476_000),
        "Mycobacterium tuberculosis H37Rv",
    ),
    Contig(
        *("Streptomyces", "other", "bacteria", "AB070938.1", 1, 6_497), "Streptomyces avermitilis"
    ),
    Contig(
        *("Y_pestis_plasmid", "other", "plasmid", "NC_005816.1", 1, 9_609),
        "Yersinia pestis 91001, plasmid pPCP1",
    ),
    Contig(
        *("chloroplast", "other", "plastid", "NC_000932.1", 51_001, 57_000),
        "Arabidopsis thaliana chloroplast",
    ),
    Contig(
        *("Arabidopsis", "other", "plant", "AC007323.5", 28_001, 34_000),
        "Arabidopsis thaliana chromosome 1",
    ),
    Contig(
        *("fruit_fly", "other", "invertebrate", "AL138972.1", 51_001, 57_000),
        "Drosophila melanogaster",
    ),
    Contig(
        *("roundworm", "other", "invertebrate", "Z11115.3", 13_001, 19_000),
        "Caenorhabditis elegans",
    ),
    Contig(
        *("human", "other", "vertebrate", "U01317.1", 24_001, 30_000),
        "Homo sapiens, beta globin region",
    ),
    Contig(
        *("frog", "other", "vertebrate", "U23808.2", 1, 8_914), "Xenopus laevis, rhodopsin gene"
    ),
)


def write_demo_sample(fasta: Path, truth: Path, contigs: Path) -> None:
    """Write the sample to `fasta`, and what each record is to `truth` (id, label, group).

    `contigs` is a FASTA file that starts with the pieces, in the order of `CONTIGS` and under
    their ids; a demo sample does, so the sample can be made again from itself.

    Raises:
        InputError: a record is not the piece of that name and length.
    """
    pieces = _first_sequences(contigs)
    records = []
    for contig, (name, letters) in zip(CONTIGS, pieces, strict=False):
        length = contig.last - contig.first + 1
        if (name, len(letters)) != (contig.id, length):
            raise InputError(
                f"{contigs}: record {name!r} has {len(letters)} bases where {contig.id} with "
                f"{length} is wanted; give the pieces that demo/sample.py lists"
            )
        records.append((contig, contig.header, letters))
    if len(records) < len(CONTIGS):
        raise InputError(
            f"{contigs}: holds {len(records)} of {len(CONTIGS)} pieces; give all that "
            "demo/sample.py lists"
        )
    rng = random.Random(_SEED)
    for contig, _, letters in records[: len(CONTIGS)]:
        for number in range(1, _READS_OF_A_CONTIG[contig.label] + 1):
            place, read = _simulated_read(rng, letters)
            header = f"{contig.id}_read_{number} simulated from {contig.id}:{place}"
            records.append((contig, header, read))
    with atomic_path(fasta) as temporary:
        temporary.write_text("".join(_as_fasta(header, letters) for _, header, letters in records))
    lines = [
        f"{header.split()[0]}\t{contig.label}\t{contig.group}\n" for contig, header, _ in records
    ]
    with atomic_path(truth) as temporary:
        temporary.write_text("id\tlabel\tgroup\n" + "".join(lines))


# Built on random() alone, the one method whose stream Python keeps from version to version.
def _simulated_read(rng: random.Random, letters: str) -> tuple[str, str]:
    start = int(rng.random() * (len(letters) - READ_LENGTH + 1))
    read = letters[start : start + READ_LENGTH]
    strand = "+" if rng.random() < 0.5 else "-"
    if strand == "-":
        read = read.translate(_COMPLEMENT)[::-1]
    with_errors = [
        _pick(rng, _BASES.replace(base, "")) if rng.random() < _ERROR_RATE else base
        for base in read
    ]
    return f"{start + 1}-{start + READ_LENGTH}({strand})", "".join(with_errors)


def _pick(rng: random.Random, items: str) -> str:
    return items[int(rng.random() * len(items))]


def _first_sequences(path: Path) -> list[tuple[str, str]]:
    """Name and letters of the first records, as many as there are pieces."""
    entries = path.read_text(encoding="ascii").split(">")[1 : len(CONTIGS) + 1]
    parts = (entry.partition("\n") for entry in entries)
    return [(header.split()[0], letters.replace("\n", "")) for header, _, letters in parts]


def _as_fasta(header: str, letters: str) -> str:
    lines = [letters[i : i + _LINE] for i in range(0, len(letters), _LINE)]
    return "\n".join([f">{header}", *lines]) + "\n"
