"""Stretches of plain bases, in memory and on disk."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.errors import InputError
from virnuc_assets.training.corpus import (
    Corpus,
    read_corpus,
    stretches,
    with_fewer_genomes,
    write_corpus,
)


def letters_of(text):
    return np.frombuffer(text.encode(), np.uint8)


def stretches_by_letter(text, cuts, shortest):
    """The same, a letter at a time."""
    found, start = [], 0
    for place in range(len(text) + 1):
        strange = place < len(text) and text[place] not in "ACGT"
        if strange or place in cuts or place == len(text):
            found.append((start, place))
            start = place + 1 if strange else place
    return [(first, last) for first, last in found if last - first >= shortest]


@given(
    st.text("ACGTACGTACGTNRY", max_size=60),
    st.lists(st.integers(-3, 65), max_size=6),
    st.integers(1, 12),
)
def test_stretches_are_those_found_letter_by_letter(text, cuts, shortest):
    found = stretches(letters_of(text), np.array(cuts, np.int64), shortest)
    assert [tuple(one) for one in found.tolist()] == stretches_by_letter(text, cuts, shortest)


def test_stretches_end_at_other_letters_and_at_cuts():
    found = stretches(letters_of("ACGTNNACGTACGTA"), np.array([10]), 4)
    assert found.tolist() == [[0, 4], [6, 10], [10, 15]]


def corpus_of(texts):
    n = len(texts)
    return Corpus(
        letters=letters_of("".join(texts)),
        offsets=np.cumsum([0, *map(len, texts)]),
        is_virus=np.arange(n) % 2 == 0,
        masked=np.arange(n) % 3 == 0,
        group=np.array([f"group {one % 2}" for one in range(n)], str),
        genome=np.array([f"gènome {one}" for one in range(n)], str),
        split=np.array(["train"] * n, str),
    )


@given(st.lists(st.text("ACGT", max_size=21), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("corpus") / "corpus.npz"
    corpus = corpus_of(texts)
    write_corpus(path, corpus)
    again = read_corpus(path)
    for name, values in vars(corpus).items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_a_base_takes_two_bits(tmp_path):
    path = tmp_path / "corpus.npz"
    write_corpus(path, corpus_of(["ACGT" * 10_000]))
    assert path.stat().st_size < 10_000 + 3000


def whole_file():
    handle = io.BytesIO()
    np.savez(handle, packed=np.zeros(5, np.uint8))
    return handle.getvalue()


@pytest.mark.parametrize("content", [b"", b"ACGT", whole_file(), whole_file()[:-30]])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "corpus.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"corpus\.npz: is no corpus"):
        read_corpus(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.npz: is no corpus"):
        read_corpus(tmp_path / "none.npz")


def test_chosen_stretches_keep_their_letters(make_corpus):
    corpus = make_corpus(genomes=4, bases=90)
    which = np.arange(8) % 3 == 1
    chosen = corpus.chosen(which)
    for ours, theirs in enumerate(np.flatnonzero(which)):
        np.testing.assert_array_equal(
            chosen.letters[chosen.offsets[ours] : chosen.offsets[ours + 1]],
            corpus.letters[corpus.offsets[theirs] : corpus.offsets[theirs + 1]],
        )
    assert chosen.genome.tolist() == ["p1", "b0", "b3"]


def test_fewer_genomes_of_each_group_and_all_that_validate(make_corpus):
    corpus = make_corpus(genomes=16)
    some = with_fewer_genomes(corpus, 0.25, 3)
    training = some.split == "train"
    for group in ("phage", "bacteria"):
        assert len(np.unique(some.genome[training & (some.group == group)])) == 3
    assert set(some.genome[~training]) == set(corpus.genome[corpus.split == "validation"])
    none = with_fewer_genomes(corpus, 0.0, 3)
    assert len(np.unique(none.genome[none.split == "train"])) == 2
    again = with_fewer_genomes(corpus, 0.25, 3)
    np.testing.assert_array_equal(again.genome, some.genome)
