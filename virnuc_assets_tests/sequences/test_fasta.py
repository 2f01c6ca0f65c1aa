"""What is read from FASTA, however it is dressed, and what is refused and how it is named."""

from __future__ import annotations

import gzip
import random
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.fasta import read_fasta
from virnuc_assets.sequences.input_file import check_unchanged, identify


def read(path, kind="nucleotide", batch_bytes=1 << 20):
    """The records of a file as (id, letters, held a U), checking how batches join."""
    records = []
    for batch in read_fasta(path, kind, batch_bytes):
        assert batch.first == len(records)
        assert batch.offsets.dtype == np.int64
        assert batch.offsets[0] == 0
        assert batch.offsets[-1] == batch.letters.size
        text = batch.letters.tobytes().decode()
        spans = zip(batch.offsets, batch.offsets[1:], strict=False)
        letters = [text[a:b] for a, b in spans]
        records += zip(batch.ids.to_pylist(), letters, batch.rna.tolist(), strict=True)
    return records


PLAIN = [("a", "ACGTNACGT", False), ("b|2/1", "GGCC", False), ("c", "TTT", False)]
DRESSED = {
    "plain": b">a\nACGTNACGT\n>b|2/1\nGGCC\n>c\nTTT\n",
    "wrapped": b">a\nACG\nTNA\nCGT\n>b|2/1\nGG\nCC\n>c\nTTT\n",
    "described": b">a first one\nACGTNACGT\n>b|2/1\tx y\nGGCC\n>c \nTTT\n",
    "CRLF": b">a\r\nACGTN\r\nACGT\r\n>b|2/1\r\nGGCC\r\n>c\r\nTTT\r\n",
    "lower case": b">a\nacgtnacgt\n>b|2/1\nGgCc\n>c\nttt\n",
    "no final newline": b">a\nACGTNACGT\n>b|2/1\nGGCC\n>c\nTTT",
    "blank lines": b"\n \r\n>a\n\nACGTN\n\nACGT\n\n>b|2/1\nGGCC\n>c\nTTT\n\n\n",
    "blanks in lines": b">a\nACGTN ACGT \n>b|2/1\n\tGGCC\n>c\nTTT\n",
    "header marks in a header": b">a >b >>\nACGTNACGT\n>b|2/1 >x\nGGCC\n>c\nTTT\n",
    "non-ASCII description": ">a caf\u00e9\nACGTNACGT\n>b|2/1 \u00b5\nGGCC\n>c\nTTT\n".encode(),
    "U in a header": b">a UuU\nACGTNACGT\n>b|2/1\nGGCC\n>c\nTTT\n",
}


@pytest.mark.parametrize("batch_bytes", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("packed", [False, True], ids=["text", "gzip"])
@pytest.mark.parametrize("dress", DRESSED)
def test_the_same_records_however_dressed(dress, packed, batch_bytes, write):
    content = gzip.compress(DRESSED[dress]) if packed else DRESSED[dress]
    assert read(write(content), batch_bytes=batch_bytes) == PLAIN


def test_gzip_is_told_by_its_bytes_not_its_name(write):
    assert read(write(DRESSED["plain"], "plain.fa.gz")) == PLAIN
    assert read(write(gzip.compress(DRESSED["plain"]), "packed.fna")) == PLAIN


def test_gzip_of_several_members(write):
    first, rest = DRESSED["wrapped"][:9], DRESSED["wrapped"][9:]
    assert read(write(gzip.compress(first) + gzip.compress(rest))) == PLAIN


def test_u_is_read_as_t_in_nucleotides_and_told(write):
    path = write(">a\nACGU\n>b\nACGT\n>c\nuu\n")
    assert read(path) == [("a", "ACGT", True), ("b", "ACGT", False), ("c", "TT", True)]


def test_proteins_are_kept_as_they_are(write):
    path = write(">a\nMKUXBZJO\n>b\nmk-v.\n")
    assert read(path, "protein") == [("a", "MKUXBZJO", False), ("b", "MK-V.", False)]


def test_a_batch_is_whole_records_even_one_that_is_longer(write):
    path = write(">a\nAC\n>b\n" + "ACGT\n" * 100 + ">c\nAC\n>d\nGT\n")
    batches = [batch.ids.to_pylist() for batch in read_fasta(path, "nucleotide", 12)]
    assert batches[0] == ["a"]
    assert batches[1][0] == "b"
    assert [name for batch in batches for name in batch] == ["a", "b", "c", "d"]


@settings(
    max_examples=200,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    records=st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12),
        st.text("ACGTNacgtnRY", min_size=1, max_size=60),
        min_size=1,
        max_size=10,
    ),
    width=st.integers(1, 70),
    batch_bytes=st.integers(1, 300),
)
def test_any_records_in_any_batches_as_pyfastx_reads_them(records, width, batch_bytes, write):
    pyfastx = pytest.importorskip("pyfastx")
    lines = []
    for name, letters in records.items():
        lines += [f">{name} text"] + [letters[i : i + width] for i in range(0, len(letters), width)]
    path = write("\n".join(lines) + "\n")
    found = read(path, batch_bytes=batch_bytes)
    assert found == [(name, letters.upper(), False) for name, letters in records.items()]
    peer = [(record[0], record[1].upper()) for record in pyfastx.Fastx(str(path))]
    assert [record[:2] for record in found] == peer


def test_a_long_file_in_batches_of_the_usual_size(write):
    rng = random.Random(3)
    records = [(f"r{i}", "".join(rng.choices("ACGT", k=700))) for i in range(2000)]
    path = write("".join(f">{name}\n{letters}\n" for name, letters in records))
    assert [record[:2] for record in read(path, batch_bytes=1 << 16)] == records
    assert [record[:2] for record in read(path)] == records


GOOD = b">a\nACGT\n>b\nGGCC\n"
PACKED = gzip.compress(GOOD)
BROKEN = {
    "empty": (b"", "the file is empty"),
    "blank": (b"\n \r\n", "holds no records"),
    "empty gzip": (gzip.compress(b""), "holds no records"),
    "not FASTA": (b"hello world\n", "line 1 starts with 'hello world"),
    "text first": (b"\n; note\n>a\nACGT\n", "line 2 starts with '; note"),
    "binary": (bytes(range(128, 256)), r"line 1 starts with '\\x80"),
    "FASTQ": (b"@r1\nACGT\n+\nIIII\n", "looks like FASTQ; convert it to FASTA"),
    "truncated gzip": (PACKED[:-6], "the gzip file is truncated"),
    "gzip cut in its header": (PACKED[:5], "the gzip file is truncated"),
    "damaged gzip": (PACKED[:-8] + bytes(8), "the gzip file is damaged"),
    "garbage after gzip": (PACKED + b"garbage", "the gzip file is damaged"),
    "duplicate ids": (GOOD + b">a x\nTT\n", "the id 'a' belongs to more than one record"),
    "no sequence": (b">a\nAC\n>b x\n>c\nAC\n", r"record 'b' has no sequence \(line 3\)"),
    "blank sequence": (b">a\r\n \r\n\r\n>c\r\nAC\r\n", "record 'a' has no sequence"),
    "no sequence at the end": (b">a\nAC\n>b", r"record 'b' has no sequence \(line 3\)"),
    "no id": (b">a\nAC\n>\nGT\n", r"record 2 has no id \(line 3\)"),
    "blank before the id": (b"> a\nAC\n", "record 1 has no id"),
    "non-ASCII id": (
        ">caf\u00e9 x\nAC\n".encode(),
        r"record 'caf\\xc3\\xa9' has an id that is not",
    ),
    "protein": (b">p1\nMKV\nLLAEF\n", r"record 'p1' holds 'L'.*looks like a protein \(line 3\)"),
    "other letter": (b">a\nACGT\nAXC\n", r"record 'a' holds 'X', which is not a nucleotide \(li"),
    "digits": (b">a\n1 ACGT\n", "record 'a' holds '1'"),
    "stop symbol": (b">a\nACGT*\n", r"record 'a' holds '\*'"),
    "gap": (b">a\nAC-GT\n", "alignment gap .*; remove the gaps"),
    "non-ASCII letter": (b">a\nAC\xe9GT\n", "record 'a' holds the non-ASCII byte 0xe9"),
    "control character": (b">a\nAC\x00GT\n", r"record 'a' holds '\\x00'"),
    "header mark in a line": (b">a\nAC>b\n", "record 'a' holds '>'"),
}


@pytest.mark.parametrize("batch_bytes", [5, 1 << 20])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_input_is_named_in_one_sentence(case, batch_bytes, write):
    content, message = BROKEN[case]
    path = write(content)
    with pytest.raises(InputError, match=message) as caught:
        read(path, batch_bytes=batch_bytes)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "; " in text, "a remedy"
    assert "\n" not in text


def test_a_stop_symbol_in_a_protein(write):
    with pytest.raises(InputError, match=r"record 'p' holds '\*', which is not a residue"):
        read(write(">p\nMKV*\n"), "protein")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"none\.fa: no such file; check the path"):
        read(tmp_path / "none.fa")
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}: cannot be read (Is a directory)")):
        read(tmp_path)


def test_duplicates_far_apart(write):
    path = write("".join(f">r{i % 99}\nACGT\n" for i in range(100)))
    with pytest.raises(InputError, match="'r0' belongs to more than one record"):
        read(path, batch_bytes=64)


def test_the_line_of_a_fault_counts_from_the_start_of_the_file(write):
    path = write("\n\n" + "".join(f">r{i}\nACGT\n" for i in range(50)) + ">bad\nAC\nAE\n")
    with pytest.raises(InputError, match=r"record 'bad' holds 'E'.*\(line 105\)"):
        read(path, batch_bytes=64)


def test_a_file_that_changes_while_it_is_read(write):
    path = write(GOOD)
    source = identify(path)
    check_unchanged(source)
    path.write_bytes(GOOD + b">c\nAC\n")
    with pytest.raises(InputError, match="changed while it was read; start again"):
        check_unchanged(source)
    path.unlink()
    with pytest.raises(InputError, match="changed while it was read; start again"):
        check_unchanged(source)


def test_real_broken_sample(samples):
    with pytest.raises(InputError, match="record 'empty_record' has no sequence"):
        read(samples / "edge_cases.fa")


def test_ids_are_arrow_strings_and_batches_are_frozen(write):
    batch = next(read_fasta(write(GOOD), "nucleotide"))
    assert batch.ids.type == pa.large_string()
    with pytest.raises(AttributeError):
        batch.first = 3
