"""K equidistant classes by nested integrals."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from gmm_speciation import exact

S = np.array([0.5, 1, 2, 4, 8, 16, 32])


def test_two_equidistant_classes_are_the_binary_channel():
    # Distance delta in unit noise: kappa = delta^2 / 4 and s = delta^2 / 2.
    s = jnp.array([0.0, 1e-6, 0.3, 0.999, 1.001, 4.0, 20.0, 60.0, 400.0])
    np.testing.assert_allclose(
        exact.equidistant_entropy(2, s), exact.binary_entropy(s / 2), atol=1e-12
    )
    np.testing.assert_allclose(
        exact.equidistant_agreement(2, s), exact.clone_agreement(s / 2), atol=1e-12
    )


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


@pytest.mark.parametrize("num_classes", [3, 10, 1000])
def test_narrow_and_wide_inner_grids_meet(num_classes):
    below, above = exact.equidistant_entropy(num_classes, jnp.array([1 - 1e-9, 1 + 1e-9]))
    assert float(below - above) == pytest.approx(
        1e-9 * float(exact.equidistant_mmse(num_classes, 1.0)), abs=1e-12
    )


@pytest.mark.parametrize(
    ("num_classes", "entropies"),
    [
        (4, [1.21036187, 1.05633175, 0.80457497, 0.46752123, 0.15894574, 0.01875801, 0.00027732]),
        (10, [2.08371891, 1.87867745, 1.51446566, 0.96245397, 0.36965761, 0.04976171, 0.00080722]),
        (100, [4.358399, 4.1136169, 3.63414689, 2.74796715, 1.41743754, 0.28870187, 0.00709546]),
        (10**3, [6.65807949, 6.40861285, 5.91090312, 4.92938452, 3.14808749, 0.95368091, 0.04102975]),
        (
            10**6,
            [13.56551088, 13.31551142, 12.81551375, 11.81553733, 9.81674448, 5.94452652, 1.11015335],
        ),
    ],
)  # fmt: skip
def test_golden_values(num_classes, entropies):
    np.testing.assert_allclose(exact.equidistant_entropy(num_classes, S), entropies, atol=6e-9)


@pytest.mark.parametrize(("num_classes", "ratio"), [(10**2, 1.117), (10**6, 1.008), (1e30, 1.0000)])
def test_half_the_entropy_is_left_near_s_equal_log_k(num_classes, ratio):
    log_k = np.log(num_classes)
    entropy = exact.equidistant_entropy(num_classes, jnp.asarray(ratio * log_k))
    assert float(entropy) / log_k == pytest.approx(0.5, abs=1e-3)


def test_bad_input_is_a_value_error():
    with pytest.raises(ValueError, match="at least 1"):
        exact.equidistant_entropy(0, 1.0)
    with pytest.raises(ValueError, match="must not be negative"):
        exact.equidistant_entropy(3, -1.0)
    assert float(exact.equidistant_entropy(1, 2.0)) == pytest.approx(0, abs=1e-12)
