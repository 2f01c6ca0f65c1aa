"""Replaced codons: what they say, how often they change it, and in whose words."""

import numpy as np
import pytest

from virnuc_assets.training import divergence, relatives
from virnuc_assets.training.divergence import Divergence, codon_usage
from virnuc_assets.training.fragments import Draw, Fragments
from virnuc_assets.training.relatives import Relatives

BASES = "TCAG"
CODE = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODONS = {
    one + two + three: CODE[16 * a + 4 * b + c]
    for a, one in enumerate(BASES)
    for b, two in enumerate(BASES)
    for c, three in enumerate(BASES)
}
IN_ORDER = sorted(CODONS)
RESIDUES = "ARNDCQEGHILKMFPSTWYV"
SHARES = {"phage": 0.5, "bacteria": 0.5}


def codons_of(text):
    return [text[at : at + 3] for at in range(0, len(text) - 2, 3)]


def translate(text):
    return "".join(CODONS[codon] for codon in codons_of(text))


@pytest.fixture
def drawn(make_corpus):
    """Frames of both classes, of many lengths (a base beyond the last codon or none)."""
    corpus = make_corpus()
    rng = np.random.default_rng(0)
    parts = [Draw(corpus, SHARES, length).exactly(rng, 40) for length in (61, 160, 300)]
    return Fragments(
        [frame for part in parts for frame in part.nucleotides],
        [frame for part in parts for frame in part.proteins],
        np.concatenate([part.stretch for part in parts]),
        np.concatenate([part.window for part in parts]),
    )


def uniform():
    return Divergence(np.ones((1, 64), np.int64))


def applied(fragments, share, rng=0, replacing=None):
    n = len(fragments)
    replacing = replacing or uniform()
    none = np.zeros(n, np.int64)
    return replacing.apply(fragments, none, np.full(n, share), np.random.default_rng(rng))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_protein_is_the_translation_of_its_nucleotides(drawn, share):
    changed = applied(drawn, share)
    assert changed.nucleotides != drawn.nucleotides
    for nucleotides, protein in zip(changed.nucleotides, changed.proteins, strict=True):
        assert translate(nucleotides) == protein
        assert "*" not in protein


def test_lengths_and_places_stay(drawn):
    changed = applied(drawn, 1.0)
    assert [*map(len, changed.nucleotides)] == [*map(len, drawn.nucleotides)]
    assert [*map(len, changed.proteins)] == [*map(len, drawn.proteins)]
    np.testing.assert_array_equal(changed.stretch, drawn.stretch)
    np.testing.assert_array_equal(changed.window, drawn.window)


def test_a_share_of_nothing_changes_nothing(drawn):
    same = applied(drawn, 0.0)
    assert same.nucleotides == drawn.nucleotides
    assert same.proteins == drawn.proteins


def test_each_frame_has_its_own_share(drawn):
    n = len(drawn)
    share = (np.arange(n) % 2).astype(float)
    none = np.zeros(n, np.int64)
    changed = uniform().apply(drawn, none, share, np.random.default_rng(0))
    pairs = zip(drawn.nucleotides, changed.nucleotides, strict=True)
    assert [before != after for before, after in pairs] == (share == 1).tolist()


def test_three_in_ten_of_the_replaced_residues_change(drawn):
    before, after = ("".join(part.proteins) for part in (drawn, applied(drawn, 1.0)))
    changed = np.mean([one != other for one, other in zip(before, after, strict=True)])
    assert changed == pytest.approx(0.3, abs=0.02)


def one_residue(residue, count):
    codon = next(codon for codon in IN_ORDER if CODONS[codon] == residue)
    return Fragments([codon * count], [residue * count], np.zeros(1, int), np.zeros(1, int))


@pytest.mark.parametrize("residue", "AWK")
def test_residues_are_exchanged_by_the_odds_of_blosum62(residue):
    count = 60_000
    (protein,) = applied(one_residue(residue, count), 1.0).proteins
    found = np.array([protein.count(other) for other in RESIDUES], float)
    found[RESIDUES.index(residue)] = 0
    expected = background() * 2 ** (blosum62()[RESIDUES.index(residue)] / 2)
    expected[RESIDUES.index(residue)] = 0
    # Five deviations of a count of about 0.3 × 60 000 draws.
    np.testing.assert_allclose(
        found / found.sum(), expected / expected.sum(), atol=5 * 0.5 / np.sqrt(0.3 * count)
    )


def background():
    return divergence._BACKGROUND / divergence._BACKGROUND.sum()


def blosum62():
    """The scores, got back from the chances of exchanges: each row but for its diagonal."""
    odds = divergence._exchanges() / background()
    scores = np.zeros((20, 20))
    for row, known in enumerate(ANCHORS):
        other = RESIDUES.index(known[0])
        scores[row] = 2 * np.log2(np.maximum(odds[row], 1e-9) / odds[row, other]) + known[1]
    np.fill_diagonal(scores, 0)
    return scores


# For each residue in order, its score with one other, from the published matrix.
ANCHORS = [
    ("S", 1), ("K", 2), ("D", 1), ("E", 2), ("A", 0), ("E", 2), ("D", 2), ("A", 0), ("Y", 2),
    ("V", 3), ("I", 2), ("R", 2), ("L", 2), ("Y", 3), ("A", -1), ("T", 1), ("S", 1), ("Y", 2),
    ("F", 3), ("I", 3),
]  # fmt: skip


def test_the_matrix_is_blosum62():
    scores = blosum62()
    np.testing.assert_allclose(scores, scores.T, atol=1e-6)
    np.testing.assert_allclose(scores, np.round(scores), atol=1e-6)
    for one, other, score in (
        *(("W", "Y", 2), ("W", "C", -2), ("I", "V", 3), ("D", "E", 2), ("D", "L", -4)),
        *(("K", "R", 2), ("P", "F", -4), ("H", "Y", 2), ("G", "I", -4), ("N", "W", -4)),
    ):
        found = scores[RESIDUES.index(one), RESIDUES.index(other)]
        assert found == pytest.approx(score, abs=1e-6), one + other


def test_the_background_is_that_of_proteins():
    assert divergence._BACKGROUND.sum() == pytest.approx(100, abs=1)
    largest, smallest = (RESIDUES[one(divergence._BACKGROUND)] for one in (np.argmax, np.argmin))
    assert (largest, smallest) == ("L", "W")


def test_codons_are_counted_by_genome():
    fragments = Fragments(
        ["AAATTTG", "TTTAAAAAA", "CCC"], ["KF", "FKK", "P"], np.zeros(3, int), np.zeros(3, int)
    )
    usage = codon_usage(fragments, np.array([0, 2, 0]), 3)
    named = [dict(zip(IN_ORDER, row.tolist(), strict=True)) for row in usage]
    assert [{codon: n for codon, n in one.items() if n} for one in named] == [
        {"AAA": 1, "TTT": 1, "CCC": 1},
        {},
        {"TTT": 1, "AAA": 2},
    ]


def test_codons_are_drawn_by_the_usage_of_the_genome():
    usage = np.zeros((2, 64), np.int64)
    for genome, counts in enumerate(({"CTG": 90, "TTA": 10}, {"CTC": 5})):
        for codon, count in counts.items():
            usage[genome, IN_ORDER.index(codon)] = count
    fragments = Fragments(
        ["CTT" * 20_000] * 2, ["L" * 20_000] * 2, np.zeros(2, int), np.zeros(2, int)
    )
    changed = Divergence(usage).apply(
        fragments, np.array([0, 1]), np.ones(2), np.random.default_rng(0)
    )
    for text, expected in zip(
        changed.nucleotides, ({"CTG": 0.9, "TTA": 0.1}, {"CTC": 1.0}), strict=True
    ):
        leucines = [codon for codon in codons_of(text) if CODONS[codon] == "L"]
        assert len(leucines) > 10_000
        for codon in sorted(CODONS):
            share = leucines.count(codon) / len(leucines)
            assert share == pytest.approx(expected.get(codon, 0), abs=0.02)


@pytest.fixture
def related(make_corpus, monkeypatch):
    """400 frames, and what became of them."""
    monkeypatch.setattr(relatives, "_USAGE_WINDOWS", 500)
    draw = Draw(make_corpus(), SHARES, 300)
    rng = np.random.default_rng(0)
    before = draw.exactly(rng, 400)
    return draw.corpus, before, Relatives(draw, 0.5, rng).of(before)


def test_one_frame_in_four_stays_as_it_is(related):
    _, before, after = related
    same = [one == other for one, other in zip(before.nucleotides, after.nucleotides, strict=True)]
    assert np.mean(same) == pytest.approx(0.25, abs=0.07)


def test_frames_take_on_codons_of_their_own_class(related):
    corpus, before, after = related

    def rich(fragments, virus):
        chosen = np.flatnonzero(corpus.is_virus[fragments.stretch] == virus)
        text = "".join(fragments.nucleotides[one] for one in chosen)
        return (text.count("G") + text.count("C")) / len(text)

    for virus in (False, True):
        # Exchanged residues alone move it; the usage of the other class would by more.
        assert rich(after, virus) == pytest.approx(rich(before, virus), abs=0.04)
