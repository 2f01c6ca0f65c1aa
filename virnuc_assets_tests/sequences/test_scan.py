"""What is read from FASTA, however it is dressed, and what is refused and how it is named."""

from __future__ import annotations

import gzip
import random
import re
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.input_file import check_unchanged, identify, open_input
from virnuc_assets.sequences.scan import BLOCK_BYTES, scan


def read_blocks(path, kind="nucleotide", block_bytes=BLOCK_BYTES, threads=1):
    """The records of each block of a file."""
    with open_input(path) as source, TemporaryDirectory() as scratch:
        yield from scan(
            source, kind, lambda r: r, Path(scratch), threads=threads, block_bytes=block_bytes
        )


def read(path, kind="nucleotide", block_bytes=BLOCK_BYTES):
    """The records of a file as (id, letters, held a U), checking how they are laid out."""
    records = []
    for batch in read_blocks(path, kind, block_bytes):
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
    "FASTQ": b"@a x\nACGTNACGT\n+\nIIIII@III\n@b|2/1\nGGCC\n+b|2/1\n>>>>\n@c\nTTT\n+\n@@@\n",
    "FASTQ, CRLF": b"@a\r\nacgtnacgt\r\n+\r\nIIIIIIIII\r\n@b|2/1\r\nGGCC\r\n+\r\nIIII\r\n"
    b"@c\r\nTTT\r\n+\r\nIII\r\n",
    "FASTQ, no final newline": b"@a\nACGTNACGT\n+\n@I@IIIIII\n@b|2/1\nGGCC\n+\nIIII\n"
    b"@c\nTTT\n+\nIII",
    "FASTQ, blank lines around": b"\n\n@a\nACGTNACGT\n+\nIIIIIIIII\n@b|2/1\nGGCC\n+\nIIII\n"
    b"@c\nTTT\n+\nIII\n\n \n",
}


def zstd(content):
    return pa.compress(content, "zstd", asbytes=True)


PACKINGS = {"text": bytes, "gzip": gzip.compress, "zstd": zstd}


@pytest.mark.parametrize("block_bytes", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("packed", PACKINGS)
@pytest.mark.parametrize("dress", DRESSED)
def test_the_same_records_however_dressed(dress, packed, block_bytes, write):
    content = PACKINGS[packed](DRESSED[dress])
    assert read(write(content), block_bytes=block_bytes) == PLAIN


def test_packing_is_told_by_the_bytes_not_the_name(write):
    assert read(write(DRESSED["plain"], "plain.fa.gz")) == PLAIN
    assert read(write(gzip.compress(DRESSED["plain"]), "packed.fna")) == PLAIN
    assert read(write(zstd(DRESSED["plain"]), "packed.fa.gz")) == PLAIN


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_several_members(pack, write):
    """As bgzip writes, and as files that were packed apart and joined."""
    first, rest = DRESSED["wrapped"][:9], DRESSED["wrapped"][9:]
    assert read(write(pack(first) + pack(rest))) == PLAIN


def test_bgzip_is_refused_without_its_last_block(write):
    def block(content):
        packed = zlib.compress(content, wbits=-15)
        header = bytes.fromhex("1f8b08040000000000ff0600424302")
        size = (len(header) + 3 + len(packed) + 8 - 1).to_bytes(2, "little")
        ends = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        return header + b"\0" + size + packed + ends

    blocks = [block(DRESSED["wrapped"][:10]), block(DRESSED["wrapped"][10:]), block(b"")]
    assert read(write(b"".join(blocks))) == PLAIN
    for whole in (1, 2):
        with pytest.raises(InputError, match="the gzip file is truncated"):
            read(write(b"".join(blocks[:whole])))


def test_zstd_that_begins_with_a_skippable_frame(write):
    skippable = bytes.fromhex("502a4d18") + (4).to_bytes(4, "little") + b"size"
    assert read(write(skippable + zstd(DRESSED["plain"]))) == PLAIN


@pytest.mark.parametrize("block_bytes", [1, 30, 1 << 20])
def test_threads_change_nothing(block_bytes, write):
    path = write(DRESSED["wrapped"])
    alone, together = (
        [block.ids.to_pylist() for block in read_blocks(path, "nucleotide", block_bytes, threads)]
        for threads in (1, 4)
    )
    assert alone == together


def test_u_is_read_as_t_in_nucleotides_and_told(write):
    path = write(">a\nACGU\n>b\nACGT\n>c\nuu\n")
    assert read(path) == [("a", "ACGT", True), ("b", "ACGT", False), ("c", "TT", True)]


def test_proteins_are_kept_as_they_are(write):
    path = write(">a\nMKUXBZJO\n>b\nmk-v.\n")
    assert read(path, "protein") == [("a", "MKUXBZJO", False), ("b", "MK-V.", False)]


def test_a_batch_is_whole_records_even_one_that_is_longer(write):
    path = write(">a\nAC\n>b\n" + "ACGT\n" * 100 + ">c\nAC\n>d\nGT\n")
    batches = [batch.ids.to_pylist() for batch in read_blocks(path, "nucleotide", 12)]
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
    block_bytes=st.integers(1, 300),
)
def test_any_records_in_any_batches_as_pyfastx_reads_them(records, width, block_bytes, write):
    pyfastx = pytest.importorskip("pyfastx")
    lines = []
    for name, letters in records.items():
        lines += [f">{name} text"] + [letters[i : i + width] for i in range(0, len(letters), width)]
    path = write("\n".join(lines) + "\n")
    found = read(path, block_bytes=block_bytes)
    assert found == [(name, letters.upper(), False) for name, letters in records.items()]
    peer = [(record[0], record[1].upper()) for record in pyfastx.Fastx(str(path))]
    assert [record[:2] for record in found] == peer


@pytest.mark.parametrize("odd", [*"uUrNacgt -E*5>", "\t", "\r"])
def test_an_odd_letter_anywhere_in_a_line(odd, write):
    """Lines are looked at many letters at a time: wherever one differs, it is read as itself."""
    for length in (1, 31, 32, 33, 64, 70, 100):
        for place in {1, 15, 31, 32, 33, 63, 64, length - 2, length - 1} & set(range(length)):
            line = ("ACGTNGCATT" * 10)[:place] + odd + ("TTGNCAGCAT" * 10)[place + 1 : length]
            letters = "".join(line.split()).upper().replace("U", "T")
            fasta = f">a\nACGT\n{line if place or odd != '>' else 'A'}"
            fastq = f"@a\n{line}\n+\n{'I' * len(letters)}"
            for text, expected in ((fasta, f"ACGT{letters}"), (fastq, letters)):
                if odd in "-E*5>" and odd in text[1:]:
                    with pytest.raises(InputError, match=re.escape(f"holds {odd!r}, which")):
                        read(write(text))
                elif letters and odd != ">":
                    assert read(write(text)) == [("a", expected, odd in "uU")]


def test_a_long_file_in_batches_of_the_usual_size(write):
    rng = random.Random(3)
    records = [(f"r{i}", "".join(rng.choices("ACGT", k=700))) for i in range(2000)]
    path = write("".join(f">{name}\n{letters}\n" for name, letters in records))
    assert [record[:2] for record in read(path, block_bytes=1 << 16)] == records
    assert [record[:2] for record in read(path)] == records


GOOD = b">a\nACGT\n>b\nGGCC\n"
PACKED = gzip.compress(GOOD)
ZSTD = zstd(GOOD)
BROKEN = {
    "empty": (b"", "the file is empty"),
    "blank": (b"\n \r\n", "holds no records"),
    "empty gzip": (gzip.compress(b""), "holds no records"),
    "not FASTA": (b"hello world\n", "line 1 starts with 'hello world"),
    "text first": (b"\n; note\n>a\nACGT\n", "line 2 starts with '; note"),
    "binary": (bytes(range(128, 256)), r"line 1 starts with '\\x80"),
    "byte-order mark": (b"\xef\xbb\xbf>a\nACGT\n", "line 1 starts with a byte-order mark; save"),
    "lines that end in CR": (
        b">a\rACGT\r>b\rGG\r",
        "record 'a' has a carriage return within its header line .*; end all lines in LF",
    ),
    "truncated zstd": (ZSTD[:-3], "the zstd file is truncated"),
    "zstd cut in its header": (ZSTD[:5], "the zstd file is truncated"),
    "damaged zstd": (ZSTD[:4] + b"\x08" + ZSTD[5:], "the zstd file is damaged"),
    "garbage after zstd": (ZSTD + b"garbage", "the zstd file is damaged"),
    "FASTQ of wrapped lines": (
        b"@a\nACGT\nACGT\n+\nIIII\nIIII\n",
        r"record 'a' has no '\+' on the line after its sequence \(line 3\); give FASTQ with four",
    ),
    "FASTQ cut short": (b"@a\nAC\n+\nII\n@b\nAC\n", r"record 'b' has fewer than four lines \(l"),
    "FASTQ without a sequence": (b"@a\n\n+\n\n", r"record 'a' has no sequence \(line 1\)"),
    "FASTQ without an id": (b"@a\nAC\n+\nII\n@ b\nAC\n+\nII\n", r"a record has no id \(line 5\)"),
    "FASTQ of other lengths": (
        b"@a\nACGT\n+\nIII\n",
        r"record 'a' has more or fewer qualities than letters \(line 4\)",
    ),
    "FASTQ with a blank line": (
        b"@a\nAC\n+\nII\n\n@b\nAC\n+\nII\n",
        r"a record does not start with '@' \(line 5\)",
    ),
    "CR in a header": (b">a x\rACGT\nGG\n", "'a' has a carriage return within its header line"),
    "an id without end": (
        b">" + b"x" * 1001 + b"\nAC\n",
        f"record '{'x' * 200}' has an id of more than 1000 letters .line 1.; give it a shorter one",
    ),
    "NUL in an id": (b">a\x00b\nAC\n", r"record 'a\\x00b' has an id that is not plain ASCII"),
    "zeros after FASTQ": (b"@a\nAC\n+\nII\n\x00\x00\x00", "does not start with '@' .line 5"),
    "FASTQ of a protein": (b"@a\nMKLE\n+\nIIII\n", "'a' holds 'L'.*looks like a protein"),
    "truncated gzip": (PACKED[:-6], "the gzip file is truncated"),
    "gzip cut in its header": (PACKED[:5], "the gzip file is truncated"),
    "damaged gzip": (PACKED[:-8] + bytes(8), "the gzip file is damaged"),
    "garbage after gzip": (PACKED + b"garbage" * 2, "the gzip file is damaged"),
    "duplicate ids": (GOOD + b">a x\nTT\n", "the id 'a' belongs to more than one record"),
    "no sequence": (b">a\nAC\n>b x\n>c\nAC\n", r"record 'b' has no sequence \(line 3\)"),
    "blank sequence": (b">a\r\n \r\n\r\n>c\r\nAC\r\n", "record 'a' has no sequence"),
    "no sequence at the end": (b">a\nAC\n>b", r"record 'b' has no sequence \(line 3\)"),
    "no id": (b">a\nAC\n>\nGT\n", r"a record has no id \(line 3\)"),
    "blank before the id": (b"> a\nAC\n", r"a record has no id \(line 1\)"),
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


@pytest.mark.parametrize("block_bytes", [5, 1 << 20])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_input_is_named_in_one_sentence(case, block_bytes, write):
    content, message = BROKEN[case]
    path = write(content)
    with pytest.raises(InputError, match=message) as caught:
        read(path, block_bytes=block_bytes)
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
        read(path, block_bytes=64)


def test_the_line_of_a_fault_counts_from_the_start_of_the_file(write):
    path = write("\n\n" + "".join(f">r{i}\nACGT\n" for i in range(50)) + ">bad\nAC\nAE\n")
    with pytest.raises(InputError, match=r"record 'bad' holds 'E'.*\(line 105\)"):
        read(path, block_bytes=64)


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
    batch = next(read_blocks(write(GOOD)))
    assert batch.ids.type == pa.large_string()
    with pytest.raises(AttributeError):
        batch.rna = None
