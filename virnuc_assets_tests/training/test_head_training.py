"""A head learns what is there to learn and nothing else, and the same again from the same seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from virnuc_assets.classifier.head import MLPHead
from virnuc_assets.classifier.head_files import HeadCard
from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.metrics import measure
from virnuc_assets.training.head_training import TrainingSettings, train_head
from virnuc_assets.training.learning_curve import learning_curve, some_genomes

QUICK = TrainingSettings(
    hidden_dim=16, learning_rate=1e-2, batch_frames=128, least_epoch_frames=2048, most_epochs=4
)


def silent(_):
    pass


def trained(features, settings=QUICK):
    frames = features.frames
    train, validation = frames.part("train"), frames.part("validation")
    return train_head(features, train, validation, settings, "cpu", silent)


def logits(head, features, rows):
    """What the folded tensors give features as they are, by the head that predictions use."""
    module = MLPHead(HeadCard("", "", *features.dims, head.weights["bn1.bias"].size))
    state = {name: torch.from_numpy(values) for name, values in head.weights.items()}
    module.load_state_dict({**state, "bn1.num_batches_tracked": torch.tensor(0)})
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(features.take(rows))).numpy()


def test_what_differs_is_learnt(make_features):
    features = make_features(6000, 2.5)
    rows = features.frames.part("test")
    margin = np.diff(logits(trained(features), features, rows))[:, 0]
    is_virus = features.frames.is_virus[rows]
    # Two normals 2.5 deviations apart cannot be told apart better than 0.961.
    assert measure(is_virus, 1 / (1 + np.exp(-margin))).auroc > 0.94


def test_shuffled_labels_teach_nothing(make_features):
    features = make_features(12_000, 2.5)
    rng = np.random.default_rng(0)
    of_genome = rng.permutation(np.arange(1200) % 2 == 1)
    features.frames.is_virus[:] = of_genome[features.frames.genome]
    rows = features.frames.part("test")
    margin = np.diff(logits(trained(features), features, rows))[:, 0]
    auroc = measure(features.frames.is_virus[rows], 1 / (1 + np.exp(-margin))).auroc
    assert auroc == pytest.approx(0.5, abs=0.06)


def test_the_standardisation_is_in_the_first_layer(make_features):
    features = make_features(3000, 1.0)
    head = trained(features)
    rows = features.frames.part("validation")
    np.testing.assert_allclose(
        logits(head, features, rows), head.validation_logits, rtol=1e-4, atol=1e-4
    )


def test_the_same_seed_gives_the_same_bits(make_features):
    features = make_features(2000, 1.0)
    first, second = trained(features), trained(features)
    assert first.epochs == second.epochs
    for name, values in first.weights.items():
        assert values.tobytes() == second.weights[name].tobytes()
    other = trained(features, replace(QUICK, seed=1))
    assert any((other.weights[name] != first.weights[name]).any() for name in first.weights)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_as_well(make_features):
    features = make_features(6000, 2.5)
    frames = features.frames
    parts = frames.part("train"), frames.part("validation")
    on_gpu = train_head(features, *parts, QUICK, "auto", silent)
    assert on_gpu.device == "cuda:0"
    best = [
        max(epoch.validation_auroc for epoch in head.epochs) for head in (on_gpu, trained(features))
    ]
    assert best[0] == pytest.approx(best[1], abs=0.01)


def test_training_leaves_the_process_generator_alone(make_features):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trained(make_features(2000, 1.0))
    assert torch.equal(torch.rand(3), expected)


def test_training_stops_and_keeps_the_best_epoch(make_features):
    settings = replace(QUICK, most_epochs=60, patience=2)
    head = trained(make_features(2000, 0.5), settings)
    aurocs = [epoch.validation_auroc for epoch in head.epochs]
    assert head.best_epoch == 1 + int(np.argmax(aurocs))
    assert len(aurocs) == min(60, head.best_epoch + 2)


def test_a_constant_feature_does_no_harm(make_features):
    features = make_features(2000, 2.0)
    features.samples[0].protein.values[:, 0] = 1e6
    head = trained(features)
    assert all(np.isfinite(values).all() for values in head.weights.values())
    assert head.epochs[head.best_epoch - 1].validation_auroc > 0.8


def test_a_part_of_one_class_is_refused(make_features):
    features = make_features(300, 1.0)
    features.frames.is_virus[features.frames.part("validation")] = False
    with pytest.raises(InputError, match="the validation part: has no open frame of class virus"):
        trained(features)


def test_a_smaller_share_of_the_genomes_is_part_of_a_larger_one(make_features):
    features = make_features(6000, 1.0)
    rows = features.frames.part("train")
    small, large = (some_genomes(features, rows, share, 0) for share in (0.1, 0.3))
    assert set(small) < set(large) < set(rows)
    genome, group = features.frames.genome, features.frames.group
    for number in range(4):
        of_group = [np.unique(genome[r][group[r] == number]).size for r in (small, large, rows)]
        assert of_group == [5, 15, 50]
    # Whole genomes: all frames or none.
    assert set(genome[small]).isdisjoint(genome[np.setdiff1d(rows, small)])


def test_the_learning_curve_ends_at_the_head_itself(make_features):
    features = make_features(3000, 1.5)
    head = trained(features)
    parts = features.frames.part("train"), features.frames.part("validation")
    points = learning_curve(features, *parts, head, QUICK, "cpu", silent)
    assert [point.share for point in points] == [0.1, 0.3, 1.0]
    assert points[0].frames < points[1].frames < points[2].frames == len(parts[0])
    assert points[2].validation_auroc == head.epochs[head.best_epoch - 1].validation_auroc
