"""Classes left out of tracking, on a mixture of 200 classes whose entropy is known."""

import functools

import jax
import numpy as np
import pytest
import torch

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.denoisers.base import class_raw
from model_bridges.entropy.measure import measure
from model_bridges.entropy.problem import problem
from model_bridges.entropy.report import elimination_rows, entropy_record
from model_bridges.tracking.elimination import elimination_interval, moved_on
from model_bridges.tracking.readouts import chain_entropy, tracked_curve

NUM_CLASSES, DIM, NUM_IMAGES = 200, 16, 96
SIGMAS = np.geomspace(0.05, 40, 36)
GROUPS = gs.Partition([k % 4 for k in range(NUM_CLASSES)])


@pytest.fixture(scope="module")
def mixture():
    means = 2.0 * np.random.default_rng(4).standard_normal((NUM_CLASSES, DIM))
    return gs.GaussianMixture.isotropic(means, 0.3)


@pytest.fixture(scope="module")
def tracked(mixture):
    x, labels = mixture.sample(jax.random.key(7), NUM_IMAGES)
    images, classes = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(labels))

    @functools.cache
    def run(drop_below):
        return mb.track(
            mb.mixture_denoiser(mixture),
            images,
            classes,
            sigmas=SIGMAS,
            partitions={"groups": GROUPS},
            max_batch=NUM_CLASSES * NUM_IMAGES,
            drop_below=drop_below,
        )

    return run


@pytest.mark.parametrize("bound", [1e-5, 1e-3])
@pytest.mark.parametrize("partition", [None, "groups"])
def test_the_interval_holds_what_all_classes_say_and_the_truth(mixture, tracked, bound, partition):
    """Of the same paths with all classes; and the closed form, within the error of the images."""
    full, cut = tracked(0.0), tracked(bound)
    found = elimination_interval(cut, partition)
    whole = tracked_curve(full, partition).entropy
    assert np.all(found.lower.value <= whole.value + 1e-9)
    assert np.all(whole.value <= found.upper.value + 1e-9)
    exact = gs.entropy_curve(
        mixture,
        cut.log_snr,
        partition=cut.partition(partition),
        num_samples=4096,
        key=jax.random.key(2),
    ).entropy
    slack = 4 * np.hypot(found.lower.stderr, exact.stderr) + 0.02  # 0.02: the step of 36 levels
    assert np.all(found.lower.value <= exact.value + slack)
    assert np.all(exact.value <= found.upper.value + slack)
    share = cut.evaluations / full.evaluations
    assert share < {1e-5: 0.55, 1e-3: 0.45}[bound]
    assert float(np.max(found.upper.value - found.lower.value)) < {1e-5: 0.05, 1e-3: 1.5}[bound]


def test_a_calibrated_posterior_leaves_out_its_own_class_as_often_as_it_says(tracked):
    """The martingale: with a bound so large that it happens."""
    found = elimination_interval(tracked(0.004))
    error = np.hypot(found.dropped.stderr, found.true_dropped.stderr)
    assert float(found.dropped.value[0]) > 0.03
    assert np.all(np.abs(found.dropped.value - found.true_dropped.value) < 4 * error + 1e-9)


def test_nothing_left_out_is_the_pass_as_it_was(tracked):
    """A bound that no posterior falls below until it is 0: the numbers of all classes."""
    full, cut = tracked(0.0), tracked(1e-200)
    assert full.kept is None
    np.testing.assert_allclose(
        chain_entropy(cut.fine, GROUPS), chain_entropy(full.fine, GROUPS), atol=1e-9
    )
    np.testing.assert_allclose(cut.bayes_gap, full.bayes_gap, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(cut.label_error, full.label_error)
    found = elimination_interval(full)
    np.testing.assert_allclose(found.lower.value, found.upper.value)
    assert not found.dropped.value.any()


def test_posteriors_stay_normalised_and_those_left_out_stay_where_they_were(tracked):
    cut = tracked(1e-3)
    np.testing.assert_allclose(np.exp(cut.log_posterior).sum(-1), 1, rtol=1e-12)
    out = ~cut.kept[1:] & ~cut.kept[:-1]  # at two neighbouring levels
    np.testing.assert_array_equal(cut.log_posterior[:-1][out], cut.log_posterior[1:][out])
    assert (cut.kept[:-1] <= cut.kept[1:]).all()  # none comes back towards small noise
    assert cut.kept[0].sum(-1).min() >= 1
    # Every pair that was evaluated, own classes included, and nothing else.
    own = np.take_along_axis(cut.kept, cut.labels[None, :, None], 2)[..., 0]
    assert cut.evaluations == cut.kept.sum() + (~own).sum() + cut.kept[..., 0].size


def test_classes_not_wanted_are_zero_and_cost_nothing():
    mixture = gs.families.equidistant(5, 6, 3.0)
    counted = mb.study_denoiser(mb.mixture_denoiser(mixture), "mixture").denoiser
    x = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = torch.rand(7, 5, generator=torch.Generator().manual_seed(1)) < 0.4
    whole = class_raw(counted, x, 1.3)
    before = counted.evaluations
    some = class_raw(counted, x, 1.3, wanted=wanted, max_batch=3)
    assert counted.evaluations - before == int(wanted.sum())
    torch.testing.assert_close(some, whole * wanted.T[:, :, None])


def test_bayes_rule_moves_candidates_among_themselves():
    """Written out for three classes: the third has 0.2 and keeps it, the others share 0.8."""
    before = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    kept = torch.tensor([[True, True, False]])
    after = moved_on(
        before.log(), torch.tensor([[1.0, 0.0, 50.0]], dtype=torch.float64), kept
    ).exp()
    odds = 0.5 * np.e / 0.3
    expected = [0.8 * odds / (1 + odds), 0.8 / (1 + odds), 0.2]
    np.testing.assert_allclose(after[0], expected, rtol=1e-12)


def test_a_measurement_says_what_was_left_out():
    mixture = gs.families.equidistant(20, 24, 3.0, variance=0.25)
    x, labels = mixture.sample(jax.random.key(9), 40)
    given = problem(
        mb.mixture_denoiser(mixture),
        torch.from_numpy(np.array(x)),
        torch.from_numpy(np.array(labels)),
        partitions={"groups": gs.Partition([k % 4 for k in range(20)])},
    )
    with pytest.raises(ValueError, match="need every class to the end"):
        measure(given, ["tracking-ratio"], drop_below=1e-4)
    with pytest.raises(ValueError, match=r"\[0, 0.05\), below equal odds of 20 classes; got 0.1"):
        measure(given, ["tracking"], drop_below=0.1)
    result = measure(given, ["tracking"], drop_below=1e-4)
    found = entropy_record(result)["variables"]["groups"]["elimination"]
    assert np.all(found.lower.value <= found.upper.value)
    # The first level, the decision and the widest interval, which may be one of these.
    width, curve = found.upper.value - found.lower.value, result.variables["groups"].main
    half = abs(curve.entropy.value - np.log(4) / 2).argmin()
    shown = [f"{curve.sigma[level]:.3g}" for level in {0, half, width.argmax()}]
    rows = elimination_rows(result).rows
    assert {row[0] for row in rows} == {"groups"}
    assert sorted(row[1] for row in rows) == sorted(shown)
    # 32 levels of 40 images, and 24 of the pilot's 16, of 20 classes and of all together.
    assert result.evaluations < (0.8 * 40 * 32 + 16 * 24) * 21
