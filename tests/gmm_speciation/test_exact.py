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


def _dense_logarithms(kappa: float, prior: float) -> list[float]:
    """`log H`, `log mmse`, `log(-dmmse/dkappa)` by mpmath, as E over X ~ N(+-sqrt(kappa), 1): the class
    C = +-1 seen at SNR kappa, posterior by Bayes' rule in the state x, nothing in log-odds."""
    with mpmath.workdps(40):
        k, pi = mpmath.mpf(kappa), mpmath.mpf(prior)
        root = mpmath.sqrt(k)
        tie = -mpmath.log(pi / (1 - pi)) / (2 * root)
        centre = max(-root, min(tie, root))  # the integrands' logarithms curve by 1 at least
        ladder = [sign * 2 ** (k / 2) / root for sign in (-1, 1) for k in range(-2, 15)]
        places = {centre + j for j in range(-15, 16)} | {tie + step for step in [0, *ladder]}
        places = sorted(p for p in places if abs(p - centre) <= 15)

        def average(f):
            def integrand(x):
                plus, minus = pi * mpmath.npdf(x, root), (1 - pi) * mpmath.npdf(x, -root)
                return f(plus, minus)

            return mpmath.quad(integrand, places)

        # Plus and minus are joint densities; p = plus / (plus + minus), kept where 1 - p is tiny.
        entropy = average(lambda a, b: a * mpmath.log1p(b / a) + b * mpmath.log1p(a / b))
        error = average(lambda a, b: 4 * a * b / (a + b))
        # The error of C falls with the SNR by the mean square of its posterior variance.
        slope = average(lambda a, b: 16 * a**2 * b**2 / (a + b) ** 3)
        return [float(mpmath.log(one)) for one in (entropy, error, slope)]


@pytest.mark.parametrize("kappa", [1e-6, 0.3, 3.0, 50.0, 150.0, 700.0])
@pytest.mark.parametrize("prior", [0.5, 0.999, 1e-12, 1e-50, 1e-300])
def test_tails_keep_their_relative_accuracy(kappa, prior):
    log_entropy, log_mmse, log_slope = _dense_logarithms(kappa, prior)
    np.testing.assert_allclose(
        exact.log_binary_entropy(kappa, prior), log_entropy, rtol=2e-12, atol=1e-12
    )
    np.testing.assert_allclose(
        exact.log_binary_mmse(kappa, prior), log_mmse, rtol=2e-12, atol=1e-12
    )
    small = log_entropy < -690
    if not small:
        np.testing.assert_allclose(
            exact.binary_entropy(kappa, prior), np.exp(log_entropy), rtol=1e-9
        )
        np.testing.assert_allclose(exact.binary_mmse(kappa, prior), np.exp(log_mmse), rtol=1e-9)
        slope = jax.grad(exact.binary_mmse)(kappa, prior)
        np.testing.assert_allclose(slope, -np.exp(log_slope), rtol=1e-9)
        slope = jax.grad(exact.binary_entropy)(kappa, prior)
        np.testing.assert_allclose(slope, -np.exp(log_mmse) / 2, rtol=1e-9)
    slope = jax.grad(exact.log_binary_entropy)(kappa, prior)
    np.testing.assert_allclose(slope, -np.exp(log_mmse - log_entropy) / 2, rtol=1e-9)


def test_the_slope_by_a_small_prior():
    """`dH/dprior` where H itself is no number: the surprise of the rare class less that of the other."""
    kappa, prior = 700.0, 1e-300
    with mpmath.workdps(40):
        log_odds, scale = mpmath.log(mpmath.mpf(prior)), 2 * mpmath.sqrt(kappa)

        def mean(sign, f):
            centre = log_odds + sign * 2 * kappa
            places = [mpmath.mpf(x) for x in range(-200, 201, 2)]
            return mpmath.quad(lambda x: mpmath.npdf(x, centre, scale) * f(x), places)

        truth = mean(1, lambda x: mpmath.log1p(mpmath.exp(-x)))
        truth -= mean(-1, lambda x: mpmath.log1p(mpmath.exp(x)))
    found = jax.grad(exact.binary_entropy, 1)(kappa, prior)
    np.testing.assert_allclose(float(found), float(truth), rtol=1e-9)


def test_beyond_the_numbers():
    """For large kappa the normal is flat where the classes tie, `H = e^{-kappa/2} I / sqrt(8 pi kappa)`, and
    infinity is certainty."""
    kappa = jnp.array([1e3, 1e5, 1e8, 1e20])
    logarithm = exact.log_binary_entropy(kappa)
    constant = float(
        mpmath.log(
            mpmath.quad(
                lambda x: (
                    mpmath.cosh(x / 2)
                    * (mpmath.log1p(mpmath.exp(-abs(x))) + abs(x) / (1 + mpmath.exp(abs(x))))
                ),
                [-80, -8, 0, 8, 80],
            )
        )
    )
    limit = -kappa / 2 + constant - np.log(8 * np.pi * np.asarray(kappa)) / 2
    np.testing.assert_allclose(logarithm, limit, rtol=1e-5)
    assert float(exact.log_binary_entropy(jnp.inf)) == -np.inf
    for function in (exact.binary_entropy, exact.binary_mmse):
        assert float(function(jnp.inf)) == 0.0
        assert float(jax.grad(function)(jnp.inf)) == 0.0


def test_second_derivatives_where_a_slope_vanishes():
    hessian = jax.hessian(lambda v: exact.binary_entropy(v[0], v[1]))(jnp.array([1.0, 0.5]))
    assert np.all(np.isfinite(hessian))
    np.testing.assert_allclose(hessian[0, 1], 0.0, atol=1e-12)


@pytest.mark.parametrize("prior", [0.5, 1e-30])
def test_tails_in_float32(prior):
    """The sums keep their logarithm in any format."""
    kappa = np.array([0.0, 1e-3, 80.0, 700.0, 1e6])
    wide = np.asarray(exact.log_binary_entropy(kappa, prior))
    with jax.enable_x64(False):
        narrow = np.asarray(exact.log_binary_entropy(kappa, prior))
        slopes = jax.vmap(jax.grad(exact.binary_entropy), (0, None))(jnp.asarray(kappa), prior)
    np.testing.assert_allclose(narrow, wide, rtol=2e-5, atol=2e-5)
    assert np.all(np.isfinite(slopes))


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
    with pytest.raises(ValueError, match="NaN"):
        exact.binary_entropy(np.nan)


@pytest.mark.parametrize(
    ("kappa", "prior"),
    [(47.0, 1e-111), (13.3, 1e-111), (13.3, 1e-47), (47.0, 1e-47), (300.0, 1e-9)],
)
def test_slopes_of_the_error_where_the_classes_tie_beyond_the_likely_states(kappa, prior):
    """`dmmse/dkappa = -E (4 p (1 - p))^2` by a sum in numpy over the log-odds of either class."""
    z = np.linspace(-45, 45, 400_001).astype(np.longdouble)
    log_odds = np.log(np.longdouble(prior)) - np.log1p(-np.longdouble(prior))
    # From the likelier class alone: exp(L) weighs its density to that of the other.
    odds = log_odds - 2 * kappa + 2 * np.sqrt(np.longdouble(kappa)) * z
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.longdouble(np.pi)) * (z[1] - z[0])
    both = (1 - np.longdouble(prior)) * density * (1 + np.exp(odds))
    total = np.sum(both / np.cosh(odds / 2) ** 4)
    slope = jax.grad(exact.binary_mmse)(kappa, prior)
    np.testing.assert_allclose(float(slope), -float(total), rtol=1e-9)
