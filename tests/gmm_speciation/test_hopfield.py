"""Retrieval is a descent and a denoiser; minima appear, win, and the symmetric state gives way."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from gmm_speciation import families, hopfield, inference, plotting
from gmm_speciation.exact import equidistant_entropy

# Appearance, equal energy, stability as given to three digits in the literature's formulas.
TABLE = {
    2: (2, 2, 2),
    3: (2.746, 2.773, 3),
    5: (3.565, 3.697, 5),
    10: (4.560, 4.944, 10),
    50: (6.625, 7.946, 50),
}


@pytest.fixture
def patterns(rng):
    """Patterns of any norm, away from the origin."""
    return rng.standard_normal((7, 5)) * rng.uniform(0.5, 2.0, (7, 1)) + 0.3


@pytest.fixture
def states(rng):
    return jnp.asarray(rng.standard_normal((4, 3, 5)))


# Energy and retrieval


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0, 1000.0])
def test_energy_descends_under_retrieval_and_is_not_negative(patterns, states, beta):
    for _ in range(5):
        step = hopfield.retrieve(patterns, states, beta)
        before, after = (hopfield.energy(patterns, xi, beta) for xi in (states, step))
        assert np.all(np.asarray(after) <= np.asarray(before) + 1e-12)
        assert np.all(np.asarray(after) >= 0)
        states = step


def test_a_step_is_a_gradient_step_of_length_one(patterns, states):
    gradient = jax.grad(lambda xi: hopfield.energy(patterns, xi, 3.0).sum())(jnp.asarray(states))
    np.testing.assert_allclose(
        states - gradient, hopfield.retrieve(patterns, states, 3.0), rtol=1e-12, atol=1e-13
    )


def test_steps_compose_and_none_is_the_identity(patterns, states):
    twice = hopfield.retrieve(patterns, hopfield.retrieve(patterns, states, 2.0), 2.0)
    np.testing.assert_allclose(hopfield.retrieve(patterns, states, 2.0, 2), twice, rtol=1e-12)
    np.testing.assert_array_equal(hopfield.retrieve(patterns, states, 2.0, 0), states)


def test_a_step_is_the_denoiser_of_a_mixture_whose_weights_favour_long_patterns(patterns, states):
    """A component on every pattern, at sigma^2 = 1 / beta."""
    beta = 4.0
    mixture = hopfield.as_mixture(patterns, beta)
    weights = np.exp(beta * np.sum(patterns**2, -1) / 2)
    np.testing.assert_allclose(mixture.weights, weights / weights.sum(), rtol=1e-10)
    denoised = inference.denoiser(mixture, states, 1.0, 1 / np.sqrt(beta))
    np.testing.assert_allclose(
        hopfield.retrieve(patterns, states, beta), denoised, rtol=1e-9, atol=1e-12
    )
    # Without them it is another map.
    plain = inference.denoiser(families.empirical(patterns), states, 1.0, 1 / np.sqrt(beta))
    assert np.max(np.abs(plain - denoised)) > 0.1


def test_energy_is_the_noisy_log_density(patterns, states):
    beta = 4.0
    noisy = hopfield.as_mixture(patterns, beta).perturb(1.0, 1 / np.sqrt(beta))
    excess = beta * hopfield.energy(patterns, states, beta) + noisy.log_prob(jnp.asarray(states))
    np.testing.assert_allclose(excess, np.full(states.shape[:-1], excess[0, 0]), rtol=1e-10)


def test_transformations_and_precision(patterns, states, precision):
    rows, xi = (jnp.asarray(np.asarray(one)) for one in (patterns, states))
    for function in (hopfield.energy, hopfield.retrieve):
        once = function(rows, xi, 2.0)
        compiled = jax.jit(function)(rows, xi, jnp.asarray(2.0))
        mapped = jax.vmap(lambda one, f=function: f(rows, one, 2.0))(xi)
        betas = jax.vmap(lambda beta, f=function: f(rows, xi, beta))(jnp.asarray([2.0, 3.0]))
        for other in (compiled, mapped, betas[0]):
            np.testing.assert_allclose(once, other, rtol=precision, atol=precision)
    slope = jax.grad(lambda beta: hopfield.retrieve(rows, xi, beta, 3).sum())(jnp.asarray(2.0))
    assert np.isfinite(slope)


@pytest.mark.parametrize("beta", [1e-7, 1e-5, 1e-3, 1.0, 1e3, 1e6, 1e12, 1e20, 1e30])
def test_raw_grey_levels_are_patterns(beta, rng, precision):
    """0..255 in 784 dimensions, at any beta and in every way of compiling, against numpy in float64."""
    base = rng.integers(0, 256, 784)
    x = np.clip(np.round(base + rng.normal(size=(10, 784)) * 30), 0, 255)
    xi = np.clip(np.round(x[:4] + rng.normal(size=(4, 784)) * 20), 0, 255)
    overlaps = xi @ x.T
    top = overlaps.max(-1, keepdims=True)
    weights = np.exp(beta * (overlaps - top))
    retrieved = weights @ x / weights.sum(-1, keepdims=True)
    soft_top = np.log(weights.mean(-1)) / beta + top[:, 0]
    energy = (xi**2).sum(-1) / 2 - soft_top + (x**2).sum(-1).max() / 2
    for function, expected in ((hopfield.retrieve, retrieved), (hopfield.energy, energy)):
        states = jnp.asarray(xi)
        for found in (
            function(x, states, beta),
            [function(x, one, beta) for one in xi],
            jax.jit(lambda one, f=function: f(x, one, beta))(states),
            jax.vmap(lambda one, f=function: f(x, one, beta))(states),
        ):
            np.testing.assert_allclose(found, expected, rtol=precision, atol=precision)
        assert np.isfinite(jax.grad(lambda one, f=function: f(x, one, beta).sum())(states)).all()
    log_weights = jax.jit(lambda rows: hopfield.as_mixture(rows, beta).log_weights)(jnp.asarray(x))
    squares = beta * ((x**2).sum(-1) - (x**2).sum(-1).max()) / 2
    expected = squares - np.log(np.exp(squares).sum())
    np.testing.assert_allclose(
        log_weights, expected, rtol=precision, atol=beta * 8 * (precision > 1e-9)
    )


@pytest.mark.parametrize("beta", [1e-8, 1e-4, 1.0, 1e4, 1e8, 1e20])
@pytest.mark.parametrize("shape", [(2, 1), (5, 3)])
def test_energy_has_its_digits_at_any_beta(beta, shape, rng, precision):
    """Against fifty digits, on the numbers as JAX rounds them; of one dimension, where products fuse, too."""
    x, xi = (jnp.asarray(rng.normal(2, 1, one)) for one in (shape, shape[1:]))
    beta = jnp.asarray(beta, x.dtype)
    rows, state, b = x.tolist(), xi.tolist(), mpmath.mpf(beta.item())
    with mpmath.workdps(50):
        overlaps = [mpmath.fdot(row, state) for row in rows]
        top = max(overlaps)
        mean_exp = mpmath.fsum(mpmath.exp(b * (one - top)) for one in overlaps) / len(rows)
        squares = max(mpmath.fdot(row, row) for row in rows) + mpmath.fdot(state, state)
        expected = float(squares / 2 - top - mpmath.log(mean_exp) / b)
    energy = jax.value_and_grad(lambda one: hopfield.energy(x, one, beta))
    for value, slope in (energy(xi), jax.jit(energy)(xi), jax.vmap(energy)(xi[None])):
        assert value.item() == pytest.approx(expected, rel=precision)
        retrieved = xi - hopfield.retrieve(x, xi, beta)
        np.testing.assert_allclose(slope.ravel(), retrieved, rtol=precision, atol=precision)


def test_a_large_beta_gives_the_nearest_pattern_and_no_overflow(patterns):
    unit = patterns / np.linalg.norm(patterns, axis=1, keepdims=True)
    found = hopfield.retrieve(unit, unit + 0.01, 1e6)
    np.testing.assert_allclose(found, unit, atol=1e-12)
    np.testing.assert_allclose(hopfield.energy(unit, unit, 1e6), np.full(7, 0.0), atol=1e-5)


# Critical temperatures


@pytest.mark.parametrize("num", TABLE)
def test_critical_values(num):
    found = hopfield.critical_betas(num)
    np.testing.assert_allclose(
        (found.appearance, found.equal_energy, found.stability), TABLE[num], atol=5e-4
    )


@pytest.mark.parametrize("num", [3, 10, 1000, 10**6])
def test_appearance_is_the_smallest_beta_of_the_self_consistent_overlap(num):
    s = 1 - np.geomspace(1e-6, 0.999, 200_001)
    beta = -(np.log1p(-s) - np.log1p((num - 1) * s)) / s
    assert hopfield.critical_betas(num).appearance == pytest.approx(beta.min(), rel=1e-7)


@pytest.mark.parametrize("num", [2, 3, 10, 1000])
def test_overlaps_solve_the_potts_equation(num):
    critical = hopfield.critical_betas(num)
    assert hopfield.potts_overlaps(num, 0.999 * critical.appearance) is None
    for beta in (1.001 * critical.appearance, 1.5 * critical.appearance):
        for s in hopfield.potts_overlaps(num, beta):
            e = np.exp(-beta * s)
            assert s == pytest.approx((1 - e) / (1 + (num - 1) * e), abs=1e-10)


@pytest.mark.parametrize("num", [3, 10, 10**6])
def test_energies_are_equal_at_the_first_order_transition(num):
    beta = hopfield.critical_betas(num).equal_energy
    pattern, saddle = hopfield.potts_overlaps(num, beta)
    assert pattern == pytest.approx((num - 2) / (num - 1), rel=1e-9)
    assert hopfield.potts_energy(num, pattern, beta) == pytest.approx(0, abs=1e-9)
    assert hopfield.potts_energy(num, saddle, beta) > 0


@pytest.mark.parametrize("num", [2, 3, 10, 10**6])
@pytest.mark.parametrize("s", [-1.0, -1e-6, 1e-10, 1e-6, 0.09, 0.11, 1.0])
def test_the_potts_energy_has_its_digits(num, s):
    """Where the symmetric state turns, F is of third order in s, of two equal patterns of fourth."""
    betas = [1e-8, 1.0, 2.0, 10.0]
    with mpmath.workdps(80):
        expected = []
        for b in map(mpmath.mpf, betas):
            mean_exp = (mpmath.exp(b * s) + num - 1) / num
            square = b * mpmath.mpf(s) ** 2 * (num - 1) / (2 * num)
            expected.append(float(square + b * s / num - mpmath.log(mean_exp)))
    np.testing.assert_allclose(hopfield.potts_energy(num, s, betas), expected, rtol=1e-11)


def test_the_potts_energy_is_the_energy():
    num, beta_eff, s = 5, 3.0, np.linspace(0, 1, 4)
    x = hopfield.equidistant_patterns(num, cosine=0.3)
    beta = float(hopfield.beta_from_effective(x, beta_eff))
    assert beta == pytest.approx(beta_eff / (1 - 0.3))
    mean = x.mean(0)
    path = mean + s[:, None] * (x[0] - mean)
    energy = beta * (hopfield.energy(x, path, beta) - hopfield.energy(x, mean, beta))
    np.testing.assert_allclose(energy, hopfield.potts_energy(num, s, beta_eff), atol=1e-12)


def test_many_patterns_reach_the_entropic_edge():
    """Equal energy is at 2 log N, the edge of the random-energy model; stability is far beyond."""
    for num in (1e6, 1e30, 1e300):
        found = hopfield.critical_betas(num)
        assert found.appearance < found.equal_energy < found.stability == num
        assert found.equal_energy == pytest.approx(2 * np.log(num), rel=1e-5)
        beta = 2 * np.log(num)
        assert hopfield.potts_overlaps(num, beta)[0] == pytest.approx(1, abs=1e-5)


# Patterns and their axis


@pytest.mark.parametrize(("num", "dim", "cosine"), [(2, 1, -1.0), (5, 4, -0.25), (5, 9, 0.4)])
def test_equidistant_patterns_have_their_gram_matrix(num, dim, cosine):
    x = hopfield.equidistant_patterns(num, dim, cosine)
    np.testing.assert_allclose(x @ x.T, (1 - cosine) * np.eye(num) + cosine, atol=1e-13)
    assert hopfield.mean_squared_distance(x) == pytest.approx(2 * (1 - cosine))


def test_equidistant_patterns_are_the_same_on_every_processor():
    """Three unit vectors of the plane by hand; a basis of a solver depends on its processor."""
    expected = [[np.sqrt(3) / 2, 0.5], [-np.sqrt(3) / 2, 0.5], [0.0, -1.0]]
    np.testing.assert_allclose(hopfield.equidistant_patterns(3, 2, -0.5), expected, atol=1e-15)


def test_beta_eff_is_the_signal_to_noise_ratio_of_equidistant_classes():
    x, alpha, sigma = 3 * hopfield.equidistant_patterns(4), 0.6, 0.7
    beta = (alpha / sigma) ** 2
    distance = np.linalg.norm(x[0] - x[1])
    s = alpha**2 * distance**2 / (2 * sigma**2)
    assert hopfield.effective_beta(x, beta) == pytest.approx(s)
    assert hopfield.beta_from_effective(x, s) == pytest.approx(beta)


# The same axis with the entropy


def test_equidistant_transitions_are_read_off_the_integral():
    num = 3
    found = hopfield.equidistant_transitions(num)
    predicted = hopfield.critical_betas(num)
    assert float(found.spectral.value) == predicted.stability == num
    half, left = (float(point.value) for point in (found.half_entropy, found.collapse))
    np.testing.assert_allclose(
        equidistant_entropy(num, np.array([half, left])),
        np.log(num) * np.array([0.5, 0.01]),
        rtol=1e-4,
    )
    assert half < float(found.peak.value) < left


def test_equidistant_patterns_are_equidistant_classes():
    ideal = hopfield.equidistant_transitions(3)
    actual = hopfield.pattern_transitions(2 * hopfield.equidistant_patterns(3, cosine=0.1))
    for name in ("spectral", "half_entropy", "peak", "collapse"):
        one, other = (float(getattr(found, name).value) for found in (ideal, actual))
        assert one == pytest.approx(other, rel=1e-6)


# Errors and pictures


def test_errors_say_what_came(patterns):
    for call, says in (
        (lambda: hopfield.critical_betas(1), "at least 2; got 1"),
        (lambda: hopfield.critical_betas(2.5), "whole number"),
        (lambda: hopfield.energy(patterns[0], patterns[0], 1.0), "shape"),
        (lambda: hopfield.energy(patterns, patterns[:, :2], 1.0), "as the patterns"),
        (lambda: hopfield.energy(patterns, patterns[0], -1.0), "`beta` must be positive"),
        (lambda: hopfield.energy(patterns * np.inf, patterns[0], 1.0), "finite"),
        (lambda: hopfield.energy(patterns, patterns[0], 1e-310), "at least 2.23e-308"),
        (
            lambda: hopfield.retrieve(np.float32(patterns), patterns[0], 1e39),
            "finite in .* float32",
        ),
        (lambda: hopfield.retrieve(patterns, patterns[0], 1.0, -1), "got -1"),
        (lambda: hopfield.equidistant_patterns(5, 3), "dimension of at least 5; got 3"),
        (lambda: hopfield.equidistant_patterns(5, 9, 1.0), "`cosine`"),
        (lambda: hopfield.Network(np.ones((3, 2))), "all be the same"),
        (lambda: hopfield.pattern_transitions(np.full((3, 2), 0.1)), "all be the same"),
        (lambda: hopfield.Network(patterns).pattern(7), "got 7"),
        (lambda: hopfield.potts_overlaps(3, -1.0), "positive"),
        (lambda: hopfield.digit_patterns(10**6), "1797"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_the_picture_shows_the_measured_branches():
    found = hopfield.Network(hopfield.equidistant_patterns(5)).pattern(0)
    critical = hopfield.critical_betas(5)
    (axes,) = plotting.plot_bifurcations([found], critical, 6.5).axes
    drawn = np.concatenate([line.get_ydata() for line in axes.lines])
    assert set(found.branch.overlap) <= set(drawn)
    marks = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    marks = sorted(float(x[0]) for x in marks if len(x))
    np.testing.assert_allclose(marks, TABLE[5], atol=1e-3)
