"""Quality of drawn images: distances of known laws, errors that match repeated draws, paired runs."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from model_bridges.digits import load_digits
from model_bridges.quality import (
    Judge,
    Moments,
    QualityCurve,
    Reference,
    assess,
    at_equal,
    floor,
    frechet_distance,
    paired_difference,
)
from model_bridges.quality.comparison import last_crossing
from model_bridges.quality.frechet import sampled_frechet
from model_bridges.quality.jackknife import Jackknifed, batch_index, mean_of, share_estimate
from model_bridges.quality.precision_recall import precision_recall, radii
from model_bridges.quality.shares import class_balance, class_diversity, class_shares, class_traces

R = 20


def covariance(rng, dim):
    half = rng.normal(size=(dim, dim))
    return half @ half.T / dim + 0.1 * np.eye(dim)


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def judge(digits):
    return Judge.train(digits.train_images, digits.train_labels)


@pytest.fixture(scope="module")
def reference(judge, digits):
    return Reference.of(judge, digits.train_images, digits.train_labels)


def noisy(digits, strength, *, seed=0, num=400, offset=0):
    """Runs from the same noise for one seed: training images, disturbed and faded with strength."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(digits.train_images), (num,), generator=generator)
    noise = torch.randn((num, 1, 8, 8), generator=generator)
    return (1 - 0.2 * strength) * digits.train_images[chosen] + (0.1 + strength) * noise + offset


# Fréchet distance


def test_frechet_of_commuting_gaussians_is_the_closed_form(rng):
    """|m_a - m_b|^2 + sum (sqrt a_i - sqrt b_i)^2 for covariances of one basis."""
    basis = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    a, b, shift = rng.uniform(0, 3, 5), rng.uniform(0, 3, 5), rng.normal(size=5)
    one = Moments(shift, basis @ np.diag(a) @ basis.T)
    other = Moments(np.zeros(5), basis @ np.diag(b) @ basis.T)
    expected = (shift**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    np.testing.assert_allclose(frechet_distance(one, other), expected, rtol=1e-12)


def test_frechet_is_the_matrix_root_and_symmetric(rng):
    from scipy.linalg import sqrtm

    one, other = (Moments(rng.normal(size=6), covariance(rng, 6)) for _ in range(2))
    root = np.trace(sqrtm(one.covariance @ other.covariance)).real
    expected = ((one.mean - other.mean) ** 2).sum() - 2 * root
    expected += np.trace(one.covariance) + np.trace(other.covariance)
    np.testing.assert_allclose(frechet_distance(one, other), expected, rtol=1e-10)
    np.testing.assert_allclose(
        frechet_distance(one, other), frechet_distance(other, one), rtol=1e-12
    )


def test_frechet_of_two_gaussians_in_two_dimensions():
    """tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det A det B)) for 2 x 2 matrices."""
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = 1 + 4 + np.trace(a + b) - 2 * root
    found = frechet_distance(Moments(np.array([1.0, 2.0]), a), Moments(np.zeros(2), b))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_frechet_of_a_law_from_itself_is_zero_also_when_singular(rng, rank):
    half = rng.normal(size=(6, rank))
    own = Moments(rng.normal(size=6), half @ half.T)
    assert 0 <= frechet_distance(own, own) < 1e-12
    moved = Moments(own.mean + 2, own.covariance)
    np.testing.assert_allclose(frechet_distance(own, moved), 24, rtol=1e-12)


def test_without_a_batch_is_the_distance_of_the_other_images(rng):
    x, target = rng.normal(size=(90, 3)) + 50, Moments(np.zeros(3), np.eye(3))
    batches = batch_index(90, 7)
    found = sampled_frechet(x, target, batches, 7)
    for r in range(7):
        rest = frechet_distance(Moments.of(x[batches != r]), target)
        np.testing.assert_allclose(found.without[r], rest, rtol=1e-11)


def test_jackknife_errors_are_the_spread_over_repeated_draws(rng):
    """Fréchet, precision and recall of 60 runs: average error bar against the spread of the values."""
    reference = rng.normal(size=(250, 3))
    target, reach = Moments(np.zeros(3), np.eye(3)), radii(reference)
    batches, values, errors = batch_index(300, R), [], []
    for _ in range(60):
        x = 0.7 * rng.normal(size=(300, 3)) + 0.5
        found = [
            sampled_frechet(x, target, batches, R),
            *precision_recall(x, reference, batches, R, reference_radii=reach),
        ]
        values.append([float(m.value) for m in found])
        errors.append([float(m.estimate.stderr) for m in found])
    ratio = np.sqrt(np.mean(np.square(errors), 0)) / np.std(values, 0, ddof=1)
    print(f"jackknife error over spread: Fréchet, precision, recall {ratio.round(3)}")
    # The spread of 60 draws is known to 9 %; the error of recall is an upper bound (Efron & Stein).
    assert np.all(np.abs(ratio[:2] - 1) < 0.3)
    assert 0.8 < ratio[2] < 1.6


def test_the_jackknife_sees_the_bias_of_the_distance(rng):
    """Draws of the reference law itself: the true distance is 0, all that is left is bias."""
    target, batches = Moments(np.zeros(4), np.eye(4)), batch_index(400, R)
    found = [sampled_frechet(rng.normal(size=(400, 4)), target, batches, R) for _ in range(40)]
    value = np.mean([float(m.value) for m in found])
    assert value > 0
    assert abs(np.mean([float(m.value - m.bias) for m in found])) < 0.1 * value


def test_too_few_samples_for_a_covariance(rng):
    with pytest.raises(ValueError, match="32 features needs at least 33 samples; got 32"):
        Moments.of(rng.normal(size=(32, 32)))
    target = Moments(np.zeros(8), np.eye(8))
    with pytest.raises(ValueError, match="at least 9 samples; got 8"):
        sampled_frechet(rng.normal(size=(10, 8)), target, batch_index(10, 5), 5)


# Precision and recall


def test_precision_and_recall_of_the_same_law_agree_and_are_high(rng):
    x, y = rng.normal(size=(2, 800, 2))
    precision, recall = precision_recall(x, y, batch_index(800, R), R)
    assert 0.85 < precision.value <= 1
    assert 0.85 < recall.value <= 1
    gap = np.hypot(precision.estimate.stderr, recall.estimate.stderr)
    assert abs(precision.value - recall.value) < 4 * gap
    precision, recall = precision_recall(y, y, batch_index(800, R), R)
    assert precision.value == recall.value == 1


def test_precision_and_recall_of_disjoint_laws_are_zero(rng):
    x, y = rng.normal(size=(200, 2)), rng.normal(size=(300, 2)) + 50
    for share in precision_recall(x, y, batch_index(200, R), R):
        assert share.value == 0
        assert np.all(share.without == 0)
        assert share_estimate(share.estimate, 200).stderr > 0  # none of 200 is not never


def test_a_narrow_law_has_precision_and_a_wide_one_recall(rng):
    y, batches = rng.normal(size=(500, 2)), batch_index(500, R)
    precision, recall = precision_recall(0.3 * rng.normal(size=(500, 2)), y, batches, R)
    assert precision.value > 0.95
    assert recall.value < 0.5
    precision, recall = precision_recall(4 * rng.normal(size=(500, 2)), y, batches, R)
    assert precision.value < 0.4
    assert recall.value > 0.9


@pytest.mark.parametrize("sort", [False, True])
def test_neighbours_without_a_batch_are_those_of_the_others(rng, sort):
    """Also where every near neighbour of a point is in its batch."""
    x, y, batches = rng.normal(size=(120, 2)), rng.normal(size=(80, 2)), batch_index(120, 4)
    if sort:
        batches = np.repeat(np.arange(4), 30)
        x = x + 40 * batches[:, None]
    precision, recall = precision_recall(x, y, batches, 4)
    for r in range(4):
        alone = precision_recall(x[batches != r], y, batch_index(int((batches != r).sum()), 4), 4)
        assert precision.without[r] == pytest.approx(float(alone[0].value))
        assert recall.without[r] == pytest.approx(float(alone[1].value))


def test_too_few_samples_for_neighbours(rng):
    with pytest.raises(ValueError, match="3 nearest neighbours, at least 1, need 4 samples"):
        radii(rng.normal(size=(3, 2)))
    with pytest.raises(ValueError, match="got 3"):
        precision_recall(
            rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), np.array([0, 0, 0, 1, 1, 1]), 2
        )


# Shares


def test_balance_of_exactly_even_shares_is_zero(rng):
    predicted, batches = rng.permutation(np.repeat(np.arange(5), 40)), batch_index(200, R)
    shares = class_shares(predicted, 5, batches, R)
    np.testing.assert_allclose(shares.value, 0.2)
    assert abs(float(class_balance(shares, np.arange(5), np.ones(5)).value)) < 1e-15
    # Nor does the removed class count, whatever its share.
    mixed = class_shares(np.concatenate([predicted, np.zeros(200, int)]), 5, batch_index(400, R), R)
    assert abs(float(class_balance(mixed, np.arange(1, 5), np.ones(5)).value)) < 1e-15


def test_balance_is_the_divergence_of_kept_shares():
    share = np.array([0.5, 0.3, 0.2, 0.0])
    shares = Jackknifed(share, np.tile(share, (R, 1)))
    kept = np.array([0, 1, 3])
    q, target = np.array([5 / 8, 3 / 8]), np.array([0.4, 0.1, 0.3, 0.2])
    even = (q * np.log(3 * q)).sum()
    np.testing.assert_allclose(class_balance(shares, kept, np.ones(4)).value, even, rtol=1e-12)
    weighed = (q * np.log(q * 0.7 / np.array([0.4, 0.1]))).sum()
    found = class_balance(shares, kept, target)
    np.testing.assert_allclose(found.value, weighed, rtol=1e-12)
    assert found.estimate.stderr < 1e-15
    with pytest.raises(ValueError, match="every kept class some weight"):
        class_balance(shares, kept, np.array([1.0, 1, 1, 0]))
    nothing = Jackknifed(np.array([0.0, 0, 1, 0]), np.tile([0.0, 0, 1, 0], (R, 1)))
    assert np.isnan(class_balance(nothing, kept, np.ones(4)).value)


def test_exact_draws_have_the_stated_balance(rng):
    """E KL = (C - 1) / (2 n) to first order."""
    found = []
    for _ in range(100):
        shares = class_shares(rng.integers(0, 6, 300), 6, batch_index(300, 2), 2)
        found.append(float(class_balance(shares, np.arange(6), np.ones(6)).value))
    stderr = np.std(found) / 10
    assert abs(np.mean(found) - 5 / 600) < 4 * stderr


def test_errors_of_shares_are_those_of_coins(rng):
    predicted = (rng.uniform(size=4000) < 0.2).astype(int)
    share = class_shares(predicted, 2, batch_index(4000, R), R)[1]
    stderr = float(share_estimate(share.estimate, 4000).stderr)
    assert stderr == pytest.approx(np.sqrt(0.16 / 4000), rel=0.5)
    np.testing.assert_allclose(share.value, predicted.mean())


def test_diversity_is_the_ratio_of_variances(rng):
    """Drawn images c times as far from their class centres: c^2, wherever the centres are."""
    labels = rng.integers(0, 3, 900)
    centres, noise = 10 * rng.normal(size=(3, 4)), rng.normal(size=(900, 4))
    traces = class_traces(centres[labels] + noise, labels, 4)
    kept, data_shares = np.array([0, 2, 3]), np.bincount(labels, minlength=4) / 900
    drawn = -3 * centres[labels] + 0.5 * noise
    batches = batch_index(900, R)
    pooled, by_class = class_diversity(drawn, labels, traces, data_shares, kept, batches, R)
    np.testing.assert_allclose(pooled.value, 0.25, rtol=1e-12)
    np.testing.assert_allclose(by_class.value, [0.25, 0.25, 0.25, np.nan], rtol=1e-12)
    rest = batches != 4
    again = class_traces(drawn[rest], labels[rest], 4) / traces
    np.testing.assert_allclose(by_class.without[4], again, rtol=1e-10)
    one = np.full(900, 1)  # a class that is not kept: no diversity to speak of
    assert np.isnan(class_diversity(drawn, one, traces, data_shares, kept, batches, R)[0].value)


def test_batches_are_even_shuffled_and_fixed():
    index = batch_index(203, R)
    assert set(np.bincount(index)) == {10, 11}
    np.testing.assert_array_equal(index, batch_index(203, R))
    for labels in (np.arange(2000) % 10, np.repeat(np.arange(10), 200)):
        parts = np.array([np.bincount(labels[batch_index(2000, R) == r]) for r in range(R)])
        assert parts.shape == (R, 10)
        assert parts.max() < 30  # 10 of a class in a batch of 100
    for bad in ((10, 1), (10, 6)):
        with pytest.raises(ValueError, match="`num_batches` must be at least 2"):
            batch_index(*bad)


def test_mean_without_a_batch(rng):
    rows, batches = rng.normal(size=(50, 2)), batch_index(50, 4)
    found = mean_of(rows, batches, 4)
    np.testing.assert_allclose(found.without[2], rows[batches != 2].mean(0))
    np.testing.assert_allclose(found.bias, 0, atol=0.05)


# Judge


def test_the_judge_knows_digits(judge, reference, digits):
    start = time.perf_counter()
    again = Judge.train(digits.train_images, digits.train_labels)
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
    own = Judge.train(images, labels, hidden=(16,), seed=3)
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
    own = Judge.train(digits.train_images[few], digits.train_labels[few], hidden=(8,))
    assert own.num_classes == 2
    few = digits.held_out_labels < 2
    assert own.accuracy(digits.held_out_images[few], digits.held_out_labels[few]) > 0.95


def test_judges_refuse_what_they_cannot_judge(judge, digits):
    images, labels = digits.train_images, digits.train_labels
    with pytest.raises(ValueError, match="10 images and 9 labels; give one each"):
        Judge.train(images[:10], labels[:9])
    with pytest.raises(ValueError, match="classes 0 to C - 1"):
        Judge.train(images[labels > 0], labels[labels > 0])
    with pytest.raises(ValueError, match="`hidden`"):
        Judge.train(images, labels, hidden=())
    with pytest.raises(ValueError, match="all alike"):
        Judge.train(torch.zeros(20, 4), torch.arange(20) % 2)
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
    assert found.safety is None
    with pytest.raises(ValueError, match="`metric` must be one of frechet"):
        found.replicate("removed_share")


def test_assessing_data_without_a_class(judge, reference, digits):
    stays = digits.train_labels != 7
    found = assess(digits.train_images[stays], judge, reference, removed=7, num_batches=10)
    assert found.frechet.value < 1e-9
    assert found.removed_share.value == 0
    assert 0 < found.removed_share.stderr < 2e-3
    assert found.safety.value == 1
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
    with pytest.raises(ValueError, match="one label 0 to 9 an image; got 5 images and 4 labels"):
        Reference.of(judge, digits.train_images[:5], digits.train_labels[:4])
    with pytest.raises(ValueError, match="one label 0 to 9"):
        Reference.of(judge, digits.train_images[:2], torch.tensor([0, 10]))


def test_floors_need_two_halves(judge, reference, digits):
    with pytest.raises(ValueError, match="`num_images` must be 2 to 718"):
        floor(judge, reference, digits.held_out_images, digits.held_out_labels, num_images=1000)
    found = floor(judge, reference, digits.held_out_images, digits.held_out_labels, removed=3)
    assert found.held_out.removed == 3
    assert found.held_out.num_images == int((digits.held_out_labels != 3).sum())


# Pairs of runs


def test_a_run_differs_from_itself_by_exactly_nothing(judge, reference, digits):
    one, other = (assess(noisy(digits, 0.2), judge, reference, removed=7) for _ in range(2))
    for metric in one.replicates:
        gap = paired_difference(one, other, metric)
        assert gap.value == 0
        assert gap.stderr == 0


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


def synthetic(template, x, y, rng=None, noise=0.0):
    """A run whose metrics `x` (Fréchet) and `y` (removed share) are given, batch noise `(R,)` each."""
    wiggle = noise * rng.normal(size=(2, R)) if noise else np.zeros((2, R))
    replicates = dict(template.replicates)
    for name, value, own in (("frechet", x, wiggle[0]), ("removed_share", y, wiggle[1])):
        replicates[name] = Jackknifed(np.asarray(float(value)), value + own - own.mean())
    return dataclasses.replace(template, replicates=replicates)


@pytest.fixture(scope="module")
def template(judge, reference, digits):
    return assess(noisy(digits, 0.2), judge, reference, removed=7)


def curve(template, x, y, strengths=None, name="curve"):
    strengths = np.arange(len(x), dtype=float) if strengths is None else strengths
    points = tuple(synthetic(template, *pair) for pair in zip(x, y, strict=True))
    return QualityCurve(name, strengths, points)


def test_last_crossing():
    assert last_crossing(np.array([3.0, 1.0, 2.0, 5.0]), 2.0) == (2, 0.0)
    assert last_crossing(np.array([3.0, 1.0, 2.0, 5.0]), 5.0) == (2, 1.0)
    assert last_crossing(np.array([3.0, 1.0, 2.0]), 2.5) == (0, 0.25)
    assert last_crossing(np.array([3.0, 1.0, 2.0]), 0.9) is None
    assert last_crossing(np.array([3.0, 1.0, 1.0]), 1.0) == (1, 1.0)
    assert last_crossing(np.array([1.0, 2.0, np.nan]), 1.5) == (0, 0.5)
    assert last_crossing(np.array([1.0, 2.0]), np.nan) is None


def test_at_equal_price_the_lines_differ_as_computed(template):
    """a: x = s, y = 1 - s / 4; b: x = 2 s, y = 1 - s / 4: at equal x the gap is -x / 8."""
    a = curve(template, [0, 1, 2, 3], [1, 0.75, 0.5, 0.25])
    b = curve(template, [0, 2, 4], [1, 0.75, 0.5], np.array([0.0, 10, 30]))
    found = at_equal(a, b, "frechet", "removed_share")
    np.testing.assert_allclose(found.difference.value, [0, -1 / 8, -2 / 8, -3 / 8])
    np.testing.assert_allclose(found.strength_a, [0, 1, 2, 3])
    np.testing.assert_allclose(found.strength_b, [0, 5, 10, 20])
    assert found.reached.all()
    np.testing.assert_allclose(found.mean_difference.value, -6 / 32)
    assert np.all(found.difference.stderr < 1e-12)


def test_where_a_curve_never_comes_there_is_no_comparison(template):
    a = curve(template, [0, 1, 2, 3], [1, 0.75, 0.5, 0.25])
    b = curve(template, [0.5, 1.5], [1, 0.5])
    found = at_equal(a, b, "frechet", "removed_share")
    assert found.reached.tolist() == [False, True, False, False]
    np.testing.assert_allclose(found.difference.value, [np.nan, 0, np.nan, np.nan], atol=1e-12)
    np.testing.assert_allclose(found.mean_difference.value, 0, atol=1e-12)
    far = curve(template, [10, 11], [1, 0.5])
    assert np.isnan(at_equal(a, far, "frechet", "removed_share").mean_difference.value)


def test_falling_branches_are_read_at_the_stronger_setting(template):
    """x falls from 3 to 1 and rises to 4: its first point is compared at the last s with x = 3."""
    a = curve(template, [3, 1, 2, 4], [1, 0.6, 0.3, 0.1])
    b = curve(template, [3, 2, 5], [1, 0.8, 0.2])
    found = at_equal(a, b, "frechet", "removed_share")
    np.testing.assert_allclose(found.strength_a, [2.5, 1, 2, 3])
    np.testing.assert_allclose(found.y_a.value, [0.2, 0.6, 0.3, 0.1])
    np.testing.assert_allclose(found.y_b.value, [0.6, np.nan, 0.8, 0.4])


def test_a_price_that_falls_from_there_on_buys_nothing(template):
    """At x = 3 curve a rises for good while b leaves it downwards: no comparison, either way round."""
    a = curve(template, [3, 2, 4], [1, 0.8, 0.2])
    b = curve(template, [3, 1, 2], [1, 0.6, 0.3])
    found = at_equal(a, b, "frechet", "removed_share")
    assert found.reached.tolist() == [False, True, False]
    np.testing.assert_allclose(found.difference.value, [np.nan, 0.5, np.nan])
    assert at_equal(b, a, "frechet", "removed_share").reached.tolist() == [False, False, True]
    falling = at_equal(a, b, "removed_share", "frechet")  # a share that falls on both
    assert falling.reached.tolist() == [True, True, False]
    np.testing.assert_allclose(falling.difference.value, [0, 0, np.nan], atol=1e-12)


def test_a_curve_differs_from_itself_by_exactly_nothing(judge, reference, digits):
    strengths = np.array([0.0, 0.1, 0.2, 0.4])
    points = tuple(assess(noisy(digits, s), judge, reference, removed=7) for s in strengths)
    own = QualityCurve("own", strengths, points)
    for y in ("removed_share", "balance", "recall"):
        found = at_equal(own, own, "frechet", y)
        assert np.all(found.difference.value == 0)
        assert np.all(found.difference.stderr == 0)
        assert found.mean_difference.stderr == 0


def test_the_error_of_a_crossing_follows_both_curves(template, rng):
    """y = c x on both curves: y at equal x has no error of its own, whatever x does."""
    points = []
    for slope in (1.0, 2.0):
        runs = []
        for level in (0.0, 1.0, 2.0):
            run = synthetic(template, level, 0.0, rng, 0.01)
            x = run.replicates["frechet"]
            y = Jackknifed(np.asarray(slope * x.value), slope * x.without)
            replicates = run.replicates | {"removed_share": y}
            runs.append(dataclasses.replace(run, replicates=replicates))
        points.append(QualityCurve("line", np.arange(3.0), tuple(runs)))
    found = at_equal(*points, "frechet", "removed_share")
    np.testing.assert_allclose(found.difference.value, [0, -1, -2], atol=1e-12)
    # y_b = 2 X and y_a = X, so the difference moves with X alone.
    np.testing.assert_allclose(found.difference.stderr, found.x.stderr, rtol=1e-9)


def test_curves_are_checked(template):
    with pytest.raises(ValueError, match="one run a strength"):
        QualityCurve("short", np.array([0.0, 1]), (template,))
    with pytest.raises(ValueError, match="increase strictly"):
        QualityCurve("double", np.array([1.0, 1]), (template, template))
