"""Estimators along noise: path integrals, tracking, ELBO differences, clones, against the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmm_speciation import families
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimators import problem_of
from gmm_speciation.estimators.model import ExactDenoisers
from gmm_speciation.estimators.path_integral import posterior_rates, sampled_class_rates
from gmm_speciation.estimators.paths import in_batches, path_levels
from gmm_speciation.estimators.registry import ESTIMATORS
from gmm_speciation.estimators.tracking import track
from gmm_speciation.exact import binary_entropy, binary_mmse, clone_agreement
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import OrnsteinUhlenbeck

PAIR = families.symmetric_pair(16)
CLASSES = Partition.trivial(2)


def level_of_kappa(kappa, dim=16):
    return float(np.log(kappa / (dim - kappa)))


KAPPAS = np.array([2.0, 1.0, 0.5, 0.2])
GRID = [level_of_kappa(kappa) for kappa in KAPPAS]


@pytest.mark.parametrize(
    ("name", "slack"),
    [("path-variance", 0.003), ("path-sampled", 0.003), ("tracking-class", 0.01), ("elbo", 0.02)],
)
def test_unbiased_methods_agree_with_the_integral(name, slack):
    problem = problem_of(PAIR, GRID, 1024, seed=5)
    found = ESTIMATORS[name]().curve(problem)
    error = np.abs(np.asarray(found.entropy.value) - np.asarray(binary_entropy(KAPPAS)))
    assert found.has_interval
    assert np.all(error <= 4.5 * np.asarray(found.entropy.stderr) + slack)
    if found.rate is not None:
        # dkappa / dlambda = kappa (1 - kappa / d) where kappa = d alpha^2.
        exact = np.asarray(binary_mmse(KAPPAS)) / 2 * KAPPAS * (1 - KAPPAS / 16)
        bound = 4.5 * np.asarray(found.rate.stderr)
        assert np.all(np.abs(np.asarray(found.rate.value) - exact) <= bound)


def test_a_sampled_class_spreads_several_times_as_much_as_the_posterior_variance():
    """Two unbiased forms of one rate: the sampled class has 2.5 to 4 times the standard deviation while
    noise hides most of the class."""
    x_0, labels = PAIR.sample(jax.random.key(0), 8192)
    noise = jax.random.normal(jax.random.key(1), x_0.shape)
    levels = jnp.asarray([level_of_kappa(kappa) for kappa in (0.25, 0.5, 0.75)])
    model = ExactDenoisers(PAIR, CLASSES)
    quiet = np.asarray(posterior_rates(PAIR, CLASSES, x_0, noise, levels))
    loud = np.asarray(sampled_class_rates(model, x_0, labels, noise, levels))
    error = np.hypot(quiet.std(1), loud.std(1)) / np.sqrt(8192)
    assert np.all(np.abs(quiet.mean(1) - loud.mean(1)) < 4 * error)
    ratio = loud.std(1) / quiet.std(1)
    assert np.all((ratio > 2.5) & (ratio < 4)), ratio


def tracked_error(read_out, num_steps, num_paths=512):
    """Mean |p - exact| of class 0 where the path ends at kappa = 1, on equal OU steps from T = 5."""
    process = OrnsteinUhlenbeck()
    end = float(process.time(level_of_kappa(1.0)))
    levels = process.log_snr(np.linspace(5.0, end, num_steps + 1))
    x_0, _ = PAIR.sample(jax.random.key(1), num_paths)
    log_prior = jnp.log(jnp.full((2,), 0.5))
    model = ExactDenoisers(PAIR, CLASSES)
    states, x, _ = track(model, x_0, log_prior, levels, jax.random.key(2), read_out, False)
    p = np.asarray(jax.nn.sigmoid(states[-1]) if read_out == "forced" else jnp.exp(states[-1]))
    alpha, sigma = process.alpha(end), process.sigma(end)
    exact = np.asarray(PAIR.perturb(alpha, sigma).posterior(x))
    return float(np.abs(p - exact).mean())


def test_class_against_class_has_a_small_error_at_few_steps():
    assert tracked_error("class", 32) < 0.01


def test_the_ratio_to_the_unconditional_errs_like_the_root_of_the_step():
    """About 0.07 in p at 32 steps; a sixteenth of the step is a quarter of the error."""
    coarse, fine = (tracked_error("ratio", steps) for steps in (32, 512))
    assert 0.05 < coarse < 0.09
    assert 3 < coarse / fine < 5.5


def test_the_forced_prior_is_wrong_for_one_of_two_classes_at_any_number_of_steps():
    """E |2p / (1 + 2p) - p| = 0.13: in continuous time e^l = p / prior = 2 p."""
    assert abs(tracked_error("forced", 32) - 0.13) < 0.02
    assert abs(tracked_error("forced", 512) - 0.13) < 0.02


def test_uniform_weights_are_not_calibrated():
    problem = problem_of(PAIR, GRID[:2], 256, seed=2)
    uniform, true = (
        np.asarray(ESTIMATORS[name]().curve(problem).entropy.value)
        for name in ("elbo-uniform", "elbo")
    )
    exact = np.asarray(binary_entropy(KAPPAS[:2]))
    assert np.all(np.abs(uniform - exact) > 3 * np.abs(true - exact) + 0.05)


def test_bounds_from_clones_hold_and_their_agreement_is_phi():
    problem = problem_of(PAIR, GRID, 4096, seed=3)
    lower = ESTIMATORS["clones-lower"]().curve(problem).entropy
    upper = ESTIMATORS["clones-upper"]().curve(problem).entropy
    # For two classes the lower bound is linear in the agreement.
    expected = 2 * np.log(2) * (1 - np.asarray(clone_agreement(KAPPAS)))
    assert np.all(np.abs(np.asarray(lower.value) - expected) <= 4.5 * np.asarray(lower.stderr))
    exact = np.asarray(binary_entropy(KAPPAS))
    assert np.all(np.asarray(lower.value) - 4 * np.asarray(lower.stderr) <= exact)
    assert np.all(np.asarray(upper.value) + 4 * np.asarray(upper.stderr) >= exact)


def test_bounds_from_clones_hold_for_ten_classes():
    mixture = families.equidistant(10, 12, 3.0)
    problem = problem_of(mixture, [1.0, -1.0, -3.0], 1024, seed=3)
    lower, upper = (
        ESTIMATORS[name]().curve(problem).entropy for name in ("clones-lower", "clones-upper")
    )
    exact = np.asarray(
        entropy_curve(mixture, np.array([1.0, -1.0, -3.0]), num_samples=4096).entropy.value
    )
    assert np.all(np.asarray(lower.value) - 4 * np.asarray(lower.stderr) <= exact)
    assert np.all(np.asarray(upper.value) + 4 * np.asarray(upper.stderr) >= exact)


def test_a_path_passes_the_levels_of_the_problem():
    levels, places = path_levels(np.array([0.4, 0.2, -0.1]), -6.1, steps=3)
    np.testing.assert_allclose(levels[places], [0.4, 0.2, -0.1])
    assert np.all(np.diff(levels) > 0)
    assert levels[0] == -6.1
    far, _ = path_levels(np.array([2.0, 0.0]), -6.0)
    assert np.diff(far).max() < 0.15


@pytest.mark.parametrize(
    "name", ["path-variance", "path-sampled", "tracking-class", "tracking-ratio", "elbo"]
)
@pytest.mark.parametrize("kind", ["means", "covariances"])
def test_levels_may_begin_where_all_is_decided(name, kind):
    """A path that starts beside such levels has missed the information: here H(C|X) is 0."""
    mixture = (
        families.equidistant(3, 8, 8.0)
        if kind == "means"
        else families.equal_means(64, [0.1, 1.0, 10.0])
    )
    found = ESTIMATORS[name]().curve(problem_of(mixture, [20.0, 18.0], 512, seed=2)).entropy
    bound = 4.5 * np.asarray(found.stderr) + 0.05
    assert np.all(np.abs(np.asarray(found.value)) < bound), found


def test_batches_join_along_their_axis():
    x = jnp.arange(10.0)
    found = in_batches(lambda part, index: jnp.stack([part, 2 * part]), (x,), 2**23, axis=1)
    np.testing.assert_array_equal(found, [x, 2 * x])


def test_own_denoisers_are_those_of_the_class():
    mixture = families.equidistant(3, 2, 3.0)
    problem = problem_of(mixture, [0.0, -1.0], 16, partition=[0, 1, 1])
    x, labels = problem.samples(0)
    level, classes = jnp.asarray(0.0), jnp.asarray(labels)
    every = np.asarray(problem.model.classes(x, level))
    own = problem.model.own(x, level, classes)
    np.testing.assert_allclose(own, every[np.arange(16), labels], atol=1e-10)


def test_a_bound_from_clones_that_never_parted_is_not_certain():
    """64 pairs that agree say little about one in a hundred that would not."""
    problem = problem_of(PAIR, [level_of_kappa(12.0), level_of_kappa(10.0)], 64, seed=3)
    upper = ESTIMATORS["clones-upper"]().curve(problem).entropy
    exact = np.asarray(binary_entropy(np.array([12.0, 10.0])))
    assert np.all(np.asarray(upper.stderr) > 0.01)
    assert np.all(np.asarray(upper.value) + 4 * np.asarray(upper.stderr) >= exact)
