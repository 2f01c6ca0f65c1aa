"""Frames are drawn evenly over groups and genomes, and stream shuffled in bounded memory."""

import numpy as np
import pytest

from virnuc_assets.training.features import in_order, shuffled


def test_a_frames_features_are_its_dna_and_then_its_protein(make_features):
    features = make_features(90, 1.0)
    rows = np.array([5, 80, 5, 33])
    frames = features.frames
    plain = [
        np.concatenate(
            [
                features.samples[frames.sample[row]].dna.take(frames.nucleotide_row[row : row + 1])[
                    0
                ],
                features.samples[frames.sample[row]].protein.take(
                    frames.protein_row[row : row + 1]
                )[0],
            ]
        )
        for row in rows
    ]
    np.testing.assert_array_equal(features.take(rows), plain)
    np.testing.assert_array_equal(np.concatenate(list(in_order(features, rows, 3))), plain)


@pytest.mark.parametrize("buffer_bytes", [1, 200_000, 1 << 28])
def test_a_shuffled_pass_gives_every_row_once_but_for_a_part_of_a_batch(
    make_features, buffer_bytes
):
    features = make_features(9000, 0.0)
    rows = np.sort(np.random.default_rng(0).integers(0, 9000, 7000))
    values_of = {features.take(np.array([row]))[0].tobytes(): row for row in range(9000)}
    given = []
    for values, labels in shuffled(features, rows, 64, np.random.default_rng(1), buffer_bytes):
        assert values.shape == (64, 8)
        batch = [values_of[one.tobytes()] for one in values]
        np.testing.assert_array_equal(labels, features.frames.is_virus[batch])
        given += batch
    assert len(given) == 7000 - 7000 % 64
    counts = np.bincount(given, minlength=9000)
    wanted = np.bincount(rows, minlength=9000)
    assert (counts <= wanted).all()
    assert given != sorted(given)


def test_the_order_follows_the_generator(make_features):
    features = make_features(3000, 0.0)
    rows = np.arange(3000)

    def order(seed):
        passes = shuffled(features, rows, 100, np.random.default_rng(seed), 20_000)
        return np.concatenate([values for values, _ in passes])

    np.testing.assert_array_equal(order(1), order(1))
    assert not np.array_equal(order(1), order(2))
