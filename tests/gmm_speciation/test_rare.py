"""Classes that come once in a hundred thousand draws: the intervals of sampled averages know them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs
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
    assert log_tilt(jnp.log(jnp.array([0.999, 0.001])), 8192) is None
    assert log_tilt(jnp.log(jnp.array([0.5, 0.5])), 32) is None
    weights = np.r_[WEIGHTS[:-1], 1e-300]
    tilt = np.asarray(log_tilt(jnp.log(weights), 8192))
    proposal = weights * np.exp(tilt)
    assert proposal.sum() == pytest.approx(1)
    assert (weights / proposal).max() < 1.11
    none = np.asarray(log_tilt(jnp.log(jnp.array([1 - 1e-6, 1e-6, 0.0])), 8192))
    assert none[2] == 0
    assert np.isfinite(none).all()
