"""The two-class integrals, against arbitrary precision and against each other."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from gmm_speciation import exact

# kappa: H, clone agreement, mmse; evaluated independently.
TABLE = {
    0.1: (0.6454979466632, 0.54567, 0.9086593988),
    1.0: (0.3563163602131, 0.77520, 0.4495995092),
    2.0: (0.1930750444931, 0.88449, 0.2310182219),
    4.0: (0.0604269868231, 0.96570, 0.0685974088),
    10.0: (0.0022483421084, 0.99879, 0.0024113147),
}


@pytest.mark.parametrize("kappa", TABLE)
def test_golden_values(kappa):
    entropy, agreement, mmse = TABLE[kappa]
    np.testing.assert_allclose(exact.binary_entropy(kappa), entropy, atol=1e-12)
    np.testing.assert_allclose(exact.binary_mmse(kappa), mmse, atol=1e-10)
    np.testing.assert_allclose(exact.clone_agreement(kappa), agreement, atol=5e-6)


def _mpmath_entropy(kappa: float, prior: float) -> float:
    with mpmath.workdps(30):
        log_odds = mpmath.log(prior) - mpmath.log(1 - prior)

        def half(weight, mean):
            def integrand(xi):
                value = mean + 2 * mpmath.sqrt(kappa) * xi
                return mpmath.npdf(xi) * mpmath.log1p(mpmath.exp(-value))

            return weight * mpmath.quad(integrand, mpmath.linspace(-14, 14, 29))

        plus = half(mpmath.mpf(prior), log_odds + 2 * kappa)
        return float(plus + half(1 - mpmath.mpf(prior), 2 * kappa - log_odds))


@pytest.mark.parametrize("kappa", [1e-4, 0.3, 3.0, 30.0, 120.0])
@pytest.mark.parametrize("prior", [0.5, 0.9, 0.999, 1e-6])
def test_entropy_against_arbitrary_precision(kappa, prior):
    truth = _mpmath_entropy(kappa, prior)
    np.testing.assert_allclose(exact.binary_entropy(kappa, prior), truth, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("prior", [0.5, 0.9, 1e-6])
def test_derivatives(prior):
    """dH/dkappa = -mmse / 2 (I-MMSE), and the prior's slope, against differences of H."""
    kappa = jnp.array([0.05, 1.0, 7.0])
    slope = jax.vmap(jax.grad(exact.binary_entropy), (0, None))(kappa, prior)
    np.testing.assert_allclose(slope, -exact.binary_mmse(kappa, prior) / 2, rtol=1e-10)
    step = 1e-4
    up, down = (exact.binary_entropy(kappa + sign * step, prior) for sign in (1, -1))
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-5, atol=1e-11)
    step = 1e-3 * prior * (1 - prior)
    up, down = (exact.binary_entropy(kappa, prior + sign * step) for sign in (1, -1))
    by_prior = jax.vmap(jax.grad(exact.binary_entropy, 1), (0, None))(kappa, prior)
    np.testing.assert_allclose(by_prior, (up - down) / (2 * step), rtol=1e-4, atol=1e-9)
    second = jax.grad(jax.grad(exact.binary_entropy))(1.0, prior)
    step = 1e-4
    up, down = (jax.grad(exact.binary_entropy)(1.0 + sign * step, prior) for sign in (1, -1))
    np.testing.assert_allclose(second, (up - down) / (2 * step), rtol=1e-5)


def test_limits():
    kappa = jnp.array([0.0, 1e-300, 1e3, 1e6, 1e300])
    entropy, mmse = exact.binary_entropy(kappa), exact.binary_mmse(kappa)
    np.testing.assert_allclose(entropy, [np.log(2), np.log(2), 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(mmse, [1, 1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(jax.grad(exact.binary_entropy)(0.0), -0.5)
    for prior in (0.0, 1.0, 1e-300):
        assert 0 <= float(exact.binary_entropy(1.0, prior)) < 1e-290
    # Without information the entropy is that of the prior.
    np.testing.assert_allclose(
        exact.binary_entropy(0.0, 0.2), -0.2 * np.log(0.2) - 0.8 * np.log(0.8), rtol=1e-12
    )


def test_float32(precision):
    kappa = jnp.asarray([0.1, 1.0, 10.0])
    truth = [TABLE[k][0] for k in (0.1, 1.0, 10.0)]
    np.testing.assert_allclose(exact.binary_entropy(kappa), truth, atol=precision / 10)


def test_bad_arguments():
    with pytest.raises(ValueError, match="must not be negative"):
        exact.binary_entropy(-1.0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        exact.binary_entropy(1.0, 1.5)
