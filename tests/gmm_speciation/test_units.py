"""No unit of length is special: classes as far apart as numbers reach, and refusals beyond.

References are mpmath, and the identity that lengths times c at noise times c are the same decisions.
"""

import numpy as np
import pytest
from mpmath import mp
from theory_contracts import width

import gmm_speciation as gs


def _pair_entropy(kappa):
    """Two equal classes whose log-odds are `N(2 kappa, 4 kappa)`, by mpmath."""
    step = mp.sqrt(kappa)

    def missed(z):
        return mp.npdf(z) * mp.log1p(mp.exp(-2 * step * (step + z)))

    return float(mp.quad(missed, mp.linspace(-12, 12, 13)))


@pytest.mark.parametrize("power", [3, 8, 15, 100, 150])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_classes_however_far_apart_are_decided_where_the_noise_is_as_large(dtype, power):
    """At `alpha s = sigma` the variances of the components are nothing beside the noise."""
    if power > 15 and dtype is np.float32:
        power /= 10
    size = float(10.0**power)
    ratios = np.array([0.3, 1.0, 2.0])
    levels = np.log(ratios) - 2 * np.log(size)
    with width(dtype):
        pair = np.array([[size, 0, 0], [-size, 0, 0]], dtype)
        several = np.concatenate([pair, pair], 1)  # twice the square of the distance
        for mixture in (
            gs.GaussianMixture.isotropic(pair, 1.0),
            gs.GaussianMixture.isotropic(pair, [1.0, 1.5]),
            gs.GaussianMixture.diagonal(several, [1.0, 2, 3, 1, 2, 3]),
            gs.families.symmetric_pair(4, size / 2),
            gs.families.equidistant(2, 3, 2 * size, reduced=True),
        ):
            kappa = ratios * (2 if mixture.dim == 6 else 1)
            wanted = [_pair_entropy(one) for one in kappa]
            found = gs.class_entropy(mixture, levels)
            tolerance = 2e-4 if dtype is np.float32 else 1e-9
            # 1.5 beside 1 at a distance of 10^3, in units of the noise, is worth 10^-6.
            tolerance += 10 * size**-2
            np.testing.assert_allclose(found.value, wanted, atol=tolerance)
            assert np.all(np.asarray(found.stderr) < 1e-3)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e17), (np.float64, 1e152)])
def test_mixtures_whose_squares_overflow_are_refused(dtype, size):
    with width(dtype):
        means = np.array([[size], [-size]], dtype)
        with pytest.raises(ValueError, match="narrower than"):
            gs.GaussianMixture.isotropic(means, 1.0)
        with pytest.raises(ValueError, match="narrower than"):
            gs.families.equidistant(3, 4, size, reduced=True)
        near = gs.GaussianMixture.isotropic(means / 1e2, [1.0, 2.0])
        np.testing.assert_allclose(near.posterior(means / 1e2), np.eye(2))
        assert float(gs.class_entropy(near, 0.0).value) == 0.0
        assert np.isfinite(gs.speciation_times(near).half_entropy.log_snr.value)


MEANS = np.array([[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [1, 1, 2]])
SPREAD = np.array([[1.0, 0.3, 0], [0.3, 0.5, 0], [0, 0, 0.2]])
IN_UNITS = {
    "isotropic": lambda c: gs.GaussianMixture.isotropic(c * MEANS, 0.1 * c**2),
    "isotropic, each": lambda c: gs.GaussianMixture.isotropic(
        c * MEANS, np.array([0.0, 0.3, 0.2, 0.4]) * c**2
    ),
    "diagonal": lambda c: gs.GaussianMixture.diagonal(c * MEANS, np.array([0.1, 0.4, 0.9]) * c**2),
    "diagonal, each": lambda c: gs.GaussianMixture.diagonal(c * MEANS, (MEANS + 0.1) * c**2),
    "full": lambda c: gs.GaussianMixture.full(c * MEANS, SPREAD * c**2),
    "low rank": lambda c: gs.GaussianMixture.low_rank(
        c * MEANS, np.full((3, 1), 0.5 * c), 0.2 * c**2
    ),
    "equal means": lambda c: gs.families.equal_means(64, [0.5 * c**2, 1.5 * c**2], reduced=True),
    "equidistant": lambda c: gs.families.equidistant(4, 5, 3 * c, 0.2 * c**2, reduced=True),
    "tree": lambda c: gs.families.hierarchy((2, 2), (6 * c, 2 * c), 50, 0.2 * c**2, reduced=True)[
        0
    ],
}


@pytest.mark.parametrize("kind", IN_UNITS)
@pytest.mark.parametrize(
    ("dtype", "unit"), [(np.float32, 1e-4), (np.float32, 1e14), (np.float64, 1e140)]
)
def test_entropies_do_not_depend_on_the_unit_of_length(dtype, unit, kind):
    levels = np.array([2.0, 0.0, -2.0])
    with width(dtype):
        one, other = IN_UNITS[kind](1.0), IN_UNITS[kind](unit)
        for value in (gs.class_entropy, gs.entropy_rate):
            found = value(other, levels - 2 * np.log(unit))
            given = value(one, levels)
            # Draws are turned with the mixture: where a method samples, they are others.
            error = 5 * np.hypot(given.stderr, found.stderr)
            error = error + (1e-5 if dtype is np.float32 else 1e-10)
            np.testing.assert_array_less(np.abs(found.value - given.value), error)


@pytest.mark.parametrize("unit", [1e-76, 1e153])
def test_reduced_families_out_of_range_are_refused(unit):
    for kind in ("equal means", "equidistant", "tree"):
        with pytest.raises(ValueError, match="wider than"):
            IN_UNITS[kind](unit)


@pytest.mark.parametrize(("dtype", "unit"), [(np.float32, 1e-11), (np.float64, 1e-80)])
def test_a_unit_too_long_is_refused(dtype, unit):
    means, variance = np.array([[-1.0, 0], [1, 0], [0, 2]]), np.array([0.1, 0.2, 0.3])
    with width(dtype):
        with pytest.raises(ValueError, match="unit of length"):
            gs.GaussianMixture.isotropic(
                (means * unit).astype(dtype), (variance * unit**2).astype(dtype)
            )
        small = 1e-6 if dtype is np.float32 else 1e-60
        mixture = gs.GaussianMixture.isotropic(
            (means * small).astype(dtype), (variance * small**2).astype(dtype)
        )
        x = np.array([[0.3, 0.4]]) * small
        whole = gs.GaussianMixture.isotropic(means, variance).posterior(x / small)
        np.testing.assert_allclose(mixture.posterior(x.astype(dtype)), whole, rtol=1e-4)
