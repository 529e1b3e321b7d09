"""Every estimator against the closed form, on a mixture that poses as a trained model."""

import jax
import numpy as np
import pytest
from oracle import NUM_CLASSES, draw, equidistant_entropy, ten_classes
from scipy import stats

import gmm_speciation as gs
import model_bridges as mb

SIGMAS = np.geomspace(0.02, 80, 32)
READOUTS = {
    "tracking": mb.tracked_curve,
    "gap": lambda record: mb.gap_curve(record, "bayes"),
    "gap-unconditional": lambda record: mb.gap_curve(record, "unconditional"),
}
# An image's integrated gap scatters by about 1 nat, so a standard error below 0.01 takes 10^4 images.
NUM_IMAGES = 13_000


@pytest.mark.parametrize("kind", ["isotropic"])
def test_every_estimator_follows_the_closed_form_at_all_levels(kind):
    mixture = ten_classes(kind)
    x0, labels = draw(mixture, NUM_IMAGES, seed=11)
    record = mb.track(mb.mixture_denoiser(mixture), x0, labels, sigmas=SIGMAS, max_batch=4096)
    truth = gs.entropy_curve(
        mixture,
        -2 * np.log(SIGMAS),
        method="monte-carlo",
        num_samples=65_536,
        key=jax.random.key(1),
    )
    for name, readout in READOUTS.items():
        curve = readout(record)
        for ours, exact in ((curve.entropy, truth.entropy), (curve.rate, truth.rate)):
            stderr = np.hypot(ours.stderr, exact.stderr)
            deviation = np.abs(np.asarray(ours.value) - np.asarray(exact.value))
            assert np.all(deviation < 0.01 + 4 * stderr), name
        assert np.all(np.asarray(curve.entropy.stderr) < 0.01), name
    cross = mb.cross_entropy(record)
    stderr = np.hypot(cross.stderr, truth.entropy.stderr)
    assert np.all(np.abs(cross.value - np.asarray(truth.entropy.value)) < 0.01 + 4 * stderr)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["isotropic, per class", "full"])
def test_covariances_that_differ_are_followed_as_well(kind):
    test_every_estimator_follows_the_closed_form_at_all_levels(kind)


@pytest.mark.parametrize(("s", "entropy"), [(0.5, 2.08371891), (4, 0.96245397), (16, 0.04976171)])
def test_the_integral_that_judges_coverage(s, entropy):
    assert equidistant_entropy(10, s) == pytest.approx(entropy, abs=1e-7)


NUM_SEEDS, GROUP = 200, 128


@pytest.fixture(scope="module")
def covered():
    """For each estimator, whether the interval covers the truth, by seed and level.

    Every level of every seed is judged on images and noise of its own, 12 disjoint groups a seed, so
    that the 2,400 events are independent and their number is binomial. The truth is an integral, to
    1e-7; what x says at the top level, which no estimator counts, is added back.
    """
    distance, variance = 8.0**0.5, 0.05
    mixture = gs.families.equidistant(NUM_CLASSES, 64, distance, variance)
    # Entropies between 0.5 and 1.7 nats: nearer to the ends the values of single images are too
    # skewed (above 2) for t-intervals of 128 of them.
    judged = np.geomspace(0.75, 1.6, 12)
    sigmas = np.concatenate([judged, np.geomspace(1.6, 60, 10)[1:]])
    ratio = distance**2 / (2 * (variance + sigmas**2))
    truth = np.array([equidistant_entropy(NUM_CLASSES, s) for s in ratio])
    truth += np.log(NUM_CLASSES) - truth[-1]
    hits = {name: np.zeros((NUM_SEEDS, len(judged)), bool) for name in READOUTS}
    for seed in range(NUM_SEEDS):
        x0, labels = draw(mixture, len(judged) * GROUP, seed=1000 + seed)
        record = mb.track(
            mb.mixture_denoiser(mixture), x0, labels, sigmas=sigmas, seed=seed, max_batch=4096
        )
        for j in range(len(judged)):
            part = record.images(slice(j * GROUP, (j + 1) * GROUP))
            for name, readout in READOUTS.items():
                low, high = readout(part).entropy[j].interval(0.95)
                hits[name][seed, j] = low <= truth[j] <= high
    return hits


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("estimator", READOUTS)
def test_intervals_cover_as_often_as_they_say(estimator, covered):
    """95 % t-intervals at 12 levels with 200 seeds: one binomial test of all 2,400."""
    hits = covered[estimator]
    test = stats.binomtest(int(hits.sum()), hits.size, 0.95)
    assert test.pvalue > 0.01, f"{hits.sum()} of {hits.size} intervals cover"
