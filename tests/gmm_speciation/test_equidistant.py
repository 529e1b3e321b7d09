"""K equidistant classes by nested integrals."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.interpolate import make_interp_spline

from gmm_speciation import exact


def test_two_equidistant_classes_are_the_binary_channel():
    # Distance delta in unit noise: kappa = delta^2 / 4 and s = delta^2 / 2.
    s = [0.0, 1e-9, 1e-6, 0.3, 0.5, 0.999, 1.001, 4.0, 20.0, 30.0, 60.0, 88.0, 100.0, 150.0]
    s = jnp.array([*s, 400.0, 1000.0, 2600.0])  # far into the tail
    agreement = exact.equidistant_agreement(2, s)
    np.testing.assert_allclose(agreement, exact.clone_agreement(s / 2), atol=1e-12)
    entropy, mmse = exact.equidistant_entropy(2, s), exact.equidistant_mmse(2, s)
    np.testing.assert_allclose(entropy, exact.binary_entropy(s / 2), rtol=1e-10)
    np.testing.assert_allclose(mmse, exact.binary_mmse(s / 2) / 2, rtol=1e-10)  # 2 p (1 - p)


@pytest.mark.parametrize("power", [4, 8, 12])
def test_clones_of_many_classes_agree_as_often_as_chance_at_least(power, precision):
    agreement = np.asarray(
        exact.equidistant_agreement(10.0**power, jnp.array([0.0, 1e-8, 0.5, 4.0]))
    )
    assert (agreement >= np.float32(10.0**-power)).all()
    assert agreement[0] == pytest.approx(10.0**-power, abs=3e-7)


def _three_classes(s: float) -> float:
    """H of three means at mutual distance sqrt(2 s) in the plane with unit noise: a dense double sum over the
    plane, posterior by Bayes' rule, small probabilities kept."""
    angle = np.arange(3) * 2 * np.pi / 3
    means = np.sqrt(2 * s / 3) * np.stack([np.cos(angle), np.sin(angle)], -1)
    line = np.arange(-9 - np.sqrt(s), 9 + np.sqrt(s), 0.02)
    x, y = np.meshgrid(line, line, indexing="ij")
    logits = -((x[..., None] - means[:, 0]) ** 2 + (y[..., None] - means[:, 1]) ** 2) / 2
    logits = np.sort(logits, -1)
    rest = np.exp(logits[..., :2] - logits[..., 2:])
    log_total = np.log1p(rest.sum(-1))
    share = rest / (1 + rest.sum(-1, keepdims=True))
    entropy = (1 - share.sum(-1)) * log_total
    entropy += np.sum(share * (log_total[..., None] - (logits[..., :2] - logits[..., 2:])), -1)
    density = np.exp(logits[..., 2] + log_total) / (3 * 2 * np.pi)
    return float(np.sum(density * entropy) * 0.02**2)


@pytest.mark.parametrize("s", [0.4, 8.0, 90.0, 150.0, 400.0])
def test_three_classes_are_an_integral_in_the_plane(s):
    assert float(exact.equidistant_entropy(3, s)) == pytest.approx(_three_classes(s), rel=1e-8)


@pytest.mark.parametrize("num_classes", [10, 10**6, 10**30])
def test_far_out_every_pair_counts_alone(num_classes):
    """H tends to K - 1 times that of two classes: three means tie at the price e^{-s/3}, two at e^{-s/4}."""
    s = 12 * np.log(float(num_classes)) + np.array([200.0, 600.0])
    ratio = exact.equidistant_entropy(num_classes, s) / exact.binary_entropy(s / 2)
    np.testing.assert_allclose(ratio / (float(num_classes) - 1), 1.0, rtol=1e-3)
    ratio = exact.equidistant_mmse(num_classes, s) / (exact.binary_mmse(s / 2) / 2)
    np.testing.assert_allclose(ratio / (float(num_classes) - 1), 1.0, rtol=1e-3)


def test_values_checked_by_other_code():
    found = exact.equidistant_entropy(10, jnp.array([100.0, 120.0]))
    np.testing.assert_allclose(found[0], 2.12445e-11, rtol=3e-6)
    assert 0 < float(found[1]) < 2e-13


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("num_classes", [2, 10, 10**60])
def test_the_curve_falls_and_its_slope_is_its_own(num_classes):
    """From s = 0 to the last number: 0 <= H <= log K, falling, and `int mmse / 2 ds` is what is lost."""
    log_k = np.log(float(num_classes))
    s = 4 * (log_k + 160) * np.linspace(0.0, 1.0, 1501) ** 2
    both = exact.equidistant_entropy, exact.equidistant_mmse
    entropy, mmse = map(np.asarray, jax.jit(lambda s: [one(num_classes, s) for one in both])(s))
    assert entropy[0] == pytest.approx(log_k, rel=1e-12)
    assert np.all(np.diff(entropy) < 0)
    assert np.all(entropy > 0)
    assert np.all((mmse > 0) & (mmse <= 1 + 1e-11))
    lost = np.asarray(make_interp_spline(s, mmse / 2, k=5).antiderivative()(s))
    np.testing.assert_allclose(lost, log_k - entropy, atol=1e-6)


@pytest.mark.parametrize(("num_classes", "s"), [(3, 0.2), (10, 8.0)])
def test_entropy_equals_an_adaptive_double_integral(num_classes, s):
    # mpmath's adaptive tanh-sinh rule in double precision: other nodes, another error.
    quad, exp = mpmath.fp.quad, mpmath.fp.exp
    root = np.sqrt(s)

    def survival(level):
        def rest(z):
            return mpmath.fp.npdf(z) * -np.expm1(-exp(min(level + root * z, 7.0)))

        return 1 - quad(rest, [-9, -3, 3, 9])

    def integrand(level):
        others = survival(level) ** (num_classes - 1)
        return exp(-exp(level)) - survival(level + s) * others

    low = -(s + np.log(num_classes) + 8 * root + 27)
    truth = quad(integrand, list(np.linspace(low, 8 * root + 4, 8))) - s
    assert float(exact.equidistant_entropy(num_classes, s)) == pytest.approx(
        float(truth), abs=1e-10
    )


@pytest.mark.parametrize(
    "num_classes", [2, 10**6, *(pytest.param(k, marks=pytest.mark.slow) for k in (3, 10))]
)
def test_the_slope_is_half_the_error_of_the_one_hot_class(num_classes):
    s = jnp.array([0.1, 0.9, 1.1, 5.0, 12.0, 25.0])
    slope = jax.vmap(jax.grad(lambda x: exact.equidistant_entropy(num_classes, x)))(s)
    np.testing.assert_allclose(slope, -exact.equidistant_mmse(num_classes, s) / 2, rtol=1e-12)
    step = 1e-4
    numeric = (
        exact.equidistant_entropy(num_classes, s + step)
        - exact.equidistant_entropy(num_classes, s - step)
    ) / (2 * step)
    np.testing.assert_allclose(slope, numeric, atol=1e-8)
    start = float(exact.equidistant_mmse(num_classes, 0.0))
    assert start == pytest.approx(1 - 1 / num_classes, abs=1e-12)


def test_the_error_has_its_slope_where_the_inner_grids_meet():
    def mmse(s):
        return exact.equidistant_mmse(10, s)

    s = jnp.array([0.5, 1.0, 30.0])
    numeric = (mmse(s + 1e-3) - mmse(s - 1e-3)) / 2e-3
    np.testing.assert_allclose(jax.vmap(jax.grad(mmse))(s), numeric, rtol=1e-5)
    np.testing.assert_allclose([jax.grad(mmse)(one) for one in s], numeric, rtol=1e-5)
    assert np.isfinite(jax.vmap(jax.grad(mmse))(jnp.array([0.0, 1e4]))).all()


@pytest.mark.parametrize("num_classes", [3, 10, 1000])
def test_narrow_and_wide_inner_grids_meet(num_classes):
    below, above = exact.equidistant_entropy(num_classes, jnp.array([1 - 1e-9, 1 + 1e-9]))
    assert float(below - above) == pytest.approx(
        1e-9 * float(exact.equidistant_mmse(num_classes, 1.0)), abs=1e-12
    )


GOLDEN = {
    4: [1.21036187, 1.05633175, 0.80457497, 0.46752123, 0.15894574, 0.01875801, 0.00027732],
    10: [2.08371891, 1.87867745, 1.51446566, 0.96245397, 0.36965761, 0.04976171, 0.00080722],
    100: [4.358399, 4.1136169, 3.63414689, 2.74796715, 1.41743754, 0.28870187, 0.00709546],
    10**3: [6.65807949, 6.40861285, 5.91090312, 4.92938452, 3.14808749, 0.95368091, 0.04102975],
    10**6: [13.56551088, 13.31551142, 12.81551375, 11.81553733, 9.81674448, 5.94452652, 1.11015335],
}


@pytest.mark.parametrize("num_classes", GOLDEN)
def test_golden_values(num_classes):
    found = exact.equidistant_entropy(num_classes, [0.5, 1, 2, 4, 8, 16, 32])
    np.testing.assert_allclose(found, GOLDEN[num_classes], atol=6e-9)


def test_half_the_entropy_is_left_near_s_equal_log_k():
    for num_classes, ratio in [(10**2, 1.117), (10**6, 1.008), (1e30, 1.0000)]:
        log_k = np.log(num_classes)
        entropy = exact.equidistant_entropy(num_classes, ratio * log_k)
        assert float(entropy) / log_k == pytest.approx(0.5, abs=1e-3)


def test_bad_input_is_a_value_error():
    for function in (
        exact.equidistant_entropy,
        exact.equidistant_mmse,
        exact.equidistant_agreement,
    ):
        for num_classes in (0, 0.5, 2.5, np.nan, np.inf, 10**400):
            says = f"`num_classes` must be a whole number of at least 1; got {num_classes}"
            with pytest.raises(ValueError, match=says):
                function(num_classes, 1.0)
    with pytest.raises(ValueError, match="must not be negative"):
        exact.equidistant_entropy(3, -1.0)
    with pytest.raises(ValueError, match="NaN"):
        exact.equidistant_entropy(3, np.nan)
    assert float(exact.equidistant_entropy(1, 2.0)) == pytest.approx(0, abs=1e-12)
