"""The demo sample: one real virus genome, reads simulated from it, and simulated decoys.

The genome is phage lambda (NC_001416.1). The decoys are no organism's: reads of independent random
bases, and contigs of three imaginary genomes, each with its own GC content, in which open reading
frames of codons drawn at that GC content alternate with stretches from an order-2 Markov chain.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from virnuc_assets.errors import InputError
from virnuc_assets.store.atomic import atomic_path

GENOME_ID = "NC_001416.1"
GENOME_HEADER = (
    f"{GENOME_ID} Enterobacteria phage lambda, complete genome "
    "(GenBank/RefSeq, as shipped in Debian's bowtie2-examples)"
)
GENOME_LENGTH = 48_502

_SEED = 1416
_READ_LENGTH = 150
_N_READS = 40
_ERROR_RATE = 0.005
# (length in bases, GC content) of each decoy contig.
_CONTIGS = ((2_000, 0.35), (4_500, 0.50), (8_000, 0.65))
_BASES = "ACGT"
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_STOPS = {"TAA", "TAG", "TGA"}
_LINE = 70


def write_demo_sample(fasta: Path, truth: Path, lambda_fasta: Path) -> None:
    """Write the sample to `fasta` and what each record is to `truth` (record, class).

    `lambda_fasta` is a FASTA file whose first record is the genome; a demo sample is one, so the
    sample can be made again from itself.

    Raises:
        InputError: the first record is not a sequence of the genome's length.
    """
    genome = _first_sequence(lambda_fasta)
    if len(genome) != GENOME_LENGTH or set(genome) - set(_BASES):
        raise InputError(
            f"{lambda_fasta}: its first record is not {GENOME_ID}, which has {GENOME_LENGTH} "
            "bases, all of them A, C, G or T; give phage lambda's genome"
        )
    rng = random.Random(_SEED)
    records = [(GENOME_HEADER, genome, "virus")]
    for i in range(1, _N_READS + 1):
        header, read = _simulated_read(rng, genome)
        records.append((f"lambda_read_{i:03d} {header}", read, "virus"))
    for i in range(1, _N_READS + 1):
        read = "".join(_pick(rng, _BASES) for _ in range(_READ_LENGTH))
        records.append((f"decoy_read_{i:03d} simulated, random bases", read, "other"))
    for i, (length, gc) in enumerate(_CONTIGS, 1):
        contig = _simulated_contig(rng, length, gc)
        header = f"decoy_contig_{i} simulated, codon and Markov model, GC {gc:.0%}"
        records.append((header, contig, "other"))

    with atomic_path(fasta) as temporary:
        temporary.write_text("".join(_fasta(header, letters) for header, letters, _ in records))
    lines = [f"{header.split()[0]}\t{kind}\n" for header, _, kind in records]
    with atomic_path(truth) as temporary:
        temporary.write_text("record\tclass\n" + "".join(lines))


def _simulated_read(rng: random.Random, genome: str) -> tuple[str, str]:
    start = int(rng.random() * (len(genome) - _READ_LENGTH + 1))
    read = genome[start : start + _READ_LENGTH]
    strand = "+" if rng.random() < 0.5 else "-"
    if strand == "-":
        read = read.translate(_COMPLEMENT)[::-1]
    letters = [
        _pick(rng, _BASES.replace(base, "")) if rng.random() < _ERROR_RATE else base
        for base in read
    ]
    where = f"simulated from {GENOME_ID}:{start + 1}-{start + _READ_LENGTH}({strand})"
    return where, "".join(letters)


def _simulated_contig(rng: random.Random, length: int, gc: float) -> str:
    base_weight = {base: gc / 2 if base in "GC" else (1 - gc) / 2 for base in _BASES}
    codons = ["".join(codon) for codon in product(_BASES, repeat=3)]
    codons = [codon for codon in codons if codon not in _STOPS]
    # A codon's usage is its bases' times a bias of the imaginary genome, here and per context.
    usage = [
        (0.3 + rng.random()) * math.prod(base_weight[base] for base in codon) for codon in codons
    ]
    contexts = {
        a + b: [(0.5 + rng.random()) * base_weight[base] for base in _BASES]
        for a, b in product(_BASES, repeat=2)
    }
    contig = ""
    while len(contig) < length:
        spacer = "".join(_pick(rng, _BASES) for _ in range(2))
        for _ in range(60 + int(rng.random() * 120)):
            spacer += _weighted(rng, _BASES, contexts[spacer[-2:]])
        gene = "ATG" + "".join(
            _weighted(rng, codons, usage) for _ in range(80 + int(rng.random() * 250))
        )
        gene += "TAA"
        contig += spacer + (gene if rng.random() < 0.5 else gene.translate(_COMPLEMENT)[::-1])
    return contig[:length]


# Built on random() alone, the one method whose stream Python keeps from version to version, and on
# fsum(), which rounds alike in all of them; sum() does not.
def _pick(rng: random.Random, items: str) -> str:
    return items[int(rng.random() * len(items))]


def _weighted(rng: random.Random, items: Sequence[str], weights: Sequence[float]) -> str:
    left = rng.random() * math.fsum(weights)
    for item, weight in zip(items, weights, strict=True):
        left -= weight
        if left < 0:
            return item
    return items[-1]


def _first_sequence(path: Path) -> str:
    lines: list[str] = []
    with path.open(encoding="ascii") as handle:
        for number, line in enumerate(handle):
            if line.startswith(">"):
                if number:
                    break
            else:
                lines.append(line.strip())
    return "".join(lines)


def _fasta(header: str, letters: str) -> str:
    lines = [letters[i : i + _LINE] for i in range(0, len(letters), _LINE)]
    return "\n".join([f">{header}", *lines]) + "\n"
