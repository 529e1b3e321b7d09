"""Classes that come once in a hundred thousand draws: the intervals of sampled averages know them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import entr
from theory_contracts import width

import gmm_speciation as gs
from gmm_speciation.entropy import level_statistics, prior_entropy
from gmm_speciation.rare import log_tilt

CLASSES, WEIGHT, DISTANCE, LEVELS = 12, 1e-5, 8.0, (6.0, 2.0, 0.0)
WEIGHTS = np.r_[1 - (CLASSES - 1) * WEIGHT, np.full(CLASSES - 1, WEIGHT)]
MEANS = np.eye(CLASSES) * DISTANCE / np.sqrt(2)


@pytest.fixture(scope="module")
def expected():
    """`H = sum_c w_c E_c[-log p(c|x)]` by draws of the first class and of a rare one, and its error."""
    rng = np.random.default_rng(0)
    found = []
    for level in LEVELS:
        alpha, total = np.sqrt(1 / (1 + np.exp(-level))), 0.0
        variance = 0.0
        for own, share in ((0, WEIGHTS[0]), (1, WEIGHT * (CLASSES - 1))):
            x = alpha * MEANS[own] + rng.standard_normal((400_000, CLASSES))
            logits = np.log(WEIGHTS) - ((x[:, None] - alpha * MEANS) ** 2).sum(-1) / 2
            losses = np.logaddexp.reduce(logits, axis=1) - logits[:, own]
            total += share * losses.mean()
            variance += share**2 * losses.var() / len(losses)
        found.append((total, np.sqrt(variance)))
    return np.array(found).T


# Averages over the draws of a key; a covariance that differs has another reduction, or none.
MIXTURES = {
    "shared": lambda: gs.GaussianMixture.isotropic(MEANS, 1.0, WEIGHTS),
    "own": lambda: gs.GaussianMixture.isotropic(
        MEANS, np.r_[1.0, np.full(CLASSES - 1, 1 + 1e-9)], WEIGHTS
    ),
}


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("method", ["quasi-monte-carlo", "monte-carlo"])
def test_intervals_hold_the_truth(kind, method, expected):
    truth, error = expected
    z = []
    for seed in range(6):
        found = gs.class_entropy(MIXTURES[kind](), LEVELS, method=method, key=jax.random.key(seed))
        z.append((found.value - truth) / np.hypot(found.stderr, error))
    # Sums of few heavy terms: Student's errors are a little small, not by the factor of 3 to 30.
    assert np.max(np.abs(np.mean(z, 0))) < 2.5
    assert np.max(np.abs(z)) < 8
    assert np.all(found.stderr[1:] < 0.6 * truth[1:])


def test_a_rate_is_the_slope_of_the_entropy_and_agreement_has_its_limits():
    mixture = MIXTURES["shared"]()
    around = gs.class_entropy(mixture, [-0.5, 0.5], method="quasi-monte-carlo").value
    rates = gs.entropy_rate(mixture, np.linspace(-0.5, 0.5, 9), method="quasi-monte-carlo")
    slope = np.trapezoid(rates.value, np.linspace(-0.5, 0.5, 9))
    assert slope == pytest.approx(float(around[0] - around[1]), rel=0.02)
    chance = float((WEIGHTS**2).sum())
    noisy = gs.clone_agreement(mixture, -60.0, method="quasi-monte-carlo")
    assert float(noisy.value) == pytest.approx(chance, abs=1e-9)


def test_who_is_not_rare_is_drawn_as_before():
    assert log_tilt(jnp.log(np.full(1000, 1e-3)), 8192) is None
    assert log_tilt(jnp.log(jnp.array([0.98, 0.02])), 8192) is None
    assert log_tilt(jnp.log(jnp.array([0.5, 0.5])), 32) is None
    weights = np.r_[WEIGHTS[:-1], 1e-300]
    tilt = np.asarray(log_tilt(jnp.log(weights), 8192))
    proposal = weights * np.exp(tilt)
    assert proposal.sum() == pytest.approx(1)
    assert (weights / proposal).max() < 1.11
    none = np.asarray(log_tilt(jnp.log(jnp.array([1 - 1e-6, 1e-6, 0.0])), 8192))
    assert none[2] == 0
    assert np.isfinite(none).all()


def test_the_rate_of_a_rare_and_broad_component_has_its_interval():
    """Nine draws in all, less than one of each replicate; the reference is a sum over a line."""
    means = np.array([1.03, -0.005, -0.05, -0.003, -2.1, 0.55, -1.86])
    spread = np.array([0.018, 0.002, 7e-4, 2e-6, 73.0, 4e-6, 1.6e-6])
    weights = np.array([0.013, 0.1065, 0.1766, 0.064, 0.0011, 0.558, 0.0808])
    weights, labels, level = weights / weights.sum(), np.array([0, 1, 2, 2, 2, 2, 0]), -3.28

    def entropy(level):
        signal, x = 1 / (1 + np.exp(-level)), np.linspace(-60, 60, 120_001)
        variance = (signal * spread + 1 - signal)[:, None]
        square = (x - np.sqrt(signal) * means[:, None]) ** 2 / variance
        density = weights[:, None] * np.exp(-square / 2) / np.sqrt(2 * np.pi * variance)
        classes = np.stack([density[labels == c].sum(0) for c in range(3)])
        return np.trapezoid((entr(classes) - entr(classes.sum(0)) / 3).sum(0), x)

    rate = (entropy(level - 1e-3) - entropy(level + 1e-3)) / 2e-3
    mixture = gs.GaussianMixture.isotropic(means[:, None], spread, weights)
    z = []
    for seed in range(50):
        found = gs.entropy_rate(
            mixture,
            level,
            partition=labels,
            method="quasi-monte-carlo",
            key=jax.random.key(seed),
        )
        z.append((float(found.value) - rate) / float(found.stderr))
    assert np.sqrt(np.mean(np.square(z))) < 1.3
    assert np.mean(np.abs(z) > 2.131) < 0.15  # Student's 95 % of sixteen replicates


TAILS = {
    "pair": lambda: gs.families.symmetric_pair(4, 1.0, variance=0.01),
    "unequal": lambda: gs.GaussianMixture.isotropic(
        np.array([[-2.0], [0.0], [2.0]]), np.array([0.01, 0.02, 0.01]), [0.2, 0.3, 0.5]
    ),
}
NUM_DRAWS = 2048


@pytest.mark.parametrize("method", ["quasi-monte-carlo", "monte-carlo"])
@pytest.mark.parametrize("name", TAILS)
def test_an_entropy_that_a_few_draws_carry_has_its_interval(name, method):
    """From 20 draws' worth on a boundary down to a thousandth of one, where most often none comes."""
    mixture = TAILS[name]()
    levels = np.linspace(0.0, 4.0, 400)
    exact = gs.entropy_curve(mixture, levels[::-1], method="exact")
    wanted = np.log(2) / NUM_DRAWS * np.array([20.0, 3.0, 1.0, 0.3, 1e-3])
    places = [int(np.argmin(np.abs(np.log(exact.entropy.value) - np.log(one)))) for one in wanted]
    truth = {
        "entropy": np.asarray(exact.entropy.value)[places],
        "rate": np.asarray(exact.rate.value)[places],
        "agreement": np.asarray(
            gs.clone_agreement(mixture, exact.log_snr[places], method="exact").value
        ),
    }
    hits = {which: np.zeros(len(places)) for which in truth}
    for seed in range(60):
        found, _ = level_statistics(
            mixture,
            jnp.asarray(exact.log_snr[places]),
            method=method,
            num_samples=NUM_DRAWS,
            key=jax.random.key(seed),
        )
        for which, expected in truth.items():
            low, high = found.estimate(which).interval()
            hits[which] += (low <= expected) & (expected <= high)
    for which, counts in hits.items():
        assert counts.min() >= 52, (which, counts)  # of 57 on average; 51 once in a hundred
    error = np.asarray(found.stderr.entropy)
    assert error.max() < 10 * np.log(2) / NUM_DRAWS  # and they say something


def test_what_is_certain_by_itself_stays_so():
    mixture = TAILS["pair"]()
    for method in ("quasi-monte-carlo", "monte-carlo"):
        ends = gs.class_entropy(mixture, [-np.inf, np.inf], method=method)
        assert np.asarray(ends.stderr).max() < 1e-12
    # Where twenty draws and more carry the mean, the error is their spread, below what one may add.
    bulk = gs.class_entropy(mixture, -1.0, method="quasi-monte-carlo")
    assert 0 < float(bulk.stderr) < np.log(2) / 8192


PRIORS = (0.5, 0.3, 1e-3, 1e-6, 1e-8, 1e-12, 1e-17, 1e-30)


def of_two(p, level, distance=8.0):
    """H and its rate for two classes of variance 1 on the line, by sums of positive terms."""
    signal, x = 1 / (1 + np.exp(-level)), np.linspace(-20.0, 28.0, 40_001)
    shift = np.sqrt(signal) * distance
    likely = np.log1p(-p) - x**2 / 2
    odds = np.log(p) - (x - shift) ** 2 / 2 - likely
    density = np.exp(np.logaddexp(likely, likely + odds)) / np.sqrt(2 * np.pi)
    few = np.exp(-abs(odds)) / (1 + np.exp(-abs(odds)))
    entropy = np.log1p(np.exp(-abs(odds))) + abs(odds) * few
    spread = few * (1 - few) * (1 - signal) * shift**2 / 2
    return [np.trapezoid(density * one, x) for one in (entropy, spread)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rare_first", [False, True])
def test_the_order_of_two_classes_does_not_matter_however_rare_one_is(rare_first, dtype):
    near = 5e-6 if dtype is np.float32 else 1e-12
    for p in PRIORS:
        order = [1, 0] if rare_first else [0, 1]
        weights, means = np.array([1 - p, p])[order], np.array([[0.0], [8.0]])[order]
        with width(dtype):
            pair = gs.GaussianMixture.isotropic(means.astype(dtype), 1.0, weights)
            own = gs.GaussianMixture.diagonal(
                means.astype(dtype), np.array([[1.0], [1.5]], dtype)[order], weights
            )
            levels = np.array([2.0, -1.0, -80.0], dtype)
            found = gs.class_entropy(pair, levels), gs.entropy_rate(pair, levels[:2])
            truth = np.array([of_two(p, float(level)) for level in levels])
            np.testing.assert_allclose(found[0].value, truth[:, 0], rtol=near)
            np.testing.assert_allclose(found[1].value, truth[:2, 1], rtol=near)
            # Without signal every law has the entropy of its weights; that of draws, too.
            assert float(prior_entropy(pair)) == pytest.approx(truth[2, 0], rel=near, abs=0)
            assert float(gs.class_entropy(own, -80.0).value) == pytest.approx(
                truth[2, 0], rel=near, abs=0
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_class_however_rare_has_its_times(dtype):
    for p in (1e-6, 1e-17, 1e-30):
        found = []
        for order in ([0, 1], [1, 0]):
            weights, means = np.array([1 - p, p])[order], np.array([[0.0], [8.0]])[order]
            with width(dtype):
                times = gs.speciation_times(gs.GaussianMixture.isotropic(means, 1.0, weights))
            found.append(float(times.entropic.log_snr.value))
            if p < 1e-16 or dtype is np.float32:
                assert f"as far as {np.dtype(dtype)} tells" in str(times.cloning)
        assert found[0] == pytest.approx(found[1], abs=1e-4)
        rates = [of_two(p, found[0] + step)[1] for step in (-0.2, 0.0, 0.2)]
        assert np.argmax(rates) == 1
