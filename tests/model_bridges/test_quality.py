"""Quality of drawn images: the judge, whole runs, and pairs of runs."""

import time
from functools import partial

import jaxtyping
import numpy as np
import pytest
import torch

from model_bridges.quality import (
    FeatureClassifier,
    QualityCurve,
    Reference,
    assess,
    floor,
    paired_difference,
)

R = 20


@pytest.fixture(scope="module")
def judge(digits):
    return FeatureClassifier.train(digits.train_images, digits.train_labels)


@pytest.fixture(scope="module")
def reference(judge, digits):
    return Reference.of(judge, digits.train_images, digits.train_labels)


def noisy(digits, strength, *, seed=0, num=400, offset=0):
    """Runs from the same noise for one seed: training images, disturbed and faded with strength."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(digits.train_images), (num,), generator=generator)
    noise = torch.randn((num, 1, 8, 8), generator=generator)
    return (1 - 0.2 * strength) * digits.train_images[chosen] + (0.1 + strength) * noise + offset


# FeatureClassifier


def test_the_judge_knows_digits(judge, reference, digits):
    start = time.perf_counter()
    again = FeatureClassifier.train(digits.train_images, digits.train_labels)
    seconds = time.perf_counter() - start
    accuracy = judge.accuracy(digits.held_out_images, digits.held_out_labels)
    found = floor(judge, reference, digits.held_out_images, digits.held_out_labels)
    held_out = found.held_out
    print(
        f"held-out accuracy {accuracy:.4f}, trained in {seconds:.1f} s; Fréchet held out / train "
        f"{held_out.frechet.value:.3f} ± {held_out.frechet.stderr:.3f} (n = {held_out.num_images}), halves "
        f"{found.halves.value:.3f} ± {found.halves.stderr:.3f} (n = {found.num_images}); precision "
        f"{held_out.precision.value:.3f}, recall {held_out.recall.value:.3f}"
    )
    assert accuracy >= 0.95
    np.testing.assert_array_equal(
        judge.features(digits.held_out_images), again.features(digits.held_out_images)
    )
    assert held_out.precision.value > 0.8
    assert held_out.recall.value > 0.85
    worse = assess(noisy(digits, 0.5), judge, reference)
    assert worse.frechet.value > 10 * max(held_out.frechet.value, found.halves.value)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_features_lead_to_the_predictions_of_scikit_learn(digits):
    from sklearn.neural_network import MLPClassifier

    images, labels = digits.train_images[:400], digits.train_labels[:400]
    own = FeatureClassifier.train(images, labels, hidden=(16,), seed=3)
    features = own.features(digits.held_out_images.numpy())
    assert features.shape == (360, 16)
    assert features.dtype == np.float64
    assert features.min() == 0
    machine = MLPClassifier((16,), alpha=0.1, batch_size=200, max_iter=150, random_state=3)
    flat = images.flatten(1).double().numpy()
    machine.fit(((flat - own.shift) / own.scale).astype(np.float32), labels.numpy())
    held_out = digits.held_out_images.flatten(1).double().numpy().clip(*own.pixel_range)
    expected = machine.predict((held_out - own.shift) / own.scale)
    np.testing.assert_array_equal(own.predict(digits.held_out_images), expected)


def test_pixels_beyond_the_training_images_count_as_black_or_white(judge, digits):
    images = 1e6 * (digits.held_out_images + 0.01)
    low, high = digits.train_images.min(), digits.train_images.max()
    np.testing.assert_array_equal(
        judge.features(images), judge.features(torch.where(images > 0, high, low))
    )


def test_two_classes_have_two_logits(digits):
    few = digits.train_labels < 2
    own = FeatureClassifier.train(digits.train_images[few], digits.train_labels[few], hidden=(8,))
    assert own.num_classes == 2
    few = digits.held_out_labels < 2
    assert own.accuracy(digits.held_out_images[few], digits.held_out_labels[few]) > 0.95


def test_judges_refuse_what_they_cannot_judge(judge, digits):
    images, labels = digits.train_images, digits.train_labels
    with pytest.raises(
        ValueError,
        match=r"integers of shape \(10,\), one class an image; got int64 of shape \(9,\)",
    ):
        FeatureClassifier.train(images[:10], labels[:9])
    with pytest.raises(ValueError, match="classes 0 to C - 1"):
        FeatureClassifier.train(images[labels > 0], labels[labels > 0])
    with pytest.raises(ValueError, match="`hidden`"):
        FeatureClassifier.train(images, labels, hidden=())
    with pytest.raises(ValueError, match="all alike"):
        FeatureClassifier.train(torch.zeros(20, 4), torch.arange(20) % 2)
    with pytest.raises(ValueError, match=r"shape \(n, 1, 8, 8\), as in training; got \(5, 8, 8\)"):
        judge.features(images[:5, 0])
    broken = images[:5].clone()
    broken[2, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match="1 of 5 hold NaN or infinity"):
        judge.predict(broken)


# Runs


def test_assessing_the_data_themselves(judge, reference, digits):
    found = assess(digits.train_images, judge, reference, balance_to="data")
    assert found.frechet.value < 1e-9
    assert found.precision.value == found.recall.value == 1
    # The judge makes no mistake on what it learned from.
    np.testing.assert_allclose(found.shares.value, reference.shares, atol=1e-12)
    assert abs(float(found.balance.value)) < 1e-12
    np.testing.assert_allclose(found.diversity.value, 1, rtol=1e-10)
    np.testing.assert_allclose(found.class_diversity.value, 1, rtol=1e-10)
    assert found.removed_share is None
    with pytest.raises(ValueError, match="was not removed"):
        _ = found.left
    with pytest.raises(ValueError, match="`metric` must be one of frechet"):
        found.replicate("removed_share")


def test_assessing_data_without_a_class(judge, reference, digits):
    stays = digits.train_labels != 7
    found = assess(digits.train_images[stays], judge, reference, removed=7, num_batches=10)
    assert found.frechet.value < 1e-9
    assert found.removed_share.value == 0
    assert 0 < found.removed_share.stderr < 2e-3
    assert found.frechet.dof == 9
    assert np.isfinite(found.class_diversity.value).tolist() == [c != 7 for c in range(10)]
    everything = assess(digits.train_images, judge, reference, removed=7)
    expected = (digits.train_labels == 7).double().mean()
    np.testing.assert_allclose(everything.removed_share.value, expected)
    np.testing.assert_allclose(everything.balance.value, found.balance.value, atol=1e-12)
    assert everything.frechet.value > 1
    assert found.balance_floor == pytest.approx(8 / (2 * 1293), rel=0.01)
    for removed in (10, -1):
        with pytest.raises(ValueError, match="`removed` must be a class 0 to 9"):
            assess(digits.train_images, judge, reference, removed=removed)
    with pytest.raises(ValueError, match="is without class 7"):
        reference.without(7).without(3)


def test_references_need_a_label_an_image(judge, digits):
    with pytest.raises(
        ValueError, match=r"shape \(5,\), one class an image; got int64 of shape \(4,\)"
    ):
        Reference.of(judge, digits.train_images[:5], digits.train_labels[:4])
    with pytest.raises(ValueError, match="one label 0 to 9"):
        Reference.of(judge, digits.train_images[:2], torch.tensor([0, 10]))


@pytest.mark.parametrize(
    "form",
    [lambda c: c[:, None], lambda c: c[:1], lambda c: c.float(), lambda c: torch.eye(10).long()[c]],
)
def test_labels_that_are_not_one_integer_an_image_are_refused(judge, digits, form, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    images, labels = digits.train_images[:50], form(digits.train_labels[:50])
    for use in (FeatureClassifier.train, judge.accuracy, partial(Reference.of, judge)):
        with pytest.raises(ValueError, match=r"integers of shape \(50,\), one class an image"):
            use(images, labels)


def test_unknown_targets_of_balance_are_refused(judge, reference, digits, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(
        ValueError, match="`balance_to` must be 'uniform', 'data' or shares; got 'equal'"
    ):
        assess(digits.train_images[:400], judge, reference, balance_to="equal")
    with pytest.raises(ValueError, match=r"a share of each of 10 classes; got shape \(1,\)"):
        assess(digits.train_images[:400], judge, reference, balance_to=np.ones(1))
    for removed, entry in ((None, np.inf), (7, -1.0)):
        target = np.where(np.arange(10) == 7, entry, 1.0)
        with pytest.raises(ValueError, match="`balance_to` must be finite and not negative"):
            assess(digits.train_images[:400], judge, reference, removed, balance_to=target)


def test_floors_need_two_halves(judge, reference, digits):
    with pytest.raises(ValueError, match="`num_images` must be 2 to 718"):
        floor(judge, reference, digits.held_out_images, digits.held_out_labels, num_images=1000)
    found = floor(judge, reference, digits.held_out_images, digits.held_out_labels, removed=3)
    assert found.held_out.removed == 3
    assert found.held_out.num_images == int((digits.held_out_labels != 3).sum())


# Pairs of runs


def test_a_run_differs_from_itself_by_nothing_and_its_shares_by_an_image(judge, reference, digits):
    one, other = (assess(noisy(digits, 0.2), judge, reference, removed=7) for _ in range(2))
    for metric in one.replicates:
        gap = paired_difference(one, other, metric)
        assert gap.value == 0
        assert gap.stderr == (1 / 400 if metric in ("precision", "recall", "removed_share") else 0)


def test_the_same_noise_makes_differences_sharper(judge, reference, digits):
    one, other = (assess(noisy(digits, s), judge, reference) for s in (0.2, 0.25))
    strange = assess(noisy(digits, 0.25, seed=1), judge, reference)
    paired = paired_difference(other, one, "frechet")
    unpaired = paired_difference(strange, one, "frechet")
    independent = other.frechet - one.frechet
    assert paired.value == pytest.approx(float(independent.value))
    assert paired.stderr < 0.5 * independent.stderr
    assert unpaired.stderr > 1.5 * paired.stderr
    assert paired.value > 3 * paired.stderr  # more noise is worse, seen clearly


def test_runs_of_other_kinds_are_not_paired(judge, reference, digits):
    one = assess(noisy(digits, 0.2), judge, reference)
    for other in (
        assess(noisy(digits, 0.2, num=300), judge, reference),
        assess(noisy(digits, 0.2), judge, reference, num_batches=10),
        assess(noisy(digits, 0.2), judge, reference, removed=1),
    ):
        with pytest.raises(ValueError, match="paired runs must agree"):
            paired_difference(one, other, "frechet")


@pytest.fixture(scope="module")
def template(judge, reference, digits):
    return assess(noisy(digits, 0.2), judge, reference, removed=7)


def test_curves_are_checked(template):
    with pytest.raises(ValueError, match="one run a strength"):
        QualityCurve("short", np.array([0.0, 1]), (template,))
    with pytest.raises(ValueError, match="increase strictly"):
        QualityCurve("double", np.array([1.0, 1]), (template, template))
