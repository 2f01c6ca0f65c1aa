"""Windows drawn at random, and their stop-free frames."""

from dataclasses import replace

import numpy as np
import pytest

from virnuc_assets.errors import InputError
from virnuc_assets.training.fragments import Draw, frames_of, genome_weights

BASES = "TCAG"
CODE = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
PAIRS = str.maketrans("ACGT", "TGCA")
SHARES = {"phage": 0.8, "bacteria": 0.2}


def translate(text):
    places = [[BASES.index(base) for base in text[at : at + 3]] for at in range(0, len(text), 3)]
    return "".join(CODE[16 * a + 4 * b + c] for a, b, c in (one for one in places if len(one) == 3))


def open_frames(window):
    """Nucleotides and protein of each of the six frames that has no stop, a letter at a time."""
    found = []
    for strand in (window, window[::-1].translate(PAIRS)):
        for offset in range(3):
            protein = translate(strand[offset:])
            if "*" not in protein:
                found.append((strand[offset : offset + 3 * len(protein) + 1], protein))
    return found


@pytest.mark.parametrize("length", [30, 160, 301])
def test_frames_are_those_of_the_plain_reference(make_corpus, length):
    corpus = make_corpus(genomes=4, bases=700)
    rng = np.random.default_rng(length)
    stretch = rng.integers(0, 8, 60)
    start = rng.integers(0, 700 - length + 1, 60)
    fragments = frames_of(corpus, stretch, start, length)
    expected = []
    for window, (one, at) in enumerate(zip(stretch, start, strict=True)):
        first = corpus.offsets[one] + at
        text = corpus.letters[first : first + length].tobytes().decode()
        expected += [(*frame, one, window) for frame in open_frames(text)]
    assert len(expected) > 60
    assert expected == list(
        zip(
            fragments.nucleotides,
            fragments.proteins,
            fragments.stretch,
            fragments.window,
            strict=True,
        )
    )


def test_the_same_seed_draws_the_same(make_corpus):
    corpus = make_corpus()
    one, again, other = (
        Draw(corpus, SHARES, 160).exactly(np.random.default_rng(seed), 50) for seed in (4, 4, 5)
    )
    assert one.nucleotides == again.nucleotides
    assert one.nucleotides != other.nucleotides


def test_exactly_so_many_frames_are_drawn(make_corpus):
    draw = Draw(make_corpus(), SHARES, 160)
    for count in (1, 63, 700):
        fragments = draw.exactly(np.random.default_rng(0), count)
        assert len(fragments) == len(fragments.nucleotides) == len(fragments.proteins) == count


def test_frames_of_groups_come_in_the_proportions_asked_for(make_corpus):
    corpus = make_corpus()
    fragments = Draw(corpus, SHARES, 160).fragments(np.random.default_rng(0), 6000)
    assert corpus.is_virus[fragments.stretch].mean() == pytest.approx(0.8, abs=0.03)


def test_a_group_without_a_share_is_not_drawn(make_corpus):
    corpus = make_corpus()
    fragments = Draw(corpus, {"bacteria": 1.0}, 160).fragments(np.random.default_rng(0), 300)
    assert len(fragments)
    assert set(corpus.group[fragments.stretch]) == {"bacteria"}


def test_masked_and_short_stretches_are_not_drawn(make_corpus):
    corpus = make_corpus()
    masked = replace(corpus, masked=np.arange(16) % 2 == 0)
    fragments = Draw(masked, SHARES, 160).fragments(np.random.default_rng(0), 2000)
    assert set(fragments.stretch.tolist()) == set(range(1, 16, 2))
    with pytest.raises(InputError, match="no open frame of 3601 unmasked bases"):
        Draw(corpus, SHARES, 3601)


def test_a_corpus_of_groups_that_are_not_drawn_is_refused(make_corpus):
    with pytest.raises(InputError, match=r"in the groups that are drawn \(fungi\)"):
        Draw(make_corpus(), {"fungi": 1.0}, 160)


def test_a_corpus_without_open_frames_is_refused(make_corpus):
    corpus = make_corpus()
    stops = np.frombuffer(b"TAATTAATTAA" * 6000, np.uint8)[: corpus.letters.size]
    with pytest.raises(InputError, match="has no open frame of 160"):
        Draw(replace(corpus, letters=stops), SHARES, 160)


def test_genomes_are_drawn_by_the_square_root_of_their_bases(make_corpus):
    corpus = make_corpus(genomes=5, bases=900)
    # The first genome has four stretches, the last one.
    corpus = replace(corpus, genome=np.array(["large"] * 4 + ["small"] + ["b"] * 5))
    weight = genome_weights(corpus, np.arange(5))
    np.testing.assert_allclose(weight[:4].sum() / weight[4], 2)
    np.testing.assert_allclose(weight[:4], weight[0])


def test_places_are_all_over_a_stretch(make_corpus):
    corpus = make_corpus(genomes=1, bases=170)
    draw = Draw(corpus, {"phage": 1.0}, 160)
    fragments = draw.exactly(np.random.default_rng(0), 500)
    text = corpus.letters[:170].tobytes().decode()
    both = text, text[::-1].translate(PAIRS)
    starts = {strand.find(frame) for frame in fragments.nucleotides for strand in both} - {-1}
    assert starts <= set(range(13))
    assert {0, 12} <= starts
