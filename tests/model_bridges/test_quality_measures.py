"""Measures of drawn images: distances of known laws, shares, neighbours, errors that match repeated draws."""

import jaxtyping
import numpy as np
import pytest

from gmm_speciation.estimate import Estimate
from gmm_speciation.shares import Share
from model_bridges.quality import Moments, frechet_distance
from model_bridges.quality.frechet import sampled_frechet
from model_bridges.quality.jackknife import Jackknifed, batch_index, batch_sums, mean_of
from model_bridges.quality.precision_recall import precision_recall, radii
from model_bridges.quality.shares import class_balance, class_diversity, class_shares, class_traces

R = 20


def covariance(rng, dim):
    half = rng.normal(size=(dim, dim))
    return half @ half.T / dim + 0.1 * np.eye(dim)


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


@pytest.mark.parametrize(
    ("kind", "offset", "num"), [(np.float32, 1e4, 50_000), (np.float16, 50, 20_000)]
)
def test_features_of_low_precision_are_summed_in_float64(rng, kind, offset, num):
    """Values, as they are, in float64; a sum in their own precision loses the offset's digits."""
    x = (rng.normal(size=(num, 4)) + offset).astype(kind)
    wide = x.astype(np.float64)
    other = Moments(wide.mean(0), np.cov(wide.T))
    assert frechet_distance(Moments.of(x), other) < 1e-9
    batches, label = batch_index(num, R), np.arange(num) % 2
    found = sampled_frechet(x, other, batches, R).without
    np.testing.assert_allclose(found, sampled_frechet(wide, other, batches, R).without, rtol=1e-9)
    sums = [wide[batches == r].sum(0) for r in range(R)]
    np.testing.assert_allclose(batch_sums(x, batches, R), sums, rtol=1e-14)
    traces = [wide[label == c].var(0, ddof=1).sum() for c in range(2)]
    np.testing.assert_allclose(class_traces(x, label, 2), traces, rtol=1e-12)


def test_what_are_no_features_is_refused_by_name(rng, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    x, batches, own = rng.normal(size=(60, 3)), batch_index(60, 4), Moments(np.zeros(3), np.eye(3))
    for wrong, message in (
        (np.where(x > 1, np.nan, x), "`features` must be finite and below"),
        (np.where(x > 1, np.inf, x), "`features` must be finite and below"),
        (1e160 * x, r"`features` must be finite and below 1e\+100"),
        (x[:, 0], r"one row an image, shape \(n, F\); got \(60,\)"),
        (x + 1j, "`features` must be real numbers; got dtype complex128"),
    ):
        for use in (
            Moments.of,
            lambda x: sampled_frechet(x, own, batches, 4),
            radii,
            lambda x: precision_recall(x, x, batches, 4),
            lambda x: class_traces(x, np.zeros(60, int), 1),
        ):
            with pytest.raises(ValueError, match=message):
                use(wrong)
    with pytest.raises(ValueError, match="of the same features; got 3 and 2 of them"):
        frechet_distance(Moments.of(x), Moments.of(x[:, :2]))
    with pytest.raises(ValueError, match="`covariance` must be finite"):
        Moments(np.zeros(2), np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match=r"shapes \(F,\) and \(F, F\); got \(2,\) and \(3, 3\)"):
        Moments(np.zeros(2), np.eye(3))


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
        assert Share.of(share.estimate, 200).interval()[1] > 0.01  # none of 200 is not never


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
    for wrong in ([1.0, 1, np.inf, 1], [1.0, 1, np.nan, 1], [1.0, 1, -1, 1]):
        with pytest.raises(ValueError, match="`target` must be finite and not negative"):
            class_balance(shares, kept, np.array(wrong))
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


def coverage(truth, found):
    low, high = np.array([jackknifed.estimate.interval() for jackknifed in found]).T
    assert (high > low).all()
    return ((low <= truth) & (truth <= high)).mean()


@pytest.mark.parametrize(
    ("a", "b"), [(0.004, 0.0), (0.01, 0.001), (1.0, 0.99), (0.05, 0.02), (0.0, 0.0)]
)
def test_differences_of_rare_shares_hold_the_truth(rng, a, b):
    """Of which neither run may show a single image."""
    batches = batch_index(200, R)
    drawn = (rng.uniform(size=(600, 2, 200)) < np.array([a, b])[:, None]).astype(int)
    one, other = ([class_shares(x, 2, batches, R)[1] for x in drawn[:, k]] for k in range(2))
    assert coverage(a - b, [x - y for x, y in zip(one, other, strict=True)]) > 0.92


@pytest.mark.parametrize(
    ("n", "p"),
    [
        (100, (0.99, 0.005, 0.005)),
        (500, (0.998, 0.001, 0.001)),
        (500, (0.99, 0.005, 0.005)),
        (500, (0.9, 0.05, 0.05)),
    ],
)
def test_balances_of_nearly_one_class_hold_the_truth(rng, n, p):
    """Images of the other classes may not have come, and how many differs from run to run."""
    batches, kept, even = batch_index(n, R), np.arange(3), np.ones(3)
    drawn = rng.choice(3, (600, n), p=p)
    shares = [class_shares(x, 3, batches, R) for x in drawn]
    found = [class_balance(one, kept, even) for one in shares]
    assert coverage((p * np.log(3 * np.array(p))).sum(), found) > 0.92
    for one, balance in zip(shares, found, strict=True):
        own = Estimate.jackknife(balance.value, balance.without).stderr
        if one.value.min() > 0:  # nothing is missing
            assert balance.estimate.stderr == own
        elif one.value.max() == 1:  # both of the others are
            entropy = np.log(n + 1) - n / (n + 1) * np.log(n)  # of one image of n + 1
            np.testing.assert_allclose(balance.estimate.stderr, np.sqrt(2) * entropy, rtol=1e-9)


def test_errors_of_shares_are_those_of_coins(rng):
    predicted = (rng.uniform(size=4000) < 0.2).astype(int)
    share = class_shares(predicted, 2, batch_index(4000, R), R)[1]
    stderr = float(Share.of(share.estimate, 4000).stderr)
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
