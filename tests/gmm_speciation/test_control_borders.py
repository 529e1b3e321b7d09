"""Control at its borders: counts in few trials, point masses, far from 0, what is no number of draws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

import gmm_speciation as gs
from gmm_speciation import control
from gmm_speciation.guidance import (
    ClassifierFree,
    DynamicNegative,
    ExactPosterior,
    Feedback,
    Interval,
    NegativePrompt,
    SafeLatent,
    TrackedClasses,
    TrackedRatio,
    Unguided,
    guided_classes,
)
from gmm_speciation.speciation import simulate_cloning

CLOCK = gs.OrnsteinUhlenbeck()
NOISE = gs.VarianceExploding()
PAIR = gs.GaussianMixture.isotropic([[-2.0], [2.0]], 1.0)


@pytest.mark.parametrize("number", [20, 60])
def test_shares_of_few_states_hold_the_truth(number, key):
    """Of states of class 0 a share Phi(2) is nearer to its mean; often all of them are."""
    truth, held, sure = stats.norm.cdf(2.0), 0, 0
    for seed in range(60):
        states = np.random.default_rng(seed).normal(-2.0, size=(number, 1))
        found = control.outcome(PAIR, states, 0, key=jax.random.fold_in(key, seed))
        low, high = (end[0] for end in found.shares.interval())
        held += low <= truth <= high
        sure += found.shares.value[0] == 1
        assert 0 <= low < high <= 1
        for one in (found.precision, found.recall, found.confidence):
            low, high = one.interval()
            assert low < high
    assert sure > 5  # whose spread is 0
    assert held >= 54


def test_intervals_of_precision_and_recall_know_that_their_ends_are_drawn():
    """Draws of the class itself have 0.95 of both; the ends are quantiles of as many draws."""
    means = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.5]])
    law = gs.GaussianMixture.isotropic(means, np.array([0.4, 0.8, 0.3]), [0.2, 0.5, 0.3])
    held = np.zeros(2)
    for seed in range(80):
        states = means[1] + 0.8**0.5 * np.random.default_rng(seed).normal(size=(400, 2))
        found = control.outcome(law, states, 1, key=jax.random.key(seed))
        for place, one in enumerate((found.precision, found.recall)):
            low, high = one.interval()
            held[place] += low <= 0.95 <= high
    assert held.min() >= 71, held  # of 76; 66 to 70 with the ends taken as known


def test_where_hardly_a_path_is_led_astray_intervals_hold_the_cross_entropy():
    """Of class 0 and scale 1 it is that of the class's own states, here of 200,000 of them in numpy."""
    law = gs.families.equidistant(3, 3, distance=5.0, variance=0.5)
    log_snr = np.linspace(-5, 3.6, 24)
    normals = np.random.default_rng(0).normal(size=(200_000, 3))
    means, truth = np.asarray(law.means), []
    for level in log_snr[-4:]:
        alpha, sigma = np.sqrt(1 / (1 + np.exp([-level, level])))
        spread = alpha**2 * 0.5 + sigma**2
        x = alpha * means[0] + spread**0.5 * normals
        logits = -((x[:, None] - alpha * means) ** 2).sum(-1) / (2 * spread)
        truth.append(np.mean(np.logaddexp.reduce(logits, axis=1) - logits[:, 0]))
    held = 0
    for seed in range(40):
        found = control.guided_run(
            law,
            CLOCK,
            np.asarray(CLOCK.time(log_snr)),
            ClassifierFree(0, 1.0),
            0,
            key=jax.random.key(seed),
            num_samples=512,
        ).curve
        low, high = (end[-4:] for end in found.cross_entropy.interval())
        held = held + ((low <= truth) & (truth <= high))
    assert held.min() >= 35, held


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_single_precision_does_not_throw_states_out(strength):
    """`D - strength e^l (D_c - D)`: at log-odds of 16 the difference is all rounding."""
    means = np.array([[3.0, 1.0, 0.7], [-3.0, 0.3, 1.1], [0.0, 4.0, -1.0]])
    times = np.asarray(CLOCK.time(np.linspace(-5, 5, 60)))
    found = []
    for double in (False, True):
        with jax.enable_x64(double):
            law = gs.GaussianMixture.isotropic(means, 0.5)
            kind = DynamicNegative(0, strength, ExactPosterior(law, 0))
            kind = Interval(kind, 0.0, 0.5) if strength == 1 else kind
            key = jax.random.key(0)
            one = control.remove_class(law, CLOCK, times, kind, 0, key=key, num_samples=2000)
            assert one.states.dtype == (np.float64 if double else np.float32)
            assert np.abs(np.asarray(one.states)).max() < 9
            found.append(float(one.distance))
    assert found[0] == pytest.approx(found[1], rel=0.5)


def test_what_is_removed_without_exception_has_an_interval(key):
    law = gs.GaussianMixture.isotropic([[-9.0], [9.0]], 1.0)
    times = np.asarray(CLOCK.time(np.linspace(-9, 6, 30)))
    kind = DynamicNegative(0, 1.0, ExactPosterior(law, 0))
    found = control.remove_class(law, CLOCK, times, kind, 0, key=key, num_samples=40)
    for one in (found.removed_share, found.target_removed_share):
        assert one.value == 0
        # Clopper & Pearson: the rate at which none of 40 comes once in 40.
        np.testing.assert_allclose(one.interval(), [0, 1 - 0.025 ** (1 / 40)])
    assert found.shares.value[0] == 1
    assert found.shares.interval()[0][0] < 0.92


def test_clones_that_all_agree_may_not(key):
    pair = gs.families.symmetric_pair(4, separation=100.0)
    found = simulate_cloning(pair, CLOCK, [3.0], key=key, num_pairs=64, num_steps=10)
    assert found.agreement.value[0] == pytest.approx(1)
    assert found.agreement.half_width()[0] > 1 / 64


LINES = {
    "a point beside a Gaussian": ([3.0, 0.0], [0.0, 1.0], [0.2, 0.8]),
    "a point inside one": ([0.3, 0.0], [0.0, 1.0], [0.5, 0.5]),
    "points alone": ([2.0, -1.0, 5.0], [0.0, 0.0, 0.0], [0.2, 0.5, 0.3]),
    "one point": ([2.0, 2.0], [0.0, 0.0], [0.5, 0.5]),
    "two points and two Gaussians": (
        [-4.0, 0.0, 1.0, 1.5],
        [0.3, 0.0, 0.0, 1e-4],
        [0.3, 0.2, 0.1, 0.4],
    ),
    "far apart": ([0.0, 100.0], [1.0, 1.0], [0.51, 0.49]),
    "further apart, of other widths": ([0.0, 1e4], [1e-6, 1e6], [0.9, 0.1]),
    "a needle inside": ([0.0, 0.0], [1e-12, 1.0], [0.5, 0.5]),
    "one without weight": ([0.0, 50.0, 3.0], [1.0, 1.0, 0.2], [0.6, 0.0, 0.4]),
    "no point": ([-1.0, 1.0], [1e-8, 1.0], [0.4, 0.6]),
}


@pytest.mark.parametrize("name", LINES)
def test_quantiles_with_point_masses(name):
    """The smallest q with `P(X <= q) >= p`, by bisection."""
    means, variances, weights = map(np.array, LINES[name])
    law = gs.GaussianMixture.isotropic(means[:, None], variances, weights)
    p = np.linspace(0, 1, 16)[1:-1] + 1e-3 * (np.pi - 3)  # few: what they reach is not all there is

    def cdf(q):
        with np.errstate(divide="ignore", invalid="ignore"):
            each = stats.norm.cdf((q - means) / np.sqrt(variances))
        return np.where(variances > 0, each, q >= means) @ weights

    expected = [brentq(lambda q, p=p: cdf(q) - p, -2e4, 2e4, xtol=1e-13) for p in p]
    np.testing.assert_allclose(control.quantiles(law, p), expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(control.quantiles(law, list(p)), control.quantiles(law, p))


def test_a_grid_may_end_on_points():
    """Deterministic steps from the noisy quantiles of two points end near the two."""
    law = gs.GaussianMixture.isotropic([[-1.0], [1.0]], 0.0)
    assert control.line_error(law, NOISE, np.array([80.0, 5.0, 1.0, 0.3, 0.1, 0.0])) < 0.1


@pytest.mark.parametrize("shift", [1e3, 1e5])
def test_what_does_not_depend_on_the_place_does_not_lose_digits_by_it(shift):
    """A float32 user's entropies and errors, far from 0 and at it."""
    with jax.enable_x64(False):
        found = []
        for place in (0.0, shift):
            law = gs.GaussianMixture.isotropic([[place - 1.0], [place + 1.0]], 1.0)
            times = control.karras_times(NOISE, 40)
            entropies = control.output_entropies(law, NOISE, times, 0, [1.0, 2.0], num_points=200)
            found.append([*entropies, control.line_error(law, NOISE, times[::8], num_points=200)])
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-6)


TIMES, KEY = control.karras_times(NOISE, 4), jax.random.key(0)
REFUSED = {
    "half a step": (lambda: control.karras_times(NOISE, 2.5), "`num_steps` must be a whole number"),
    "steps in words": (
        lambda: control.karras_times(NOISE, "4"),
        "`num_steps` must be a whole number",
    ),
    "a rho too small": (
        lambda: control.karras_times(NOISE, 4, rho=1e-3),
        r"sigma\^\(1/rho\) of both a number",
    ),
    "no draws": (
        lambda: control.entropic_times(PAIR, NOISE, 4, num_samples=0),
        "`num_samples` must be",
    ),
    "half a step of the state": (
        lambda: control.entropic_times(PAIR, NOISE, 2.5),
        "`num_steps` must be",
    ),
    "no points": (
        lambda: control.line_error(PAIR, NOISE, TIMES, num_points=0),
        "`num_points` must be",
    ),
    "one point": (
        lambda: control.output_entropies(PAIR, NOISE, TIMES, 0, 1.0, num_points=1),
        "`num_points` must be a whole number of at least 32",
    ),
    "no probabilities": (lambda: control.quantiles(PAIR, []), "`probabilities` must be"),
    "no values": (lambda: control.num_modes([]), "`values` must be"),
    "equal values": (lambda: control.num_modes(np.ones(50)), "not all the same"),
    "no number": (lambda: control.num_modes([1.0, np.nan]), "`values` must"),
    "no levels": (lambda: control.line_error(PAIR, NOISE, []), "`times` must be a number or a vec"),
    "no levels of entropies": (
        lambda: control.output_entropies(PAIR, NOISE, [], 0, [1.0]),
        "`times` must be a number or a vector",
    ),
    "two scales at once": (
        lambda: control.confidence_gain(PAIR, NOISE, TIMES, 0, np.array([2.0, 3.0]), key=KEY),
        r"must be numbers; got shape \(2,\)",
    ),
    "two scales of many classes": (
        lambda: guided_classes(3, np.array([1.0, 2.0]), [0.5, 1.0], key=KEY),
        r"must be numbers; got shape \(2,\)",
    ),
    "one path": (
        lambda: control.guided_run(PAIR, NOISE, TIMES, Unguided(), 0, key=KEY, num_samples=1),
        "`num_samples` must be a whole number of at least 2; got 1",
    ),
    "one path of a removal": (
        lambda: control.remove_class(PAIR, NOISE, TIMES, Unguided(), 0, key=KEY, num_samples=1),
        "`num_samples` must be a whole number of at least 2; got 1",
    ),
    **{
        f"class {label!r}": (
            lambda label=label: control.remove_class(
                PAIR, NOISE, TIMES, Unguided(), label, key=KEY
            ),
            f"`label` must be a class, 0 to 1; got {label!r}",
        )
        for label in (0.0, True, "0")
    },
    "an endless start": (
        lambda: simulate_cloning(PAIR, CLOCK, [1.0], key=jax.random.key(0), start_time=np.inf),
        "`start_time` must be finite",
    ),
    "no start": (
        lambda: simulate_cloning(PAIR, CLOCK, [1.0], key=jax.random.key(0), start_time=np.nan),
        "`start_time` must be finite",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_number_of_steps_draws_or_points_is_refused(name, unchecked):
    ask, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        ask()


def test_a_seed_is_no_key(unchecked):
    with pytest.raises(TypeError, match="key"):
        control.entropic_times(PAIR, NOISE, 4, key=3)


def test_modes_of_values_of_any_library():
    values = np.r_[
        np.random.default_rng(0).normal(size=200), 30 + np.random.default_rng(1).normal(size=200)
    ]
    assert control.num_modes(values) == control.num_modes(jnp.asarray(values)) == 2


def test_of_nothing_that_is_left_there_is_no_balance(key):
    """Three states, all of the class that was to go."""
    law = gs.GaussianMixture.isotropic([[-9.0], [9.0]], 1.0, [1 - 1e-12, 1e-12])
    times = np.asarray(CLOCK.time(np.linspace(-9, 6, 12)))
    found = control.remove_class(law, CLOCK, times, Unguided(), 0, key=key, num_samples=3)
    assert found.removed_share.value == 1
    assert np.isnan(found.shares.value).all()
    assert np.isnan(found.balance)


@pytest.mark.filterwarnings("error")
def test_a_label_of_a_numpy_array_is_a_label(unchecked):
    """As of a loop over `np.arange(2)`: every kind and source, the same program as with Python's numbers."""

    def kinds(label, other):
        exact, classes = ExactPosterior(PAIR, label), TrackedClasses(label, PAIR.log_weights)
        return [
            Unguided(label),
            ClassifierFree(label, 3.0, other),
            NegativePrompt(label, 1.0, other),
            SafeLatent(label, 2.0, prompt=other),
            DynamicNegative(label, 0.5, exact, other),
            DynamicNegative(label, 0.5, classes, other),
            DynamicNegative(label, 0.5, TrackedRatio(label, 0.1), other),
            Feedback(label, 0.9, exact, 50.0, 2.0, 0.6, 0.9),
        ]

    for found, expected in zip(kinds(*np.arange(2)), kinds(0, 1), strict=True):
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        assert eqx.tree_equal(found, expected)


def test_paths_that_overflow_are_no_share(key):
    """They counted as paths whose confidence fell, with an interval of a thousandth."""
    with jax.enable_x64(False):
        single = gs.GaussianMixture.isotropic(
            np.float32([[-1.5], [1.0], [3.0]]), np.float32([0.2, 0.4, 0.3]), [0.3, 0.5, 0.2]
        )
        times = control.entropic_times(single, CLOCK, 10)
        with pytest.raises(ValueError, match=r"of 64 paths at scale 1e\+06 end nowhere"):
            control.confidence_gain(single, CLOCK, times, 0, 1e6, key=key, num_samples=64)
