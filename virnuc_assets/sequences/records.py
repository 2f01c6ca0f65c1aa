"""Reading records, FASTA or FASTQ, and refusing what is not.

Every fault names the file, the record, the line and the remedy. pyfastx is not used here because
it passes over faults in silence: it ends a truncated gzip early, gives nothing for a damaged one,
and yields empty ids and empty records as if they were records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.blocks import Block
from virnuc_assets.sequences.parsing import (
    BLANK,
    LONGEST_ID,
    REFUSED,
    Fault,
    Parsed,
    parse_block,
)
from virnuc_assets.sequences.ragged import string_array

Kind = Literal["nucleotide", "protein"]

_PROTEIN_ONLY = "EFILPQ"
_SHOWN = 200  # letters of an id


def _letter_table(letters: bytes, read_as: bytes) -> np.ndarray:
    table = np.full(256, REFUSED, np.uint8)
    table[list(b" \t\r\n\v\f")] = BLANK
    table[list(letters + letters.lower())] = list(read_as * 2)
    return table


_LETTERS = {
    "nucleotide": _letter_table(b"ACGTUNRYSWKMBDHV", read_as=b"ACGTTNRYSWKMBDHV"),
    "protein": _letter_table(*[b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-."] * 2),
}


@dataclass(frozen=True)
class Records:
    """Consecutive records of a file.

    Attributes:
        ids: headers up to the first white space, n strings.
        letters: upper-case ASCII of all records end to end, uint8; in nucleotides U became T.
        offsets: where each record starts in `letters`, int64, shape (n + 1,).
        rna: which records hold a U (never set for proteins), bool, shape (n,).
    """

    ids: pa.LargeStringArray
    letters: np.ndarray
    offsets: np.ndarray
    rna: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def parse_records(path: Path, kind: Kind, block: Block) -> Records:
    """The records of a block of `path`.

    FASTA: lines may be wrapped or not and end in LF or CRLF; blank lines and blanks within
    sequences are passed over. FASTQ: four lines a record; qualities are passed over. Letters may
    be lower case.

    Raises:
        InputError: a record has no id, an id that is not printable ASCII or has more than
            `LONGEST_ID` letters, no sequence, or a letter that is not an IUPAC code of `kind`
            (gaps are refused in nucleotides); or it is not laid out as FASTQ is.
    """
    parsed = parse_block(block, _LETTERS[kind])
    if parsed.fault:
        raise InputError(f"{path}: {_explain(parsed, kind, block)}")
    rna = parsed.rna if kind == "nucleotide" else np.zeros_like(parsed.rna)
    ids = string_array(parsed.ids, np.append(0, parsed.id_ends))
    return Records(ids, parsed.letters, np.append(0, parsed.ends), rna)


def rna_warnings(rna_records: int, records: int) -> tuple[str, ...]:
    """What a person should be told about records that held a U; nothing when none did."""
    if not rna_records:
        return ()
    return (f"{rna_records} of {records} records hold U (RNA), which was read as T",)


_FAULTS = {
    Fault.NO_ID: ("has no id", "name it directly after the '>' or '@'"),
    Fault.ODD_ID: (
        "has an id that is not plain ASCII",
        "rename it with letters, digits and punctuation",
    ),
    Fault.LONG_ID: (f"has an id of more than {LONGEST_ID} letters", "give it a shorter one"),
    Fault.NO_SEQUENCE: ("has no sequence", "remove it or give its sequence"),
    Fault.BARE_RETURN: (
        "has a carriage return within its header line",
        "end all lines in LF or CRLF (dos2unix -c mac)",
    ),
    Fault.NO_AT: (
        "does not start with '@'",
        "give FASTQ with four lines a record (seqkit seq -w 0)",
    ),
    Fault.NO_PLUS: (
        "has no '+' on the line after its sequence",
        "give FASTQ with four lines a record (seqkit seq -w 0)",
    ),
    Fault.CUT_SHORT: ("has fewer than four lines", "copy or download the file again"),
    Fault.ODD_QUALITY: (
        "has more or fewer qualities than letters",
        "copy or download the file again",
    ),
}


def _explain(parsed: Parsed, kind: Kind, block: Block) -> str:
    """A fault in words: the record, what is wrong with it, where, and the remedy."""
    before = int(parsed.id_ends[-2]) if len(parsed.id_ends) > 1 else 0
    name = parsed.ids[before:][:_SHOWN].tobytes().decode("latin-1")
    if parsed.fault is Fault.ODD_LETTER:
        fault, remedy = _letter_fault(chr(parsed.byte), kind)
    else:
        fault, remedy = _FAULTS[parsed.fault]
    # Of a record that does not start as one, only the line is known.
    record = f"record {name!a}" if name and parsed.fault is not Fault.NO_AT else "a record"
    return f"{record} {fault} (line {block.line + parsed.line}); {remedy}"


def _letter_fault(letter: str, kind: Kind) -> tuple[str, str]:
    """What to say of a letter that `kind` does not have: the fault and the remedy."""
    if not letter.isascii():
        return f"holds the non-ASCII byte {ord(letter):#04x}", "save the file as plain ASCII text"
    if kind == "protein":
        return f"holds {letter!r}, which is not a residue", "remove it from the sequence"
    fault = f"holds {letter!r}, which is not a nucleotide"
    if letter.upper() in _PROTEIN_ONLY:
        return f"{fault}, and looks like a protein", "give the DNA instead"
    if letter in "-.":
        return f"{fault} but an alignment gap", "remove the gaps (seqkit seq -g)"
    return fault, "correct it or replace it with N"
