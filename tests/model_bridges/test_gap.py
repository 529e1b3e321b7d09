"""The denoiser gap: its forms, its integral, and the information budget."""

import dataclasses

import numpy as np
import pytest
import torch
from oracle import draw, ten_classes

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.entropy.gap import gap, integral_from_top

SIGMAS = np.geomspace(0.02, 80, 32)


@pytest.fixture(scope="module")
def record():
    mixture = ten_classes("isotropic")
    x0, labels = draw(mixture, 600, seed=4)
    return mb.track(mb.mixture_denoiser(mixture), x0, labels, sigmas=SIGMAS, max_batch=6000)


def test_32_levels_integrate_the_rate_to_a_thousandth_of_a_nat():
    """Two classes, where entropy and rate are exact integrals."""
    mixture = gs.families.symmetric_pair(64, separation=0.1, variance=0.05)
    curve = gs.entropy_curve(mixture, -2 * np.log(SIGMAS), method="exact")
    entropy = np.log(2) - integral_from_top(SIGMAS, 2 * np.asarray(curve.rate.value))
    np.testing.assert_allclose(entropy, np.asarray(curve.entropy.value), atol=1e-3)


def test_the_integral_is_linear_image_by_image(record):
    rate = record.bayes_gap
    np.testing.assert_allclose(
        integral_from_top(SIGMAS, rate).mean(1), integral_from_top(SIGMAS, rate.mean(1)), rtol=1e-9
    )


def test_forms_agree_for_an_exact_model(record):
    """And the budget closes: every form integrates to the entropy that is lost."""
    budget = mb.information_budget(record)
    assert set(budget.integrals) == {"bayes", "unconditional", "labelled"}
    mmse = (budget.mmse_bayes, budget.mmse_unconditional)
    for integral in (*budget.integrals.values(), *mmse):
        stderr = np.hypot(integral.stderr, budget.difference.stderr)
        assert abs(integral.value - budget.difference.value) < 4 * stderr + 0.03
    lost = float(budget.difference.value)
    assert float(budget.integrals["bayes"].value) == pytest.approx(lost, rel=0.1)
    assert np.max(budget.excess.value) < 0.01


def test_an_unconditional_model_that_is_off_shows_as_excess_and_not_in_the_bayes_form():
    mixture = ten_classes("isotropic")
    exact = mb.mixture_denoiser(mixture)

    def raw(x, sigma, label):
        error = 0.05 if label is mb.UNCONDITIONAL else 0.0
        return exact.raw_function(x, sigma, label) + error

    off = dataclasses.replace(exact, raw_function=raw)
    x0, labels = draw(mixture, 64, seed=4)
    ours, theirs = (mb.track(d, x0, labels, sigmas=SIGMAS) for d in (exact, off))
    np.testing.assert_allclose(gap(ours), gap(theirs), rtol=1e-9, atol=1e-12)
    integrals = mb.information_budget(theirs).integrals
    assert integrals["unconditional"].value > integrals["bayes"].value + 10
    # |0.05|^2 in 64 dimensions, plus what the tracked posterior is off by and a cross term.
    assert theirs.excess.mean() == pytest.approx(64 * 0.05**2, rel=0.1)


def test_curves_name_their_form_and_have_batches(record):
    for form in ("bayes", "unconditional", "labelled"):
        curve = mb.gap_curve(record, form)
        assert form in curve.method
        assert curve.batches.entropy.shape == (16, 32)
        assert curve.entropy.value[-1] == pytest.approx(np.log(10))
        assert curve.peak().log_snr.stderr > 0


def test_what_is_not_there_is_refused(record):
    mixture = ten_classes("isotropic")
    conditional = dataclasses.replace(mb.mixture_denoiser(mixture), has_unconditional=False)
    x0, _ = draw(mixture, 4, seed=0)
    alone = mb.track(conditional, x0, sigmas=[0.1, 0.3, 1.0])
    assert alone.evaluations == 4 * 3 * 10
    assert np.all(np.isfinite(mb.gap_curve(alone).entropy.value))
    assert mb.information_budget(alone).excess is None
    with pytest.raises(ValueError, match="needs an unconditional model"):
        mb.gap_curve(alone, "unconditional")
    with pytest.raises(ValueError, match="one of bayes, unconditional, labelled"):
        mb.gap_curve(record, "classes")
    with pytest.raises(ValueError, match="needs an unconditional model"):
        mb.entropy_curve(conditional, x0, estimator="gap-unconditional")
    unlabelled = mb.track(mb.mixture_denoiser(mixture), x0, sigmas=[0.1, 0.3, 1.0])
    with pytest.raises(ValueError, match="Pass `labels`"):
        mb.gap_curve(unlabelled, "labelled")


def test_one_call_gives_any_of_the_curves():
    mixture = ten_classes("isotropic")
    denoiser, (x0, labels) = mb.mixture_denoiser(mixture), draw(mixture, 8, seed=0)
    parity = [0, 1] * 5
    for estimator in ("tracking", "gap", "gap-unconditional"):
        curve = mb.entropy_curve(
            denoiser, x0, labels, estimator=estimator, partition=parity, sigmas=[0.1, 0.3, 1.0, 3.0]
        )
        assert curve.prior_entropy == pytest.approx(np.log(2))
        assert curve.log_snr == pytest.approx(-2 * np.log([0.1, 0.3, 1.0, 3.0]))
    with pytest.raises(ValueError, match="Did you mean 'tracking'"):
        mb.entropy_curve(denoiser, x0, estimator="traking")
    with pytest.raises(ValueError, match="two images"):
        mb.entropy_curve(denoiser, x0[:1])
    torch.testing.assert_close(x0, draw(mixture, 8, seed=0)[0])
