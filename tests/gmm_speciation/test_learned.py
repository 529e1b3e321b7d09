"""Small trained networks: one loop, its cache, and what they learn, against the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("flax")

from gmm_speciation import families
from gmm_speciation.benchmark.log_law import (
    FAMILIES,
    POINTS,
    Settings,
    measure,
    measure_log_law,
    predictions,
    read_points,
    slope_of,
)
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators import Access, problem_of
from gmm_speciation.estimators.registry import ESTIMATORS, LEARNED
from gmm_speciation.exact import binary_entropy
from gmm_speciation.learned.classifying import information
from gmm_speciation.learned.data import data_of, noisy_data_of
from gmm_speciation.learned.denoising import train_denoiser
from gmm_speciation.learned.training import Recipe

PAIR = families.symmetric_pair(4)


def data(num_samples=512, seed=0):
    return data_of(*PAIR.sample(jax.random.key(seed), num_samples))


@pytest.fixture(scope="module")
def denoiser():
    return train_denoiser(data(2048), 2, (-6.0, 3.0), seed=0, recipe=Recipe(steps=600))[0]


@pytest.mark.parametrize("log_snr", [-2.0, 0.0])
def test_a_denoiser_learns_the_posterior_means(denoiser, log_snr):
    """Squared distance to the exact D(x|c) is a few percent of the posterior variance."""
    problem = problem_of(PAIR, [log_snr, log_snr - 1], 256)
    x, labels = problem.samples(0)
    level = jnp.asarray(log_snr)
    exact, found = problem.model.classes(x, level), denoiser.classes(x, level)
    assert np.mean((np.asarray(exact) - np.asarray(found)) ** 2) < 0.05
    own = np.asarray(denoiser.own(x, level, jnp.asarray(labels)))
    np.testing.assert_allclose(own, np.asarray(found)[np.arange(256), labels], atol=1e-5)
    overall = np.asarray(problem.model.overall(x, level) - denoiser.overall(x, level))
    assert np.mean(overall**2) < 0.08


def test_training_that_was_stopped_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    recipe = Recipe(steps=150, save_seconds=0.0)

    class StoppedError(Exception):
        pass

    def stop(done, total):
        if done == 100:
            raise StoppedError

    options = {"seed": 3, "width": 8, "recipe": recipe, "cache": tmp_path}
    with pytest.raises(StoppedError):
        train_denoiser(data(), 2, (-4.0, 2.0), progress=stop, **options)
    seen = []
    resumed, _ = train_denoiser(
        data(), 2, (-4.0, 2.0), progress=lambda done, _: seen.append(done), **options
    )
    assert seen == [100, 150]
    straight, _ = train_denoiser(data(), 2, (-4.0, 2.0), **{**options, "cache": None})
    for one, other in zip(
        jax.tree.leaves(resumed.weights), jax.tree.leaves(straight.weights), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    again = []
    train_denoiser(data(), 2, (-4.0, 2.0), progress=lambda done, _: again.append(done), **options)
    assert again == []
    assert len(list(tmp_path.iterdir())) == 1
    train_denoiser(data(seed=1), 2, (-4.0, 2.0), **options)  # other data, other weights
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "name",
    ["learned-tracking", *(pytest.param(k, marks=pytest.mark.slow) for k in ("classifier", "nwj"))],
)
def test_learned_estimators_come_near_in_few_dimensions(name):
    kappas = np.array([1.5, 0.5])
    grid = np.log(kappas / (4 - kappas))
    problem = problem_of(PAIR, grid, 4096, access=Access.CLEAN)
    found = np.asarray(ESTIMATORS[name]().curve(problem).entropy.value)
    np.testing.assert_allclose(found, binary_entropy(kappas), atol=0.06)


def test_every_learned_estimator_sees_samples_only():
    assert len(LEARNED) == 8
    assert {ESTIMATORS[name].access for name in LEARNED} == {Access.NOISY, Access.CLEAN}
    assert ESTIMATORS["minde"].boards() == (Access.CLEAN,)
    assert ESTIMATORS["classifier"].boards() == (Access.NOISY, Access.CLEAN)


def test_critics_with_the_true_ratio_report_the_information():
    """f = log p(c|x) / p(c): InfoNCE and SMILE give I, NWJ does with f + 1; a wrong f gives less."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5, 0.5, 1.0], size=20000)
    labels = (rng.random((20000, 1)) > np.cumsum(p, 1)).sum(1)
    prior = p.mean(0)
    ratio = np.log(p / prior)
    exact = float(np.mean(np.sum(p * ratio, 1)))
    for name, values in (("infonce", ratio), ("nwj", ratio + 1), ("smile", ratio)):
        assert abs(information(values, labels, name).mean() - exact) < 0.02
    for name, values in (("infonce", ratio / 2), ("nwj", ratio / 2 + 1)):
        assert information(values, labels, name).mean() < exact - 0.05


def test_the_order_of_the_rows_does_not_enter():
    """In rows sorted by class, neighbours have no other class to be told from."""
    labels = np.repeat([0, 1], 1000)
    values = 10.0 * np.eye(2)[labels]  # decided: the information is H(C) = log 2
    for name in ("infonce", "nwj", "smile"):
        mixed = np.random.default_rng(1).permutation(len(labels))
        in_order, out_of = (
            information(values[rows], labels[rows], name).mean()
            for rows in (np.arange(len(labels)), mixed)
        )
        assert abs(in_order - out_of) < 0.01
    assert abs(information(values, labels, "infonce").mean() - np.log(2)) < 0.01


@pytest.mark.parametrize("unit", [1e-12, 1e9])
def test_states_are_measured_in_units_of_their_own(unit):
    x = np.random.default_rng(0).standard_normal((2, 50, 3))
    labels = np.zeros((2, 50), int)
    assert float(data_of(unit * x[0], labels[0]).size / unit) == pytest.approx(
        float(data_of(x[0], labels[0]).size), rel=1e-5
    )
    in_units = noisy_data_of(unit * x, labels).x
    np.testing.assert_allclose(in_units, noisy_data_of(x, labels).x, rtol=1e-4, atol=1e-5)


def test_infonce_cannot_report_more_than_the_log_of_its_batch():
    """A thousand classes told apart with certainty: log 1000 = 6.9 nats, of which a batch shows log 256."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(1000), 4))
    certain = 1000.0 * np.eye(1000)[labels]
    found = information(certain, labels, "infonce").mean()
    assert np.log(256) - 0.25 < found <= np.log(256)


def test_a_log_slope_has_students_interval():
    """Five seeds a dimension, of unequal spread: it holds the slope 95 times in 100, where the percentiles
    of a bootstrap over five hold it less often."""
    rng = np.random.default_rng(1)
    dims = np.array([16.0, 64.0, 256.0, 1024.0])
    spread = np.array([0.01, 0.02, 0.02, 0.05])[:, None]
    held = 0
    for _ in range(2000):
        times = 0.5 * np.log(dims)[:, None] + spread * rng.normal(size=(4, 5))
        low, high = slope_of(dims, times).interval()
        held += low < 0.5 < high
    assert 0.935 < held / 2000 < 0.975
    exact = slope_of(dims, 0.25 * np.log(dims)[:, None] + np.zeros((4, 5)))
    assert float(exact.value) == pytest.approx(0.25)


def test_points_of_the_exact_curve_are_those_of_the_theory():
    """dH/dt peaks at t_S - 0.2055017; half of the entropy is left at kappa = 1.0440133."""
    curve = entropy_curve(FAMILIES["separated means"].reduced(256), np.linspace(4, -14, 361))
    points = read_points(curve)
    assert abs(float(points["entropic peak"].value) - (np.log(256) / 2 - 0.2055017)) < 1e-4
    assert abs(float(points["half entropy"].value) - np.log(256 / 1.0440133) / 2) < 1e-4


def test_a_rate_that_grows_to_the_end_of_its_window_has_no_peak():
    """gamma times an error of the network: what rises to the cleanest level is no speciation."""
    curve = entropy_curve(FAMILIES["separated means"].reduced(256), np.linspace(4, -14, 181))
    error = np.where(np.asarray(curve.entropy.value) < 0.2, 1e-3 * np.exp(curve.log_snr + 6), 0.0)
    noisy = EntropyCurve(
        curve.log_snr,
        curve.entropy,
        Estimate.exact(np.asarray(curve.rate.value) + 30 * error),
        curve.prior_entropy,
        "networks",
    )
    points = read_points(noisy)
    assert np.isnan(points["entropic peak"].value)
    assert np.isfinite(points["half entropy"].value)


def test_a_network_that_never_tells_half_has_no_point():
    """In 8 dimensions clean states leave 0.329 nats, half are 0.347; a network of few steps sees less."""
    untrained = Settings(steps=50, samples=64, paths=64)
    found = measure(FAMILIES["equal means"].mixture(8), 0, untrained)
    assert set(found) == set(POINTS)
    assert all(np.isnan(point.value) for point in found.values())


@pytest.mark.parametrize(
    ("family", "dims", "seeds", "says"),
    [
        ("separated means", [4], [0, 1], "two dimensions and two seeds"),
        ("separated means", [16, 64], [0, 0], "A seed that comes twice is measured once"),
        ("separated means", [8, 64, 64], [0, 1], "A dimension that comes twice"),
        ("nope", [8, 16], [0, 1], "nope"),
    ],
)
def test_a_slope_counts_no_measurement_twice(family, dims, seeds, says):
    with pytest.raises(ValueError, match=says):
        measure_log_law(family, dims, seeds)


def test_predictions_of_an_unknown_family_are_refused():
    with pytest.raises(ValueError, match="nope"):
        predictions("nope", [8, 16])


@pytest.mark.slow
def test_a_log_law_of_small_networks(tmp_path):
    """At the settings of the command; fewer steps leave half entropy 0.1 early, 4 dimensions have no peak."""
    half, peak = measure_log_law("separated means", [8, 16], [0, 1], cache=tmp_path)
    assert half.point == "half entropy"
    np.testing.assert_allclose(half.measured.mean(1), half.predicted, atol=0.12)
    assert half.measured.shape == peak.measured.shape == (2, 2)
    assert abs(half.predicted_slope - 0.5) < 0.01
