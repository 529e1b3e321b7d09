"""Reduced mixtures: the posterior needs a few dimensions only, at every noise level."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import gmm_speciation as gs
from gmm_speciation import exact
from gmm_speciation.entropy import level_statistics
from gmm_speciation.exact.quadrature import standardised_chi_square
from gmm_speciation.reduction import (
    EquidistantReduction,
    RadialReduction,
    SharedReduction,
    as_equidistant,
    reduced_statistics,
)
from gmm_speciation.sampling.monte_carlo import posterior_statistics
from gmm_speciation.sampling.quasi_monte_carlo import sobol_draws

LEVELS = jnp.array([2.0, 0.5, -1.0, -3.0])


def random_mixtures():
    rng = np.random.default_rng(3)
    means = rng.normal(size=(3, 6))
    root = rng.normal(size=(6, 6))
    weights = [0.5, 0.3, 0.2]
    return {
        "isotropic": gs.GaussianMixture.isotropic(means, 0.5, weights),
        "diagonal": gs.GaussianMixture.diagonal(means, [1.0, 1, 2, 2, 0.1, 3], weights),
        "full": gs.GaussianMixture.full(means, root @ root.T / 6, weights),
        "rank-deficient": gs.GaussianMixture.full(
            means, root[:, :2] @ root[:, :2].T + 0.1 * np.eye(6), weights
        ),
        "radial": gs.GaussianMixture.isotropic(
            np.outer([0.0, 1, 3], means[0]), [0.3, 1.0, 2.0], weights
        ),
        "radial, d = 1": gs.GaussianMixture.isotropic(means[:, :1], [0.3, 1.0, 2.0], weights),
        "equal means": gs.GaussianMixture.isotropic(0 * means, [0.3, 1.0, 2.0], weights),
        "more components than dimensions": gs.GaussianMixture.isotropic(means[:, :1], 0.5, weights),
    }


@pytest.mark.parametrize("name", random_mixtures())
@pytest.mark.parametrize("labels", [[0, 0, 1], pytest.param([0, 1, 2], marks=pytest.mark.slow)])
def test_the_integral_over_the_statistic_is_the_average_over_all_dimensions(name, labels):
    mixture = random_mixtures()[name]
    curve = gs.entropy_curve(mixture, LEVELS, partition=labels, method="exact")
    sampled = gs.entropy_curve(
        mixture, LEVELS, partition=labels, method="monte-carlo", num_samples=20000
    )
    for one, other in ((sampled.entropy, curve.entropy), (sampled.rate, curve.rate)):
        assert np.all(np.abs(one.value - other.value) < 5 * np.asarray(one.stderr) + 1e-9)


@pytest.mark.parametrize("name", ["isotropic", "diagonal", "radial"])
def test_rate_is_the_slope_of_the_exact_entropy(name):
    mixture = random_mixtures()[name]
    step = 1e-4
    around = np.concatenate([np.asarray(LEVELS) + step, np.asarray(LEVELS) - step])
    high, low = np.split(gs.class_entropy(mixture, around, method="exact").value, 2)
    slope = (low - high) / (2 * step)
    np.testing.assert_allclose(
        gs.entropy_rate(mixture, LEVELS, method="exact").value, slope, rtol=1e-6, atol=1e-9
    )


def test_statistics_of_the_reduction_are_those_of_the_state():
    # One dimension and equal variances: the statistic is the state itself, draw by draw.
    mixture = gs.GaussianMixture.isotropic([[-3.0], [0.0], [1.5]], 1.0)
    reduced = gs.reduce(mixture)
    normals = jax.random.normal(jax.random.key(0), (50, 1))
    component = jnp.arange(50) % 3
    for level in LEVELS:
        ours = reduced_statistics(reduced, level, normals, jnp.zeros(50), component, [0, 0, 1])
        state = posterior_statistics(mixture, level, normals, component, gs.Partition([0, 0, 1]))
        np.testing.assert_allclose(ours.entropy, state.entropy, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.rate, state.rate, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(ours.agreement, state.agreement, rtol=1e-9)


@pytest.mark.parametrize("name", ["isotropic", "diagonal", "full", "radial", "equal means"])
def test_the_top_eigenvalue_is_that_of_the_dense_covariance(name):
    mixture = random_mixtures()[name]
    dense = np.linalg.eigvalsh(mixture.moments().covariance)[-1]
    assert gs.reduce(mixture).total_top_eigenvalue() == pytest.approx(float(dense), rel=1e-10)


def test_covariances_that_differ_and_are_not_isotropic_have_no_reduction():
    mixture = gs.GaussianMixture.diagonal(np.eye(3), 1 + np.arange(9.0).reshape(3, 3))
    with pytest.raises(gs.NotReducibleError, match="no statistic of fewer"):
        gs.reduce(mixture)
    with pytest.raises(gs.NotReducibleError):
        gs.class_entropy(mixture, 0.0, method="quasi-monte-carlo")
    with pytest.raises(ValueError, match="covariances that differ"):
        gs.class_entropy(mixture, 0.0, method="exact")
    assert gs.entropy_curve(mixture, [0.0, -1.0]).method == "monte-carlo"


@pytest.mark.parametrize(
    "family",
    [
        partial(gs.families.symmetric_pair, 16),
        partial(gs.families.equidistant, 4, 9, 5.0),
        partial(gs.families.equal_means, 64, [0.5, 1.5]),
        lambda **form: gs.families.hierarchy((2, 2), (9.0, 3.0), 12, **form)[0],
    ],
)
def test_families_reduce_to_what_they_build(family):
    full, reduced = family(), family(reduced=True)
    ours = gs.entropy_curve(reduced, LEVELS)
    theirs = gs.entropy_curve(full, LEVELS)
    spread = np.hypot(np.asarray(ours.entropy.stderr), np.asarray(theirs.entropy.stderr))
    assert np.all(np.abs(ours.entropy.value - theirs.entropy.value) < 5 * spread + 1e-10)
    assert ours.method == theirs.method
    assert reduced.dim == full.dim


def test_a_trillion_dimensions_are_as_good_as_a_thousand():
    # The decision SNR of a pair depends on |m|^2 alpha^2 / v alone.
    clock = gs.OrnsteinUhlenbeck()
    for dim in (2**10, 10**12):
        pair = gs.families.symmetric_pair(dim, reduced=True)
        peak = gs.entropy_curve(pair, gs.transition_grid(pair)).on(clock).peak()
        assert float(peak.time.value) - np.log(dim) / 2 == pytest.approx(-0.2055017, abs=2e-4)
    # Equal means: t_S = log(d (Delta v)^2 / 8) / 4 (Achilli et al. 2026), H = H(kappa = 1) there.
    dim = 10**12
    shells = gs.families.equal_means(dim, [0.5, 1.5], reduced=True)
    time = np.log(dim / 8) / 4
    entropy = float(gs.class_entropy(shells, clock.log_snr(time)).value)
    assert entropy == pytest.approx(float(exact.binary_entropy(1.0)), abs=2e-5)


def test_equidistance_is_recognised_and_nothing_else_is():
    found = as_equidistant(gs.reduce(gs.families.equidistant(5, 7, 3.0)))
    assert isinstance(found, EquidistantReduction)
    assert float(found.distance) == pytest.approx(3.0)
    assert as_equidistant(gs.reduce(gs.families.hierarchy((2, 2), (9.0, 3.0), 12)[0])) is None
    unequal = gs.GaussianMixture.isotropic(np.eye(3), 1.0, [0.5, 0.3, 0.2])
    assert as_equidistant(gs.reduce(unequal)) is None


@pytest.mark.parametrize("name", random_mixtures())
def test_both_ends_of_the_noise_range_are_finite(name):
    mixture = random_mixtures()[name]
    ends = jnp.array([jnp.inf, 700.0, -700.0, -jnp.inf])
    for method in ("exact", "quasi-monte-carlo"):
        levels, _ = level_statistics(mixture, ends, method=method)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(levels))


def test_a_million_classes_have_finite_ends_too():
    many = gs.families.equidistant(10**6, 10**9, 8.0, reduced=True)
    ends = gs.class_entropy(many, jnp.array([jnp.inf, -jnp.inf]))
    np.testing.assert_allclose(ends.value, [float(gs.class_entropy(many, 80.0).value), np.log(1e6)])


def test_reduction_and_statistics_are_safe_under_jit_vmap_and_grad():
    rng = np.random.default_rng(0)
    means = jnp.asarray(rng.normal(size=(3, 5)))
    normals = jnp.asarray(rng.normal(size=(64, 2)))
    component = jnp.arange(64) % 3

    def entropy(means, level, variance):
        reduced = gs.reduce(gs.GaussianMixture.isotropic(means, variance))
        assert isinstance(reduced, SharedReduction)
        return reduced_statistics(reduced, level, normals, jnp.zeros(64), component).entropy.mean()

    one = jnp.asarray(1.0)
    slope = jax.jit(jax.grad(entropy, argnums=(0, 1, 2)))(means, -jnp.asarray(0.5), one)
    step = 1e-5
    jitted = jax.jit(entropy)
    for index in ((0, 0), (2, 3)):
        moved = means.at[index].add(step), means.at[index].add(-step)
        numeric = (jitted(moved[0], -0.5 * one, one) - jitted(moved[1], -0.5 * one, one)) / (
            2 * step
        )
        assert float(slope[0][index]) == pytest.approx(float(numeric), abs=1e-6)
    numeric = (jitted(means, -0.5 * one + step, one) - jitted(means, -0.5 * one - step, one)) / 2e-5
    assert float(slope[1]) == pytest.approx(float(numeric), abs=1e-6)
    levels = jax.vmap(lambda level: jitted(means, level, one))(LEVELS)
    np.testing.assert_allclose(levels, [jitted(means, level, one) for level in LEVELS])


def test_equal_singular_values_do_not_spoil_the_gradient():
    # Equidistant means: every eigenvalue of the Gram matrix is the same.
    means = jnp.asarray(np.asarray(gs.families.equidistant(4, 3, 3.0).means))

    def rate(means):
        reduced = gs.reduce(gs.GaussianMixture.isotropic(means, 1.0))
        draws = jax.random.normal(jax.random.key(0), (64, reduced.num_normals))
        component = jnp.arange(64) % 4
        return reduced_statistics(
            reduced, jnp.asarray(0.0), draws, jnp.zeros(64), component
        ).rate.mean()

    assert np.all(np.isfinite(jax.jit(jax.grad(rate))(means)))


@pytest.mark.parametrize("dof", [1, 5, 10**3, 10**12])
def test_radial_nodes_have_mean_zero_and_variance_one(dof):
    line = np.linspace(-13, 13, 601)
    density = np.exp(-(line**2) / 2)
    density /= density.sum()
    u = standardised_chi_square(line, dof)
    assert density @ u == pytest.approx(0, abs=1e-9)
    assert density @ u**2 == pytest.approx(1, rel=1e-9)
    assert density @ u**3 == pytest.approx(np.sqrt(8 / dof), rel=1e-6, abs=1e-9)


def test_quasi_monte_carlo_agrees_with_the_integral_within_its_error():
    mixture = gs.families.equidistant(6, 8, 5.0)
    truth = gs.entropy_curve(mixture, LEVELS)
    assert truth.method == "exact"
    for seed in range(3):
        ours = gs.entropy_curve(
            mixture, LEVELS, method="quasi-monte-carlo", key=jax.random.key(seed)
        )
        low, high = ours.entropy.interval(0.9999)
        assert np.all((low < truth.entropy.value) & (truth.entropy.value < high))
        low, high = ours.rate.interval(0.9999)
        assert np.all((low < truth.rate.value) & (truth.rate.value < high))


@pytest.mark.parametrize(
    "num_classes", [10, *(pytest.param(k, marks=pytest.mark.slow) for k in (3, 6))]
)
def test_quasi_monte_carlo_has_a_tenth_of_the_variance_at_the_half_way_point(num_classes):
    mixture = gs.families.equidistant(num_classes, 16, 6.0)
    half = gs.speciation.half_entropy_point(gs.entropy_curve(mixture, np.linspace(3, -6, 40)))
    level = half.log_snr.value
    errors = {}
    for method in ("quasi-monte-carlo", "monte-carlo"):
        # The mean variance over seeds: one set of 16 scrambles knows it to a third only.
        estimates = [
            gs.class_entropy(
                mixture, level, method=method, num_samples=4096, key=jax.random.key(seed)
            )
            for seed in range(6)
        ]
        errors[method] = np.mean([float(one.stderr) ** 2 for one in estimates])
    assert errors["quasi-monte-carlo"] * 10 < errors["monte-carlo"]


def test_frames_leave_the_law_of_the_draws_alone():
    mixture = gs.reduce(gs.families.equidistant(6, 16, 6.0))
    draws = sobol_draws(mixture, 2**14)
    normals = np.asarray(draws.normals).reshape(-1, mixture.num_normals)
    component = np.asarray(draws.component).reshape(-1)
    for k in range(6):
        own = normals[component == k]
        np.testing.assert_allclose(own.mean(0), 0.0, atol=0.05)
        np.testing.assert_allclose(np.cov(own.T), np.eye(5), atol=0.08)


def test_methods_that_do_not_apply_say_so():
    reduced = gs.families.hierarchy((2, 2, 2), (9.0, 5.0, 3.0), 10, reduced=True)[0]
    with pytest.raises(ValueError, match="d dimensions; a reduced mixture has none"):
        gs.class_entropy(reduced, 0.0, method="monte-carlo")
    wide = gs.families.equidistant(9, 10, 3.0, reduced=True)
    with pytest.raises(ValueError, match="at most 3 variables"):
        gs.class_entropy(wide, 0.0, partition=[0] * 4 + [1] * 5, method="exact")
    huge = gs.families.equidistant(10**5, 10**5, 3.0, reduced=True)
    with pytest.raises(ValueError, match="at most 4096 dimensions"):
        gs.class_entropy(huge, 0.0, method="quasi-monte-carlo")


def test_the_kind_of_reduction_follows_the_covariance():
    kinds = {name: type(gs.reduce(mixture)) for name, mixture in random_mixtures().items()}
    assert kinds["diagonal"] is kinds["full"] is kinds["isotropic"] is SharedReduction
    assert kinds["radial"] is kinds["equal means"] is RadialReduction
    # One Gram matrix a distinct eigenvalue: 1, 2, 0.1 and 3.
    assert gs.reduce(random_mixtures()["diagonal"]).core.shape == (4, 2, 2)


@pytest.mark.parametrize("name", ["isotropic", "diagonal", "radial", "full"])
def test_averages_over_given_data_are_those_of_the_law_that_made_them(name):
    mixture = random_mixtures()[name]
    samples, _ = mixture.sample(jax.random.key(4), 20000)
    ours = gs.entropy_curve(mixture, LEVELS, samples=samples)
    truth = gs.entropy_curve(mixture, LEVELS, method="exact")
    assert ours.method == "monte-carlo"
    for one, other in ((ours.entropy, truth.entropy), (ours.rate, truth.rate)):
        assert np.all(np.abs(one.value - other.value) < 5 * np.asarray(one.stderr))


def test_data_of_another_law_have_another_average():
    mixture = gs.families.symmetric_pair(4)
    middle = np.zeros((64, 4))  # between the classes: undecided at every noise but the smallest
    curve = gs.entropy_curve(mixture, [0.0, -2.0], samples=middle)
    assert np.all(curve.entropy.value > gs.entropy_curve(mixture, [0.0, -2.0]).entropy.value)
    with pytest.raises(ValueError, match="states of dimension 4"):
        gs.entropy_curve(mixture, [0.0, -2.0], samples=np.zeros((64, 3)))
    with pytest.raises(ValueError, match="not its reduction"):
        gs.entropy_curve(gs.reduce(mixture), [0.0, -2.0], samples=middle)


@pytest.mark.parametrize("spread", [1.0, 1e-7], ids=["even", "in crowds far from the centre"])
@pytest.mark.parametrize("variances", [0.3, "each"])
@pytest.mark.parametrize("num_classes", [1100, 3])
def test_more_components_than_a_matrix_of_pairs_is_kept_for(num_classes, variances, spread, rng):
    """Draws of the statistic against scores and densities in dense numpy, by differences."""
    count, dim, level = 1100, 3, -0.4
    crowds = rng.normal(size=(4, dim)) * 3
    means = crowds[rng.integers(4, size=count)] + spread * rng.normal(size=(count, dim))
    variance = np.exp(rng.normal(size=count)) if variances == "each" else np.full(count, variances)
    labels = np.arange(count) % num_classes
    mixture = gs.GaussianMixture.isotropic(means, variance if variances == "each" else variances)
    reduced = gs.reduce(mixture)
    component, normals = rng.integers(count, size=5), rng.normal(size=(5, reduced.num_normals))
    found = reduced.statistics(jnp.asarray(level), gs.Partition(labels))(
        jnp.asarray(normals), jnp.zeros(5), jnp.asarray(component)
    )

    signal, noise = 1 / (1 + np.exp(-level)), 1 / (1 + np.exp(level))  # alpha^2, sigma^2
    wide = signal * variance + noise
    # The statistic is x in the principal axes of the means, here turned back.
    centred, points = means - means.mean(0), np.asarray(reduced.clean_means())
    turn = np.linalg.lstsq(points - points.mean(0), centred, rcond=None)[0]
    np.testing.assert_allclose(turn @ turn.T, np.eye(dim), atol=1e-9)
    centred = (means - means.mean(0)).astype(np.longdouble)
    x = np.sqrt(signal) * centred[component]
    x = x + np.sqrt(wide[component])[:, None] * (normals @ turn)
    steps = x[:, None, :] - np.sqrt(signal) * centred[None]
    log_p = -np.sum(steps**2, -1) / (2 * wide) - dim / 2 * np.log(wide)
    weights = np.exp(log_p - log_p.max(1, keepdims=True))
    posterior = weights / weights.sum(1, keepdims=True)
    scores = -steps / wide[:, None]
    member = labels[None, :] == np.arange(num_classes)[:, None]
    classes = posterior @ member.T
    means_of_scores = np.einsum("nk,ck,nkd->ncd", posterior, member, scores) / classes[..., None]
    whole = np.einsum("nk,nkd->nd", posterior, scores)
    spreads = np.sum(classes * np.sum((means_of_scores - whole[:, None]) ** 2, -1), -1)
    np.testing.assert_allclose(
        found.entropy, special.entr(classes.astype(float)).sum(-1), rtol=1e-7
    )
    np.testing.assert_allclose(found.agreement, np.sum(classes**2, -1).astype(float), rtol=1e-7)
    np.testing.assert_allclose(found.rate, (noise / 2 * spreads).astype(float), rtol=1e-6)


LARGE = """
from pathlib import Path
import numpy as np
import gmm_speciation as gs

rng = np.random.default_rng(0)
means, labels = rng.normal(size=(5000, 20)), rng.integers(10, size=5000)
for variance in (0.3, np.exp(rng.normal(size=5000))):
    mixture = gs.GaussianMixture.isotropic(means, variance)
    for method in ("quasi-monte-carlo", "monte-carlo"):
        gs.class_entropy(mixture, 0.0, partition=labels, method=method, num_samples=64)
    gs.speciation.between_class_eigenvalue(mixture)
# Not `ru_maxrss`, which counts what the process was forked from.
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_grows_with_components_not_with_their_pairs():
    """A matrix of all pairs of 5,000 components is 200 MB, and the program alone 300."""
    # Compiled as a user's program is.
    skipped = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    env = {name: value for name, value in os.environ.items() if name not in skipped}
    command = [sys.executable, "-c", LARGE]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert int(found.stdout) < 600_000
