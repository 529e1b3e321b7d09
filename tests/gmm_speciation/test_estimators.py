"""Estimators of the class entropy: theorems, bounds as bounds, known failures, what they may know."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from gmm_speciation import families
from gmm_speciation.estimators import Access, Kind, problem_of
from gmm_speciation.estimators.base import check_samples
from gmm_speciation.estimators.neighbours import Ross, untied
from gmm_speciation.estimators.pairwise import divergences
from gmm_speciation.estimators.registry import ESTIMATORS, own_estimator
from gmm_speciation.exact import binary_entropy
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition


def level_of_kappa(kappa, dim):
    """Log-SNR at which the unit symmetric pair has this decision SNR: kappa = d e^l / (1 + e^l)."""
    return float(np.log(kappa / (dim - kappa)))


def pair_problem(kappas, dim=16, num_samples=512, seed=0, access=Access.MIXTURE):
    levels = [level_of_kappa(kappa, dim) for kappa in sorted(kappas, reverse=True)]
    return problem_of(families.symmetric_pair(dim), levels, num_samples, seed=seed, access=access)


def on_a_line(num_samples, access=Access.MIXTURE):
    """Two classes at +-2 on a line: kappa = 4 alpha^2, and the entropies there."""
    law = GaussianMixture.isotropic([[2.0], [-2.0]], 1.0)
    problem = problem_of(law, [1.0, 0.0], num_samples, access=access, seed=1)
    return problem, np.asarray(binary_entropy(4 / (1 + np.exp(-problem.log_snr))))


def test_kolchinsky_tracey_brackets_two_classes_at_kappa_one():
    """log 2 + log (1 + e^-2)/2 <= 0.3563 <= log 2 + log (1 + e^-1/2)/2."""
    problem = pair_problem([4.0, 1.0])
    lower, upper = (
        float(ESTIMATORS[name]().curve(problem).entropy.value[1])
        for name in ("kt-lower", "kt-upper")
    )
    np.testing.assert_allclose(
        [lower, upper], np.log([1 + np.exp(-2), 1 + np.exp(-0.5)]), rtol=1e-9
    )
    np.testing.assert_allclose([lower, upper], [0.127, 0.474], atol=5e-4)
    assert lower < 0.3563163602131 < upper


LAWS = {
    "unequal weights": (
        GaussianMixture.isotropic([[2.0, 0.0], [-2.0, 0.0]], 1.0, [0.9, 0.1]),
        None,
    ),
    "classes of several components": (
        families.hierarchy((2, 3), (6.0, 3.0), 3)[0],
        [0, 0, 0, 1, 1, 1],
    ),
    "variances differ": (families.equal_means(6, [0.5, 1.5]), None),
    "diagonal": (
        GaussianMixture.diagonal(
            [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [[1, 2], [0.5, 1], [2.0, 0.3]]
        ),
        [0, 1, 1],
    ),
}
EXACT_BOUNDS = [
    name
    for name, one in ESTIMATORS.items()
    if one.kind is not Kind.ESTIMATE and one.access is Access.MIXTURE
]


@pytest.mark.parametrize(
    "law",
    [
        "variances differ",
        "classes of several components",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("unequal weights", "diagonal")),
    ],
)
def test_bounds_are_bounds(law):
    mixture, partition = LAWS[law]
    problem = problem_of(mixture, [2.0, 0.0, -2.0], 2**13, partition=partition)
    exact = ESTIMATORS["posterior"]().curve(problem).entropy
    for name in EXACT_BOUNDS:
        found = ESTIMATORS[name]().curve(problem).entropy
        slack = 4 * np.hypot(np.asarray(found.stderr), np.asarray(exact.stderr)) + 1e-9
        beyond = np.asarray(found.value) - np.asarray(exact.value)
        if ESTIMATORS[name].kind is Kind.UPPER:
            beyond = -beyond
        assert np.all(beyond <= slack), name


def test_the_closed_form_is_unbiased():
    """Both forms and quasi-Monte Carlo against the integral; the plug-in form spreads more."""
    kappas = [2.0, 1.0, 0.5]
    problem = pair_problem(kappas, num_samples=2048, seed=3)
    exact = np.asarray(binary_entropy(np.array(kappas)))
    spread = {}
    for name in ("posterior", "posterior-plug-in", "qmc"):
        found = ESTIMATORS[name]().curve(problem)
        assert found.has_interval
        spread[name] = np.asarray(found.entropy.stderr)
        assert np.all(np.abs(np.asarray(found.entropy.value) - exact) <= 4.5 * spread[name]), name
    assert np.all(spread["qmc"] < spread["posterior"])
    assert np.all(spread["posterior"] < spread["posterior-plug-in"])


def test_taylor_expansion_of_one_class_and_of_faint_classes():
    """Order 2 is exact to second order in the separation, order 0 is not."""
    problem = pair_problem([0.02, 0.01])
    exact = np.log(2) - np.array([0.02, 0.01]) / 2
    order2 = ESTIMATORS["taylor-2"]().curve(problem).entropy.value
    order0 = ESTIMATORS["taylor-0"]().curve(problem).entropy.value
    assert np.max(np.abs(order2 - exact)) < 5e-4 < np.min(np.abs(order0 - exact))


def test_divergences_agree_between_representations_and_with_the_integral():
    means, variances = np.array([[0.0], [1.5]]), np.array([[1.0], [0.4]])
    laws = [
        GaussianMixture.isotropic(means, variances[:, 0]),
        GaussianMixture.diagonal(means, variances),
        GaussianMixture.full(means, variances[:, :, None]),
    ]
    grid = np.linspace(-15, 15, 20001)
    p, q = (
        np.exp(-((grid - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)
        for m, v in zip(means[:, 0], variances[:, 0], strict=True)
    )
    p, q = np.maximum(p, 1e-300), np.maximum(q, 1e-300)
    kl = integrate.simpson(p * np.log(p / q), x=grid)
    distance = -np.log(integrate.simpson(np.sqrt(p * q), x=grid))
    for law in laws:
        found_kl, found_distance = divergences(law)
        np.testing.assert_allclose(found_kl[0, 1], kl, rtol=1e-6)
        np.testing.assert_allclose(found_distance[0, 1], distance, rtol=1e-6)
    shared = GaussianMixture.full(means, [[0.4]])
    np.testing.assert_allclose(divergences(shared)[0][0, 1], 1.5**2 / 0.8, rtol=1e-9)


def test_nearest_neighbours_fail_in_256_dimensions():
    """Half of log 2 is left, and the estimate says that most of it is: balls of high dimension hold
    points of either class alike."""
    problem = pair_problem([2.0, 1.0], dim=256, num_samples=512)
    found = Ross().curve(problem).entropy.value
    exact = np.asarray(binary_entropy(np.array([2.0, 1.0])))
    assert np.all(found > exact + 0.2)
    assert exact[1] < 0.52 * np.log(2) < 0.8 * np.log(2) < found[1]
    line, exact = on_a_line(2048)
    np.testing.assert_allclose(Ross().curve(line).entropy.value, exact, atol=0.04)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("ksg", 0.05),
        ("kde-loo", 0.04),
        ("lda", 0.02),
        ("qda", 0.02),
        ("em", 0.03),
        ("logistic", 0.04),
        ("knn", 0.04),
        ("trees", 0.06),
    ],
)
def test_sample_methods_agree_in_one_dimension(name, tolerance):
    problem, exact = on_a_line(1024, Access.NOISY)
    found = ESTIMATORS[name]().curve(problem).entropy.value
    np.testing.assert_allclose(found, exact, atol=tolerance)


def test_resubstitution_is_too_sure_of_itself():
    problem = pair_problem([2.0, 1.0], num_samples=256)
    inside = ESTIMATORS["kde"]().curve(problem).entropy.value
    outside = ESTIMATORS["kde-loo"]().curve(problem).entropy.value
    assert np.all(inside < binary_entropy(np.array([2.0, 1.0])))
    assert np.all(inside < outside)


def test_an_estimator_gets_what_it_declares_and_no_more():
    problem = pair_problem([1.0, 0.5], access=Access.NOISY)
    with pytest.raises(ValueError, match=r"asks for scores; declare `Access.SCORES`"):
        problem.model  # noqa: B018
    with pytest.raises(ValueError, match=r"clean samples; declare `Access.CLEAN`"):
        problem.clean()
    scores = pair_problem([1.0, 0.5], access=Access.SCORES)
    assert scores.model.num_classes == 2
    with pytest.raises(ValueError, match=r"declare `Access.MIXTURE`"):
        scores.mixture  # noqa: B018


def test_class_denoisers_of_single_components_are_those_of_the_mixture():
    mixture = families.equidistant(4, 6, 3.0)
    problem = problem_of(mixture, [0.0, -1.0], 8)
    x, _ = problem.samples(0)
    level = jnp.asarray(0.0)
    fast = problem.model.classes(x, level)
    relabelled = problem_of(mixture, [0.0, -1.0], 8, partition=Partition([1, 0, 2, 3]))
    slow = relabelled.model.classes(x, level)
    np.testing.assert_allclose(fast, np.asarray(slow)[:, [1, 0, 2, 3]], atol=1e-10)


def test_samples_are_the_same_for_every_estimator_and_differ_between_levels():
    first, second = pair_problem([1.0, 0.5]), pair_problem([1.0, 0.5])
    second.key("something else")
    np.testing.assert_array_equal(first.samples(1).x, second.samples(1).x)
    assert not np.allclose(first.samples(0).x, first.samples(1).x)


def test_problems_of_one_shape_share_no_draws():
    """Of another name or seed nothing is the same: not the states, not the noise, not the folds."""
    law = families.symmetric_pair(16)

    def made(name, seed=0):
        return problem_of(law, [0.0, -1.0], 64, name=name, seed=seed, access=Access.CLEAN)

    one, again = made("one"), made("one")
    np.testing.assert_array_equal(one.samples(0).x, again.samples(0).x)
    for other in (made("other"), made("one", 1)):
        assert abs(np.corrcoef(np.ravel(one.clean().x), np.ravel(other.clean().x))[0, 1]) < 0.15
        noise, its = (np.ravel(p.noised(0 * p.clean().x, 0, p.key("n"))) for p in (one, other))
        assert abs(np.corrcoef(noise, its)[0, 1]) < 0.15
        assert not np.array_equal(one.folds(one.clean().labels), other.folds(other.clean().labels))


@pytest.mark.parametrize("access", [Access.NOISY, Access.CLEAN])
def test_nothing_is_judged_by_what_it_was_fitted_on(access):
    """Folds part the states, classes are dealt over them, and all noises of a state stay together."""
    law = GaussianMixture.isotropic([[0.0], [100.0]], 1.0, [0.2, 0.8])
    problem = problem_of(
        law, [30.0, 20.0], 90, access=access
    )  # hardly any noise: states are known by value
    x, labels = problem._drawn()
    seen = []
    for fold in (0, 1):
        train, test = problem.split(0, fold)
        assert len(train.x) == len(test.x) == problem.draws * 45
        known, held = (
            np.abs(np.asarray(part.x) - np.asarray(x).T).argmin(1) for part in (train, test)
        )
        assert not set(known) & set(held)
        assert all(np.sum(held == state) == problem.draws for state in set(held))
        np.testing.assert_array_equal(labels[held], test.labels)
        assert abs(np.sum(test.labels == 0) / problem.draws - np.sum(labels == 0) / 2) < 1
        seen += list(set(held))
    assert sorted(seen) == list(range(90))
    assert problem.draws == {Access.NOISY: 1, Access.CLEAN: 4}[access]


@pytest.mark.parametrize(
    ("x", "labels", "says"),
    [
        (np.zeros((1, 2)), [0], "two samples are needed; got 1"),
        (np.zeros((4, 2)), [0, 0, 0, 1], "class 1 has 1 of 4"),
        (np.full((4, 2), np.nan), [0, 0, 1, 1], "must be finite"),
    ],
)
def test_samples_that_do_not_suffice_are_named(x, labels, says):
    with pytest.raises(ValueError, match=says):
        check_samples(x, np.array(labels), 2)


def test_problems_need_samples():
    with pytest.raises(ValueError, match="at least 2; got 1"):
        problem_of(families.symmetric_pair(4), [0.0, -1.0], 1)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere:Thing", "could not be found"),
        ("numpy:nothing", "could not be found"),
        ("numpy:ndarray", "subclass of"),
        ("gmm_speciation.estimators:LevelEstimator", "does not define level"),
        ("numpy", "module:Name"),
    ],
)
def test_a_bad_estimator_of_ones_own_is_named(spec, says):
    with pytest.raises(ValueError, match=says) as caught:
        own_estimator(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_names_its_source(name):
    assert ESTIMATORS[name].title
    assert ESTIMATORS[name].reference


# Tied data


def _cells(mean, step, ends=None):
    """Probabilities of the values of a rounded normal of unit variance; beyond the ends they pile up."""
    number = int(np.ceil((abs(mean) + 9) / step))
    edges = (np.arange(-number, number + 2) - 0.5) * step
    low, high = ends if ends else (edges[0], edges[-1])
    inner = edges[(edges > low) & (edges < high)]
    return np.diff(norm.cdf(np.concatenate([[-np.inf], inner, [np.inf]]) - mean))


def _entropy_of_tables(joint):
    """H(C | X) of probabilities `(C, ...)`, by the sum that defines it."""
    total = np.broadcast_to(joint.sum(0), joint.shape)
    kept = joint > 0
    return float(-np.sum(joint[kept] * np.log(joint[kept] / total[kept])))


@pytest.mark.parametrize("name", ["ross", "ksg"])
@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("step", [0.05, 0.5, 1.0, 2.0])
def test_neighbours_on_rounded_data(name, dim, step, rng):
    """Two classes at -+m, every coordinate rounded; the truth is a sum over the cells."""
    mean = 1.3 / np.sqrt(dim)
    one = [_cells(sign * mean, step) for sign in (-1, 1)]
    size = max(map(len, one))
    tables = [table if dim == 1 else np.outer(table, table) for table in one]
    assert {len(table) for table in one} == {size}
    truth = _entropy_of_tables(np.stack(tables) / 2)
    n = 4000
    labels = np.arange(n) % 2
    x = rng.normal(size=(n, dim)) + mean * (2 * labels - 1)[:, None]
    rounded = np.round(x / step) * step
    level = ESTIMATORS[name]().level
    found = float(level(rounded, labels, np.full(2, 0.5), np.random.default_rng(0)).value)
    again = float(level(rounded, labels, np.full(2, 0.5), np.random.default_rng(0)).value)
    assert found == again
    assert found == pytest.approx(truth, abs=0.03)


@pytest.mark.parametrize("name", ["ross", "ksg"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_neighbours_on_eight_bits(name, dtype, rng):
    """Grey levels 0..255 that saturate at both ends, 1.2 sigma a class, so that thousands coincide."""
    n, scale = 4000, 60.0
    labels = np.arange(n) % 2
    x = np.clip(np.round(127.5 + scale * (rng.normal(size=n) + 1.2 * (2 * labels - 1))), 0, 255)
    edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
    tables = [np.diff(norm.cdf(edges, 127.5 + sign * 1.2 * scale, scale)) for sign in (-1, 1)]
    truth = _entropy_of_tables(np.stack(tables) / 2)
    assert 0.2 < truth < 0.3
    level = ESTIMATORS[name]().level
    found = level(x[:, None].astype(dtype), labels, np.full(2, 0.5), np.random.default_rng(0))
    assert float(found.value) == pytest.approx(truth, abs=0.03)


def test_noise_on_ties_is_below_the_resolution(rng):
    """The tied values come back by rounding; coordinates without ties, and data without any, stay."""
    x = np.column_stack([np.round(rng.normal(size=500), 1), rng.normal(size=500), np.ones(500)])
    moved = untied(x, rng) + x.mean(0)
    np.testing.assert_allclose(moved[:, 1], x[:, 1], rtol=1e-12)
    np.testing.assert_allclose(np.round(moved[:, 0], 1), x[:, 0], atol=1e-12)
    assert len(np.unique(moved[:, 0])) == 500
    np.testing.assert_allclose(untied(x[:, 1:2], rng) + x[:, 1].mean(), x[:, 1:2], rtol=1e-12)


@pytest.mark.parametrize("name", ["ross", "ksg"])
@pytest.mark.parametrize("dim", [1, 3, 12])
def test_copies_of_points_are_refused(name, dim, rng):
    """Drawn with replacement from a density: no noise below a resolution makes a sample of it."""
    labels = np.arange(400) % 2
    x = rng.normal(size=(400, dim))
    drawn = rng.integers(0, 400, 400)
    with pytest.raises(ValueError, match="points repeat others and are not rounded"):
        ESTIMATORS[name]().level(x[drawn], labels[drawn], np.full(2, 0.5), rng)
