"""What fuzzers start from, what they have found, and structured text, through the same targets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets_tests.fuzz.seeds import SEEDS
from virnuc_assets_tests.fuzz.targets import TARGETS

FINDINGS = sorted(Path(__file__).with_name("findings").glob("*-*"))

few = settings(max_examples=150, deadline=None, database=None, derandomize=True)
many = settings(few, max_examples=400)
byte = st.integers(0, 255)


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    for data in SEEDS[target]:
        TARGETS[target](data)


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda path: path.name)
def test_findings(finding: Path) -> None:
    """Named `{target}-{what was wrong}`."""
    TARGETS[finding.name.partition("-")[0]](finding.read_bytes())


line_end = st.sampled_from(
    [b"\n", b"\n", b"\n", b"\r\n", b"\r", b" \n", b"\n\n", b"\n\r\n", b"\n \n"]
)
residues = st.text("ACGTacgtNnUuRYSWKMBDHV", max_size=30).map(str.encode)
odd = st.sampled_from([b"\0", b"*", b"-", b"X", b"e", b"1", b"\xe9", b"\x1c", b"\x7f", b">", b"@"])
letters = st.one_of(residues, residues, residues, st.builds(bytes.__add__, residues, odd))
names = st.one_of(
    st.sampled_from([b"a", b"b", b"c", b"d", b"e|1", b"f/2", b"g", b"h", b"i"]),
    st.sampled_from([b"", b" a", b"\xc3\xa9", b"a\0b", b"a\x1fb", b"a\x7f", b">", b"@a", b"+"]),
)
description = st.sampled_from([b"", b"", b" x", b"\tx >y @z", b" \xc2\xb5", b" UuU", b"\x0bx"])


@st.composite
def fasta_records(draw: st.DrawFn) -> bytes:
    sequence = draw(letters)
    width = draw(st.integers(1, 40))
    lines = [b">" + draw(names) + draw(description)]
    lines += [sequence[i : i + width] for i in range(0, len(sequence), width)]
    return b"".join(line + draw(line_end) for line in lines)


@st.composite
def fastq_records(draw: st.DrawFn) -> bytes:
    sequence = draw(letters)
    right = st.just(b"@I+>#!~"[draw(st.integers(0, 6)) :][:1] * len(sequence))
    quality = draw(st.one_of(right, right, right, right, st.binary(max_size=8)))
    plus = draw(st.sampled_from([b"+", b"+", b"+", b"+a", b"", b"-", b"\r"]))
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    lines = [b"@" + draw(names) + draw(description), sequence, plus, quality]
    return b"".join(line + end for line in lines) + draw(
        st.sampled_from([b"", b"", b"", b"\n", b"\n\n\n\n", b" \n", b"\0"])
    )


start = st.sampled_from([b"", b"", b"", b"", b"\n", b" \r\n\n", b"\xef\xbb\xbf", b"\0", b";x\n"])
text = st.one_of(
    st.builds(lambda a, b: a + b"".join(b), start, st.lists(fasta_records(), max_size=6)),
    st.builds(lambda a, b: a + b"".join(b), start, st.lists(fastq_records(), max_size=6)),
)
ending = st.sampled_from([b"", b"", b"\n", b"\n\n\n", b"\n\0\0", b" ", b"\x1a"])


@many
@given(st.tuples(byte, byte, byte, byte), text, st.sampled_from([0, 0, 1, 3]), ending)
def test_any_text_that_looks_like_a_file(
    head: tuple[int, int, int, int], content: bytes, cut: int, end: bytes
) -> None:
    content = content[: len(content) - cut] + end
    for packing in (0, head[1]):
        TARGETS["parser"](bytes([head[0], packing, *head[2:]]) + content)


@few
@given(st.tuples(byte, byte, st.integers(1, 255)), st.lists(residues, max_size=6))
def test_any_sequences_are_cut_and_translated_as_plainly(
    head: tuple[int, int, int], sequences: list[bytes]
) -> None:
    TARGETS["translator"](bytes(head) + b"\n".join(sequences))


near = st.text("AC-", max_size=3).map(lambda end: b"ACGTACGTACGT" + end.encode())
strings = st.one_of(near, near, st.text("*-.ACXZ", max_size=4).map(str.encode))


@few
@given(
    st.tuples(byte, byte, byte), st.lists(st.lists(strings, max_size=9).map(b"\n".join), max_size=4)
)
def test_any_strings_are_merged_as_a_sorted_set(
    head: tuple[int, int, int], parts: list[bytes]
) -> None:
    TARGETS["unique"](bytes(head) + b"|".join(parts))
