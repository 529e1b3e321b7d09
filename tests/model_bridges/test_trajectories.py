"""Generated trajectories, the papers' read-outs, single images, and paired windows."""

import numpy as np
import pytest
import torch
from oracle import draw, ten_classes

import model_bridges as mb
from model_bridges.denoisers.base import UNCONDITIONAL
from model_bridges.entropy.problem import problem
from model_bridges.entropy.tracking import TrackingJob
from model_bridges.runs.jobs import collect
from model_bridges.tracking.pointwise import pointwise_of
from model_bridges.tracking.readouts import decision_sigma, log_ratios

MIXTURE = ten_classes("isotropic")
DENOISER = mb.mixture_denoiser(MIXTURE)
SIGMAS = np.geomspace(0.02, 80, 24)


@pytest.fixture(scope="module")
def generated():
    return mb.generated_posterior(DENOISER, 160, sigmas=SIGMAS, seed=2, max_batch=4096)


def test_trajectories_end_where_the_tracked_posterior_says(generated):
    record, ends = generated
    assert ends.shape == (160, 64)
    assert mb.accuracy(record).value[0] == 1.0
    assert "class-conditional trajectories" in record.path_law
    assert record.evaluations == 160 * 24 * 12
    distance = torch.cdist(ends.double(), torch.from_numpy(np.array(MIXTURE.means)))
    assert np.array_equal(distance.argmin(1).numpy(), record.labels)


def test_the_posterior_of_a_drawn_chain_is_calibrated_at_every_step(generated):
    """The path was drawn from the tracked kernels, so cross-entropy and entropy have one mean."""
    record, _ = generated
    entropy, cross = mb.tracked_curve(record).entropy, mb.cross_entropy(record)
    stderr = np.hypot(entropy.stderr, cross.stderr)
    assert np.all(np.abs(entropy.value - cross.value) < 4 * stderr + 1e-9)


def test_unconditional_trajectories_have_no_class_of_their_own():
    record, _ = mb.generated_posterior(
        DENOISER, 40, labels=UNCONDITIONAL, sigmas=SIGMAS, max_batch=4096
    )
    assert record.labels is None
    assert "unconditional" in record.path_law
    assert np.exp(record.log_posterior[0]).max(-1).min() > 0.99
    with pytest.raises(ValueError, match="true classes"):
        mb.forced_prior_curve(record)


def test_paths_do_not_depend_on_where_the_work_was_cut():
    whole, _ = mb.generated_posterior(DENOISER, 6, sigmas=SIGMAS, seed=2)
    part, _ = mb.generated_posterior(DENOISER, 2, sigmas=SIGMAS, seed=2, first=3)
    np.testing.assert_allclose(part.log_posterior, whole.log_posterior[:, 3:5], atol=1e-9)


def ratio_deviation(record):
    """Largest over levels of the mean |pi - p|, with pi at most 1."""
    ratio = np.minimum(np.exp(record.log_ratio) * record.prior, 1)
    return np.abs(ratio - np.exp(record.log_posterior)).mean((1, 2)).max()


@pytest.fixture(scope="module")
def finer():
    """Ten times the levels, with labels, on data and on trajectories."""
    x0, labels = draw(MIXTURE, 48, seed=3)
    sigmas = np.geomspace(0.02, 80, 231)
    own, _ = mb.generated_posterior(DENOISER, 48, sigmas=sigmas, seed=2, max_batch=4096)
    return mb.track(DENOISER, x0, labels, sigmas=sigmas, max_batch=4096), own


def test_the_ratio_is_the_posterior_up_to_the_root_of_the_step(finer, generated):
    for record in finer:
        assert ratio_deviation(record) < 0.8 * ratio_deviation(generated[0])
        np.testing.assert_allclose(
            np.exp(record.log_ratio[-1]) * record.prior, record.prior[None].repeat(48, 0)
        )
        curve = mb.ratio_curve(record)
        difference = curve.entropy.value - mb.tracked_curve(record).entropy.value
        assert np.all(np.abs(difference) < 0.25)
        assert "ratio" in curve.method


def test_the_forced_prior_starts_at_one_half_and_names_itself(finer):
    for record in finer:
        curve = mb.forced_prior_curve(record)
        assert curve.prior_entropy == pytest.approx(np.log(2))
        assert curve.entropy.value[-1] == pytest.approx(np.log(2))
        # l_y tends to log 10, not to infinity: the unconditional stands for "not y" and holds y.
        p = 10 / 11
        binary = -(p * np.log(p) + (1 - p) * np.log(1 - p))
        end = curve.entropy[0]
        assert abs(end.value - binary) < 4 * end.stderr + 0.02
        assert "forced prior 1/2" in curve.method


def test_groups_of_ratios_are_averages_over_their_members(generated):
    record, _ = generated
    parity = np.array([0, 1] * 5)
    ratios = np.exp(log_ratios(record, parity.tolist()))
    for group in (0, 1):
        members = np.exp(record.log_ratio[..., parity == group]).mean(-1)
        np.testing.assert_allclose(ratios[..., group], members, rtol=1e-9)


def test_a_single_image_is_decided_where_its_class_stays_above_one_half():
    sigmas = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
    led = np.array([0.99, 0.9, 0.7, 0.3, 0.5])
    posterior = np.stack([np.stack([led, 1 - led], -1), np.full((5, 2), 0.5)])
    posterior[1, :, 0] += 0.4
    posterior[1, :, 1] -= 0.4
    found = pointwise_of(sigmas, posterior, np.log(2), ("yes", "no"))
    assert found.final_class.tolist() == [0, 0]
    assert found.decision_sigma[0] == pytest.approx(0.4 * 2**0.5)  # half-way from 0.7 to 0.3
    assert found.decision_sigma[1] == pytest.approx(1.6)  # led all along
    assert 0.2 < found.half_entropy_sigma[0] < 0.4
    with pytest.raises(ValueError, match="one name a class"):
        pointwise_of(sigmas, posterior, np.log(2), ("yes",))


def test_single_images_of_a_trace(generated):
    record, _ = generated
    found = mb.pointwise(record)
    assert found.posterior.shape == (160, 24, 10)
    np.testing.assert_array_equal(found.final_class, record.labels)
    steps = SIGMAS[1] / SIGMAS[0]
    coarse = decision_sigma(record)
    assert np.all(found.decision_sigma >= coarse * (1 - 1e-9))
    assert np.all(found.decision_sigma <= coarse * steps * (1 + 1e-9))


def test_sums_of_chunks_are_the_curves_of_the_whole_trace():
    x0, labels = draw(MIXTURE, 48, seed=3)
    given = problem(
        DENOISER,
        x0,
        labels,
        sigmas=SIGMAS,
        chunk_size=3,
        max_batch=4096,
        partitions={"classes": list(range(10)), "parity": [0, 1] * 5},
    )
    work = TrackingJob(given)
    merged = collect(work)
    record = mb.track(
        DENOISER, x0, labels, sigmas=SIGMAS, max_batch=4096, partitions={"parity": [0, 1] * 5}
    )
    readouts = {
        "tracking": mb.tracked_curve,
        "gap": lambda r, p: mb.gap_curve(r, "bayes", p),
        "gap-unconditional": lambda r, p: mb.gap_curve(r, "unconditional", p),
        "tracking-ratio": mb.ratio_curve,
        "tracking-forced": mb.forced_prior_curve,
    }
    for name, partition in (("classes", None), ("parity", "parity")):
        for estimator, readout in readouts.items():
            ours, theirs = work.curve(merged, name, estimator), readout(record, partition)
            np.testing.assert_allclose(ours.entropy.value, theirs.entropy.value, atol=1e-9)
            np.testing.assert_allclose(ours.rate.value, theirs.rate.value, atol=1e-9)
    assert merged.evaluations == record.evaluations
    difference = mb.compare_windows(
        work.curve(merged, "parity"), work.curve(merged, "classes"), ("parity", "class")
    )
    assert difference.half_entropy is not None
    assert "parity" in difference.verdict()
    low, high = mb.guidance_interval(work.curve(merged, "classes"))
    assert (low, high) == work.curve(merged, "classes").window(0.8).sigma


def test_levels_are_dense_where_classes_are_decided():
    x0, _ = draw(MIXTURE, 64, seed=3)
    levels = mb.adaptive_sigmas(DENOISER, x0, 24)
    assert levels[[0, -1]] == pytest.approx(DENOISER.sigma_range)
    inside = np.sum((levels > 0.3) & (levels < 3))
    even = 24 * np.log(10) / np.log(DENOISER.sigma_range[1] / DENOISER.sigma_range[0])
    assert inside > 1.5 * even
