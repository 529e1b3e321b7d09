"""Tracking on data paths, and what is read from its record."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from oracle import draw, ten_classes

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.partitions import Partition
from gmm_speciation.tracking import reverse_kernel
from model_bridges.tracking.forward import forward_paths
from model_bridges.tracking.readouts import chain_entropy, doubts

SIGMAS = np.geomspace(0.02, 80, 24)
PARITY = [0, 1] * 5


@pytest.fixture(scope="module")
def record():
    mixture = ten_classes("isotropic")
    x0, labels = draw(mixture, 200, seed=3)
    denoiser = mb.mixture_denoiser(mixture)
    return mb.track(denoiser, x0, labels, sigmas=SIGMAS, partitions={"parity": PARITY})


def test_a_class_without_weight_has_no_ratio_and_no_warning(recwarn):
    mixture = ten_classes("isotropic")
    x0, _ = draw(mixture, 8, seed=3)
    weights = np.array([0.5, 0.5, *8 * [0.0]])
    options = {"sigmas": SIGMAS, "prior": weights}
    whole = mb.track(mb.mixture_denoiser(mixture), x0, **options)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
    curve = mb.ratio_curve(whole, [0, 1, *8 * [2]])
    np.testing.assert_allclose(curve.entropy.value, mb.ratio_curve(whole).entropy.value)
    assert np.all(np.isfinite(curve.entropy.value))
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


@pytest.mark.parametrize("workers", [1, 4])
def test_the_noise_of_an_image_is_its_own_and_the_same_by_any_number_of_threads(
    workers, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: workers)
    monkeypatch.setattr("model_bridges.tracking.forward.A_THREAD", 1)
    x0, sigmas = torch.randn(9, 2, 3), np.array([0.1, 0.5, 2.0])
    found = forward_paths(x0, sigmas, seed=7, first=3)
    for index, path in enumerate(found.unbind(1)):
        normals = np.random.default_rng([7, 3 + index]).standard_normal((3, 2, 3))
        steps = np.array([0.1, np.sqrt(0.24), np.sqrt(3.75)])[:, None, None]
        expected = x0[index].double().numpy() + np.cumsum(steps * normals, 0)
        np.testing.assert_allclose(path.numpy(), expected, rtol=1e-13)


def test_forward_paths_have_the_stated_law_and_independent_increments():
    x0 = torch.zeros(4000, 2, dtype=torch.float64)
    sigmas = np.array([0.1, 0.5, 2.0])
    path = forward_paths(x0, sigmas, seed=0).numpy()
    np.testing.assert_allclose(path.std(axis=(1, 2)), sigmas, rtol=0.03)
    steps = np.diff(path, axis=0, prepend=0.0).reshape(3, -1)
    np.testing.assert_allclose(np.corrcoef(steps), np.eye(3), atol=0.04)


def test_the_kernel_is_the_law_of_the_path_given_its_origin():
    """With D = x_0 the reverse step has the mean and variance of the Brownian bridge."""
    x0 = torch.full((200_000, 1), 3.0, dtype=torch.float64)
    x_next, x = forward_paths(x0[:20_000], np.array([0.5, 1.0]), seed=1)
    mean, variance = reverse_kernel(x, x0[None, :20_000], 1.0, 0.5)
    residual = (x_next - mean[0]).numpy()
    assert residual.var() == pytest.approx(variance, rel=0.04)
    assert abs(np.corrcoef(residual[:, 0], x.numpy()[:, 0])[0, 1]) < 0.03


def test_chunking_changes_nothing(record):
    mixture = ten_classes("isotropic")
    x0, labels = draw(mixture, 200, seed=3)
    denoiser = mb.mixture_denoiser(mixture)
    for max_batch in (7, 50, 100_000):
        other = mb.track(denoiser, x0[:12], labels[:12], sigmas=SIGMAS[::-1], max_batch=max_batch)
        np.testing.assert_allclose(
            other.log_posterior, record.log_posterior[:, :12], rtol=1e-9, atol=1e-9
        )
        np.testing.assert_allclose(other.bayes_gap, record.bayes_gap[:, :12], rtol=1e-9, atol=1e-12)


def test_another_seed_is_another_noise(record):
    mixture = ten_classes("isotropic")
    x0, labels = draw(mixture, 200, seed=3)
    other = mb.track(mb.mixture_denoiser(mixture), x0[:3], labels[:3], sigmas=SIGMAS, seed=1)
    assert np.abs(other.log_posterior - record.log_posterior[:, :3]).max() > 0.1


def exact_log_posterior(mixture, path, sigmas):
    """`log p(k | x)` along a path, `(L, N, K)`."""
    return np.array(
        [
            gs.log_class_posterior(mixture.perturb(1.0, sigma), jnp.asarray(x.numpy()))
            for sigma, x in zip(sigmas, path, strict=True)
        ]
    )


@pytest.mark.parametrize(("num_levels", "bound"), [(24, 0.004), (93, 0.0025)])
def test_the_tracked_posterior_is_the_exact_one(num_levels, bound):
    """Up to the step, and to the prior from which it starts at sigma_max."""
    mixture, sigmas = ten_classes("isotropic"), np.geomspace(0.02, 80, num_levels)
    x0, _ = draw(mixture, 200, seed=3)
    tracked = mb.track(mb.mixture_denoiser(mixture), x0, sigmas=sigmas).log_posterior
    exact = exact_log_posterior(mixture, forward_paths(x0, sigmas, seed=0), sigmas)
    assert np.abs(np.exp(tracked) - np.exp(exact)).mean(axis=(1, 2)).max() < bound


def test_probabilities_are_normalised_and_start_from_the_prior(record):
    np.testing.assert_allclose(np.exp(record.log_posterior).sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(record.log_posterior[-1], -np.log(10), atol=1e-12)
    assert np.all(np.diff(record.log_snr) < 0)
    assert record.evaluations == 200 * 24 * 11


def test_distances_obey_pythagoras(record):
    """`E|x_0 - D_y|^2 + E gap = E|x_0 - Dbar|^2` for an exact model; the excess vanishes for it."""
    gain = record.bayes_error - record.label_error - record.bayes_gap
    stderr = gain.std(1, ddof=1) / record.num_images**0.5
    assert np.all(np.abs(gain.mean(1)) < 4.5 * stderr + 1e-3)
    assert record.excess.mean() < 0.02 * record.bayes_gap.mean()


def test_a_partition_is_the_sum_of_its_classes(record):
    log_p = record.log_probabilities("parity")
    np.testing.assert_allclose(
        np.exp(log_p[..., 0]), np.exp(record.log_posterior[..., ::2]).sum(-1), atol=1e-12
    )
    assert record.prior_entropy("parity") == pytest.approx(np.log(2))
    # Deciding the parity is part of deciding the class: chain rule of the posterior variance.
    assert np.all(record.group_gap("parity") <= record.bayes_gap + 1e-9)
    coarse, fine = mb.tracked_curve(record, "parity"), mb.tracked_curve(record)
    assert np.all(coarse.entropy.value <= fine.entropy.value + 1e-12)
    np.testing.assert_array_equal(record.group_gap(PARITY), record.group_gap("parity"))


def test_a_pass_over_merged_classes_is_the_partition_read_from_the_single_ones(record):
    mixture = ten_classes("isotropic")
    x0, _ = draw(mixture, 200, seed=3)
    merged = mb.track(mb.mixture_denoiser(mixture, PARITY), x0, sigmas=SIGMAS)
    np.testing.assert_allclose(
        mb.tracked_curve(merged).entropy.value,
        mb.tracked_curve(record, "parity").entropy.value,
        atol=0.03,
    )


def test_no_group_is_surer_than_certain(rng):
    """Nine classes that are all there is: their probabilities add up to one but for rounding."""
    log_p = rng.normal(size=(500, 10)) - np.repeat([0.0, 60.0], [9, 1])
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    found = doubts(log_p, Partition([0] * 9 + [1]))
    assert found["confidence"].max() == 1
    assert found["doubt"].min() >= 0


@pytest.mark.slow
def test_extrapolation_removes_the_first_order_of_the_step():
    """Classes that differ in covariance only, where a coarse step errs most: entropy against truth."""
    rng = np.random.default_rng(1)
    variances = 0.5 / (1 + rng.permuted(np.tile(np.arange(64), (10, 1)), axis=1)) ** 0.5
    mixture = gs.GaussianMixture.diagonal(np.zeros((10, 64)), variances)
    x0, labels = draw(mixture, 600, seed=0)
    sigmas = np.geomspace(0.02, 80, 63)
    record = mb.track(mb.mixture_denoiser(mixture), x0, labels, sigmas=sigmas)
    exact = exact_log_posterior(mixture, forward_paths(x0, sigmas, seed=0), sigmas)
    everyone = record.partition()

    def entropy(chain):
        return chain_entropy(chain, everyone) + (np.exp(exact) * exact).sum(-1)

    def surprise(chain):
        return (exact - chain.log_posterior)[:, np.arange(600), labels.numpy()]

    for error in (entropy, surprise):
        first_order = np.abs(error(record.fine).mean(1)).max()
        remaining = record.extrapolate(error)
        stderr = remaining.std(1, ddof=1) / 600**0.5
        assert first_order > 0.05
        assert np.all(np.abs(remaining.mean(1)) < first_order / 3 + 4 * stderr)
    assert np.abs(mb.step_error(record).value).max() == pytest.approx(0.1, abs=0.03)


def test_unknown_partitions_are_refused(record):
    with pytest.raises(ValueError, match="knows the partitions 'parity'; got 'colour'"):
        mb.tracked_curve(record, "colour")
    with pytest.raises(ValueError, match="Pass it to `track`"):
        mb.tracked_curve(record, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    with pytest.raises(ValueError, match="got labels of 3"):
        mb.tracked_curve(record, [0, 1, 2])


def test_rate_is_the_slope_of_the_entropy(record):
    curve = mb.tracked_curve(record)
    integral, difference = curve.information_budget()
    assert (
        abs(integral.value - difference.value)
        < 4 * np.hypot(integral.stderr, difference.stderr) + 0.03
    )
    assert curve.method == "tracking"


def test_cross_entropy_and_accuracy_see_the_true_class(record):
    ce, h = mb.cross_entropy(record), mb.tracked_curve(record).entropy
    gap = np.asarray(ce.value - h.value)
    assert np.all(np.abs(gap) < 4.5 * np.hypot(ce.stderr, h.stderr) + 0.02)
    hits = mb.accuracy(record).value
    assert hits[0] == 1.0
    assert mb.accuracy(record, "parity").value[0] == 1.0


def test_an_exact_model_is_reliable(record):
    for diagram in (mb.reliability(record), mb.reliability(record, 12, num_bins=5)):
        value, stderr = np.asarray(diagram.frequency.value), np.asarray(diagram.frequency.stderr)
        full = diagram.counts > 50
        assert np.all(np.abs(value - diagram.confidence)[full] < 4.5 * stderr[full] + 0.02)
    assert diagram.counts.sum() == 2000
    assert mb.reliability(record).expected_error < 0.02


def test_without_labels_their_readouts_say_so():
    mixture = ten_classes("isotropic")
    x0, _ = draw(mixture, 4, seed=0)
    record = mb.track(mb.mixture_denoiser(mixture), x0, sigmas=[0.1, 1.0])
    assert record.label_error is None
    for readout in (mb.cross_entropy, mb.accuracy, mb.reliability):
        with pytest.raises(ValueError, match="pass `labels` to `track`"):
            readout(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": [1.0]}, "at least two"),
        ({"sigmas": [1.0, 3.0, 2.0]}, "strictly monotone"),
        ({"sigmas": [0.0, 1.0]}, "positive"),
        ({"sigmas": [1.0, np.inf]}, "finite"),
        ({"prior": [0.5, 0.5]}, "10 non-negative weights"),
        ({"prior": [0.2] * 10}, "sum 2"),
        ({"partitions": {"bad": [0, 1]}}, "got labels of 2"),
        ({"labels": torch.tensor([0, 10])}, r"in 0\.\.9; got 0 to 10"),
        ({"x0": torch.full((2, 64), torch.nan)}, "NaN"),
        ({"x0": torch.zeros(2, 63)}, r"shape \(N, 64\)"),
        ({"x0": torch.zeros(0, 64), "labels": None}, "N >= 1"),
        ({"max_batch": 0}, "at least 1"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"x0": torch.zeros(2, 64), "labels": torch.tensor([0, 1])} | change
    x0, labels = arguments.pop("x0"), arguments.pop("labels")
    with pytest.raises(ValueError, match=message):
        mb.track(mb.mixture_denoiser(ten_classes("isotropic")), x0, labels, **arguments)


def test_progress_ends_at_its_total():
    seen = []
    x0, _ = draw(ten_classes("isotropic"), 5, seed=0)
    mb.track(
        mb.mixture_denoiser(ten_classes("isotropic")),
        x0,
        sigmas=[0.1, 1.0],
        max_batch=20,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 6) for i in range(1, 7)]


def test_a_class_of_prior_zero_is_never_found():
    mixture = ten_classes("isotropic")
    x0, _ = draw(mixture, 6, seed=0)
    prior = [0.0] + [1 / 9] * 9
    record = mb.track(
        mb.mixture_denoiser(mixture),
        x0,
        sigmas=SIGMAS,
        prior=prior,
        partitions={"p": [0] + [1] * 9},
    )
    curve = mb.tracked_curve(record)
    assert np.all(np.isfinite(curve.entropy.value))
    assert np.all(np.isfinite(record.group_gap("p")))
    assert curve.prior_entropy == pytest.approx(np.log(9))


def test_a_part_of_a_record_is_a_record(record):
    some = record.images(slice(10, 20))
    np.testing.assert_array_equal(some.labels, record.labels[10:20])
    np.testing.assert_array_equal(some.bayes_gap, record.bayes_gap[:, 10:20])
    np.testing.assert_array_equal(some.group_gap("parity"), record.group_gap("parity")[:, 10:20])
    low = record.levels(slice(0, 5))
    np.testing.assert_array_equal(low.sigmas, record.sigmas[:5])
    np.testing.assert_array_equal(low.log_posterior, record.log_posterior[:5])


def test_where_hardly_an_image_is_uncertain_intervals_hold_the_entropy_and_its_rate():
    """From six images' worth on a boundary down to a thousandth of one, where most often none is."""
    mixture = gs.families.symmetric_pair(4, 1.0, variance=0.01)
    sigmas = np.geomspace(0.45, 60, 16)
    exact = gs.entropy_curve(mixture, -2 * np.log(sigmas), method="exact")
    places = sigmas < 1.4
    worth = np.asarray(exact.entropy.value)[places] * 64 / np.log(2)
    assert worth[0] < 2e-3
    assert worth[-1] > 6
    hits = np.zeros((2, places.sum()))
    for seed in range(16):
        x0, labels = draw(mixture, 64, seed)
        found = mb.entropy_curve(mb.mixture_denoiser(mixture), x0, labels, sigmas=sigmas, seed=seed)
        for hit, name in zip(hits, ("entropy", "rate"), strict=True):
            low, high = (end[places] for end in getattr(found, name).interval())
            truth = np.asarray(getattr(exact, name).value)[places]
            hit += (low <= truth) & (truth <= high)
    assert hits.min() >= 13, hits
