"""Guided sampling against the closed form; a class removed; strong guidance; grids in information."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import control
from gmm_speciation.guidance import (
    ClassifierFree,
    DynamicNegative,
    ExactPosterior,
    NegativePrompt,
    Unguided,
    guided_curve,
)

CLOCK = gs.OrnsteinUhlenbeck()
DIM = 16


def _times(kappa):
    """When unit-variance classes with |m|^2 = DIM have this kappa = alpha^2 DIM."""
    return np.asarray(CLOCK.time(np.log(kappa / DIM) - np.log1p(-kappa / DIM)))


@pytest.mark.slow
def test_guided_sampling_in_many_dimensions_is_the_one_dimensional_equation(key):
    """Cross-entropy, probability and rate along guided trajectories, for two scales; class shares."""
    law = gs.families.symmetric_pair(DIM)
    times = _times(np.geomspace(0.002, 8.0, 300))
    for scale in (1.0, 3.0):
        run = control.guided_run(
            law, CLOCK, times, ClassifierFree(0, scale), 0, key=key, num_samples=2000
        )
        snr = np.exp(run.curve.clock)
        kappa = DIM * snr / (1 + snr)
        truth = guided_curve(scale, kappa)
        for name in ("cross_entropy", "probability"):
            got, want = getattr(run.curve, name), getattr(truth, name)
            assert np.all(np.abs(got.value - want.value) < 5 * got.stderr + 0.01)
        # -dCE/dlambda = (-dCE/dkappa) dkappa/dlambda
        slope = truth.rate.value * kappa / (1 + snr)
        assert np.all(np.abs(run.curve.rate.value - slope) < 5 * run.curve.rate.stderr + 0.01)
        assert run.outcome.shares.value[0] > 0.99
        assert abs(run.outcome.diversity.value - 1) < 0.05  # guidance moves along one of 16 axes


def test_precision_and_recall_of_guided_draws(key):
    """Draws of the class have 0.95 of both; guidance costs recall, and the same in any dimension."""
    found = {}
    for dim, scale in ((6, 1.0), (6, 4.0), (1, 4.0)):
        law = gs.families.symmetric_pair(dim, float(np.sqrt(2.0 / dim)))
        times = np.asarray(CLOCK.time(np.linspace(-8, 6, 121)))
        found[dim, scale] = control.guided_run(
            law, CLOCK, times, ClassifierFree(0, scale), 0, key=key, num_samples=2000
        ).outcome
    plain = found[6, 1.0]
    for metric in (plain.precision, plain.recall):
        assert abs(metric.value - 0.95) < 4 * metric.stderr + 0.005  # the bounds are sampled, too
    guided = found[6, 4.0]
    assert guided.recall.value < plain.recall.value - 0.1
    assert abs(guided.recall.value - found[1, 4.0].recall.value) < 0.05
    assert guided.confidence.value > plain.confidence.value


LAW = gs.GaussianMixture.isotropic(
    [[-3.0, 0.0], [-1.0, 1.5], [1.0, 3.0], [3.0, -1.0]], 0.3, [0.3, 0.3, 0.2, 0.2]
)
TIMES = np.asarray(CLOCK.time(np.linspace(-10, 4.6, 160)))


def test_dynamic_negative_guidance_draws_the_mixture_without_the_class(key):
    removed = control.remove_class(
        LAW, CLOCK, TIMES, DynamicNegative(0, 1.0, ExactPosterior(LAW, 0)), 0, key=key
    )
    shares, error = removed.shares.value, removed.shares.stderr
    assert np.all(np.abs(shares - removed.target_shares) < 4 * error)
    spread = np.hypot(removed.removed_share.stderr, removed.target_removed_share.stderr)
    gap = removed.removed_share.value - removed.target_removed_share.value
    assert abs(gap) < 4 * spread + 2e-3
    # As far from a sample of the target as two samples of the target are from each other.
    assert removed.distance < removed.floor.value + 4 * removed.floor.stderr
    assert removed.balance < 1e-3


def test_negative_prompting_does_not(key):
    """No constant strength comes near: weak ones leave the class, strong ones empty its neighbour."""
    found = [
        control.remove_class(
            LAW, CLOCK, TIMES, NegativePrompt(0, strength), 0, key=key, num_samples=1000
        )
        for strength in (0.1, 0.3, 1.0)
    ]
    assert found[0].removed_share.value > 0.15
    assert found[-1].shares.value[0] < 0.05 < found[-1].target_shares[0]
    assert min(one.distance for one in found) > 4 * found[0].floor.value


def test_where_negative_prompting_fails(key):
    """Path divergence is spent in the middle of the noise; exact dynamic guidance spends none."""
    levels = np.linspace(-6, 8, 8)
    options = {"key": key, "num_samples": 300}
    exact = DynamicNegative(0, 1.0, ExactPosterior(LAW, 0))
    assert control.removal_error(LAW, exact, 0, levels, **options).value.max() < 1e-12
    errors = control.removal_error(LAW, NegativePrompt(0, 1.0), 0, levels, **options).value
    assert 1 < levels[np.argmax(errors)] < 3
    assert errors[0] < 0.01 < 1 < errors.max()


def test_strong_guidance(key):
    """Confidence up on every path (SDE and ODE); entropy of the ODE's output down with the scale."""
    law = gs.families.symmetric_pair(4)
    for method in ("sde", "ode"):
        gain = control.confidence_gain(
            law, CLOCK, TIMES, 0, 3.0, key=key, num_samples=500, method=method
        )
        assert gain.share_raised.value == 1.0
        assert gain.share_raised.interval()[0] == pytest.approx(0.025 ** (1 / 500))
        assert gain.gain.value > 5 * gain.gain.stderr
    line = gs.GaussianMixture.isotropic([[-1.0], [1.0]], 1.0)
    times = np.asarray(CLOCK.time(np.linspace(-9, 10, 300)))
    entropies = control.output_entropies(line, CLOCK, times, 0, [1.0, 2.0, 4.0], num_points=1500)
    ends = gs.sample(
        line,
        CLOCK,
        times,
        key=key,
        start=jnp.array([[0.0], [1.0]]),
        method="ode",
        guidance=ClassifierFree(0, 1.0),
    ).final[:, 0]
    linear = np.log(2 * np.pi * np.e) / 2 + np.log(
        ends[1] - ends[0]
    )  # the steps of one normal class
    np.testing.assert_allclose(entropies[0], linear, atol=1e-9)
    np.testing.assert_allclose(linear, np.log(2 * np.pi * np.e) / 2, atol=2e-4)
    assert np.all(np.diff(entropies) < -0.1)


def test_quantiles_and_distances(key):
    law = gs.GaussianMixture.isotropic([[-8.0], [1.0]], [0.01, 0.5], [0.3, 0.7])
    u = np.array([0.001, 0.2, 0.3, 0.31, 0.9])
    from scipy import stats

    def cdf(q):
        return 0.3 * stats.norm.cdf(q, -8, 0.1) + 0.7 * stats.norm.cdf(q, 1, np.sqrt(0.5))

    np.testing.assert_allclose(cdf(control.quantiles(law, u)), u, atol=1e-9)
    x = jax.random.normal(key, (500, 3))
    assert control.sliced_wasserstein(x, x, key=key) == 0
    shifted = control.sliced_wasserstein(x, x + jnp.asarray([[3.0, 0, 0]]), key=key)
    np.testing.assert_allclose(shifted, 3 / np.sqrt(3), rtol=0.15)
    two = np.r_[
        np.random.default_rng(0).normal(-3, 1, 500), np.random.default_rng(1).normal(3, 1, 500)
    ]
    assert control.num_modes(two) == 2


def test_grids_are_equally_spaced_in_their_entropy():
    toy, (groups, _) = gs.families.paper_toy(0.25)
    process = gs.VarianceExploding()
    karras = control.karras_times(process, 8)
    np.testing.assert_allclose(np.diff(karras ** (1 / 7)), np.diff(karras ** (1 / 7))[0], rtol=1e-6)
    options = {"sigma_min": 0.05, "sigma_max": 60.0}
    by_class = control.entropic_times(toy, process, 8, of="class", partition=groups, **options)
    entropy = gs.class_entropy(toy, -2 * np.log(by_class), partition=groups).value
    np.testing.assert_allclose(np.diff(entropy), np.diff(entropy).mean(), atol=6e-3)
    # One Gaussian: H(x_0|x_sigma) = log(variance of x_0 given x) / 2 + constant.
    line = gs.GaussianMixture.isotropic([[0.0]], 4.0)
    by_state = control.entropic_times(line, process, 8, num_samples=8, **options)
    entropy = np.log(4.0 * by_state**2 / (4.0 + by_state**2)) / 2
    np.testing.assert_allclose(np.diff(entropy), np.diff(entropy).mean(), rtol=2e-2)
    errors = [
        control.line_error(
            toy, process, control.karras_times(process, n, **options), num_points=400
        )
        for n in (8, 32)
    ]
    assert errors[1] < errors[0] / 4


def test_grids_are_equal_in_the_entropy_of_a_state_that_two_gaussians_have(key):
    """`dH/dlambda = -e^lambda mmse / 2` and mmse by quadrature on the line, for draws of any key."""
    mean, variance, x = 1.0, 0.25, np.linspace(-14, 14, 20_001)

    def rate(level):
        sigma = np.exp(-level / 2)
        total = variance + sigma**2
        parts = np.exp(-((x[:, None] - [-mean, mean]) ** 2) / (2 * total))
        posterior = parts[:, 1] / parts.sum(1)
        density = parts.sum(1) / 2 / np.sqrt(2 * np.pi * total)
        shrunk = sigma**2 / total
        mmse = variance * shrunk + 4 * (shrunk * mean) ** 2 * posterior * (1 - posterior)
        return np.exp(level) / 2 * np.trapezoid(density * mmse, x)

    law = gs.GaussianMixture.isotropic([[-mean], [mean]], variance)
    options = {"sigma_min": 0.3, "sigma_max": 3.0, "num_samples": 40_000, "key": key}
    times = control.entropic_times(law, gs.VarianceExploding(), 6, **options)
    levels = -2 * np.log(times)
    gained = [
        np.trapezoid([rate(l) for l in fine], fine)
        for fine in np.linspace(levels[:-1], levels[1:], 40).T
    ]
    np.testing.assert_allclose(gained, np.mean(gained), rtol=6e-3)


def test_draws_of_a_class_are_not_the_noise_of_the_path(key, monkeypatch):
    """In a few long steps a path ends beside its noise; what it is compared with must not."""
    seen, real = {}, control.guided.outcome

    def outcome(noisy, states, label, partition, *, key):
        seen.update(states=np.asarray(states), own=np.asarray(noisy.sample(key, len(states))[0]))
        return real(noisy, states, label, partition, key=key)

    monkeypatch.setattr(control.guided, "outcome", outcome)
    law = gs.GaussianMixture.isotropic([[0.0, 0.0], [0.0, 0.0]], 1.0)
    process = gs.VarianceExploding()
    times = control.karras_times(process, 3, sigma_min=0.5, sigma_max=20.0)
    control.guided_run(law, process, times, Unguided(0), 0, key=key, num_samples=2000)
    for axis in range(2):
        assert abs(np.corrcoef(seen["states"][:, axis], seen["own"][:, axis])[0, 1]) < 0.1


def test_bad_input():
    process = gs.VarianceExploding()
    with pytest.raises(ValueError, match="`sigma_min` < `sigma_max`"):
        control.karras_times(process, 8, sigma_min=1.0, sigma_max=0.1)
    with pytest.raises(ValueError, match="'state' or 'class'"):
        control.entropic_times(LAW, process, 8, of="noise")
    for law, of, groups in (
        (LAW, "class", [0] * LAW.num_components),
        (gs.GaussianMixture.isotropic(np.zeros((2, 2)), 1.0), "class", None),
        (gs.GaussianMixture.isotropic(np.zeros((1, 2)), 0.0), "state", None),
    ):
        with pytest.raises(ValueError, match=f"nothing of the {of} is decided"):
            control.entropic_times(law, process, 8, of=of, partition=groups)
    # In float32 what little is decided there is lost in the entropy itself; in float64 it is even in sigma^2.
    narrow = {"of": "class", "sigma_min": 1e-5, "sigma_max": 1e-3}
    means = np.array([[-1.0], [1.0]])
    single = gs.GaussianMixture.isotropic(jnp.asarray(means, jnp.float32), jnp.float32(1.0))
    for wide in (False, True):
        with (
            jax.enable_x64(wide),
            pytest.raises(ValueError, match=r"nothing of the class is decided.*float64"),
        ):
            control.entropic_times(single, process, 4, **narrow)
    double = gs.GaussianMixture.isotropic(means, 1.0)
    times = control.entropic_times(double, process, 4, **narrow)
    np.testing.assert_allclose(times[1:-1], 1e-3 * np.sqrt([0.75, 0.5, 0.25]), rtol=1e-3)
    # Decided long before the clean end.
    points = gs.GaussianMixture.isotropic(np.array([[1.0, 0.0], [-1.0, 0.0]]), 0.0)
    assert np.all(np.diff(control.entropic_times(points, process, 8)) < 0)
    with pytest.raises(ValueError, match="on the line"):
        control.quantiles(LAW, np.array([0.5]))
    with pytest.raises(ValueError, match="must be a class, 0 to 3; got 4"):
        control.without_class(LAW, 4)


@pytest.mark.parametrize("label", [4, -1])
def test_outcomes_of_no_class_are_refused(label, key, unchecked):
    with pytest.raises(ValueError, match=f"a class, 0 to .; got {label}"):
        control.outcome(LAW, jnp.zeros((8, LAW.dim)), label, key=key)


@pytest.mark.parametrize("u", [[0.9, 0.5, 0.1], [0.0, 0.5], [[0.1, 0.5]], [0.1, np.nan]])
def test_probabilities_out_of_order_are_refused(u, unchecked):
    line = gs.GaussianMixture.isotropic([[-1.0], [1.0]], 0.1)
    with pytest.raises(ValueError, match=r"increase inside \(0, 1\)|a number or a vector|NaN"):
        control.quantiles(line, np.array(u))


@pytest.mark.parametrize("kind", ["diagonal", "full", "low_rank"])
def test_the_spread_of_a_class_is_the_trace_of_its_covariance(kind, rng):
    """Two of three components are the class; against dense numpy."""
    means, scales = rng.normal(size=(3, 4)), np.exp(rng.normal(size=(3, 4)))
    factors = rng.normal(size=(3, 4, 2))
    dense = np.stack([np.diag(one) for one in scales])
    if kind == "diagonal":
        mixture = gs.GaussianMixture.diagonal(means, scales, [0.2, 0.3, 0.5])
    elif kind == "full":
        mixture = gs.GaussianMixture.full(means, dense, [0.2, 0.3, 0.5])
    else:
        dense = factors @ factors.swapaxes(1, 2) + 0.5 * np.eye(4)
        mixture = gs.GaussianMixture.low_rank(means, factors, 0.5, [0.2, 0.3, 0.5])
    weights = np.array([0.4, 0.6])
    apart = means[:2] - weights @ means[:2]
    trace = weights @ (np.trace(dense[:2], axis1=1, axis2=2) + np.sum(apart**2, -1))
    states = rng.normal(size=(6, 4))
    spread = gs.control.outcome(mixture, states, 0, [0, 0, 1], key=jax.random.key(0)).diversity
    np.testing.assert_allclose(spread.value, states.var(0, ddof=1).sum() / trace, rtol=1e-9)


TWO = gs.GaussianMixture.isotropic([[-1.0], [1.0]], 0.1, [1.0, 0.0])
SHORT = [3.0, 1.0, 0.1]
WEIGHTLESS = {  # class 1 has weight 0: nothing is left without class 0
    "without": lambda key: control.without_class(TWO, 0),
    "error": lambda key: control.removal_error(TWO, NegativePrompt(0, 1.0), 0, [0.0], key=key),
    "removal": lambda key: control.remove_class(
        TWO, CLOCK, SHORT, NegativePrompt(0, 1.0), 0, key=key
    ),
    "outcome": lambda key: control.outcome(TWO, np.zeros((5, 1)), 1, key=key),
    "run": lambda key: control.guided_run(TWO, CLOCK, SHORT, ClassifierFree(1, 2.0), 1, key=key),
    "gain": lambda key: control.confidence_gain(TWO, CLOCK, SHORT, 1, 2.0, key=key),
    "entropies": lambda key: control.output_entropies(TWO, CLOCK, SHORT, 1, [2.0]),
}


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_a_law_of_no_weight_is_refused(name, key):
    with pytest.raises(ValueError, match=r"class [01] has weight 0|Class 1 has weight 0"):
        WEIGHTLESS[name](key)


def test_a_class_of_no_weight_beside_those_kept_changes_nothing(key):
    three = gs.GaussianMixture.isotropic([[-1.0], [1.0], [9.0]], 0.1, [0.5, 0.5, 0.0])
    removed = control.remove_class(
        three, CLOCK, SHORT, NegativePrompt(0, 1.0), 0, key=key, num_samples=64
    )
    np.testing.assert_array_equal(removed.target_shares, [1.0, 0.0])
    assert removed.balance == 0


def test_the_diversity_of_a_point_is_not_defined(key):
    points = gs.GaussianMixture.isotropic([[-1.0], [1.0]], 0.0)
    beside = control.outcome(points, np.linspace(-1.2, -0.8, 5)[:, None], 0, key=key)
    seen = control.outcome(points, np.full((5, 1), -1.0), 0, key=key)
    assert np.isnan(beside.diversity.value)
    assert np.isnan(seen.diversity.value)
    assert "diversity: not defined" in repr(seen)
    assert seen.precision.value == seen.recall.value == seen.confidence.value == 1


@pytest.mark.parametrize("label", [2, -1, 0.5])
def test_entropies_of_no_class_are_refused(label, unchecked):
    with pytest.raises(ValueError, match=f"a class, 0 to 1; got {label}"):
        control.output_entropies(TWO, CLOCK, SHORT, label, [2.0])


def test_classes_that_are_none_and_no_direction_are_refused(key):
    process, flat = gs.VarianceExploding(), np.zeros((3, 2))
    with pytest.raises(ValueError, match="Class 2 is empty, class 7 is not"):
        control.entropic_times(LAW, process, 8, of="state", partition=[0, 0, 1, 7])
    with pytest.raises(ValueError, match="each of the 4 components or classes; got labels of 3"):
        control.entropic_times(LAW, process, 8, of="state", partition=[0, 0, 1])
    with pytest.raises(
        ValueError, match="`num_directions` must be a whole number of at least 1; got 0"
    ):
        control.sliced_wasserstein(flat, flat, key=key, num_directions=0)
