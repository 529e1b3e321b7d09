"""Inputs that would give a wrong number in silence are refused, also where no types are checked."""

import jaxtyping
import numpy as np
import pytest
import torch

import gmm_speciation as gs
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.denoisers.subset import ClassSubset
from model_bridges.entropy.elbo_posterior import elbo_posterior
from model_bridges.entropy.windows import GuidanceInterval
from model_bridges.guidance import DynamicNegative, Guided, TrackedClasses
from model_bridges.samplers import karras_sigmas, sample
from model_bridges.tracking.calibration import calibration_error, reliability
from model_bridges.tracking.forward import track
from model_bridges.tracking.generated import generated_posterior

SHAPE = (1, 2, 2)


@pytest.fixture(autouse=True)
def as_it_is_for_users(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def denoiser():
    """Three classes with an exact denoiser."""
    return mixture_denoiser(gs.GaussianMixture.isotropic(np.eye(4)[:3], 0.1), event_shape=SHAPE)


def data(num=8):
    return np.random.default_rng(0).normal(size=(num, *SHAPE)), np.arange(num) % 3


def tracking_guidance(log_prior):
    return DynamicNegative(0, 1.0, TrackedClasses(0, log_prior))


def subset(classes=(0, 2), weights=(0.5, 0.5)):
    return ClassSubset(denoiser(), classes, weights)


SILENT = {  # what broadcasts, is converted or computed with: without a check a wrong number
    "states": (
        lambda x, y: elbo_posterior(denoiser(), x[:, :, :1], 0.5),
        r"`x` must have shape \(N",
    ),
    "states NaN": (lambda x, y: elbo_posterior(denoiser(), x * np.nan, 0.5), "`x` must be finite"),
    "falling rate": (
        lambda x, y: elbo_posterior(denoiser(), x, 0.5, rate=(np.array([2.0, 1.0]), np.ones(2))),
        "levels that increase",
    ),
    "ragged rate": (
        lambda x, y: elbo_posterior(
            denoiser(), x, 0.5, rate=(np.array([1.0, 2.0]), np.ones((2, 1)))
        ),
        r"got shapes \(2,\) and \(2, 1\)",
    ),
    "flags": (lambda x, y: subset()(x, 0.5, y > 0), r"or soft labels \(B, 2\); got torch.bool"),
    "soft labels": (lambda x, y: subset()(x, 0.5, np.ones(8)), "got torch.float64 of shape"),
    "soft column": (lambda x, y: subset()(x, 0.5, np.ones((8, 1))), r"of shape \(8, 1\)"),
    "chosen flags": (lambda x, y: subset((True, False)), "different labels"),
    "short prior": (lambda x, y: subset(weights=(1.0,)), "must be 2 non-negative weights"),
    "prior": (lambda x, y: subset(weights=(0.5, 0.6)), "sum to 1"),
    "interval": (lambda x, y: GuidanceInterval((3, 1)), "0 <= low < high"),
    "interval NaN": (lambda x, y: GuidanceInterval((0.1, np.nan)), "0 <= low < high"),
    "column": (lambda x, y: GuidanceInterval((1, 3)).steps([[4.0], [2.0]]), "a number or a vector"),
    "rising": (lambda x, y: GuidanceInterval((1, 3)).steps([2.0, 4.0]), "do not rise"),
    "rho NaN": (lambda x, y: karras_sigmas(4, rho=np.nan), "`rho` > 0"),
    "rho 0": (lambda x, y: karras_sigmas(4, rho=0), "`rho` > 0"),
    "endless": (lambda x, y: karras_sigmas(4, sigma_max=np.inf), "all finite"),
    "negative": (lambda x, y: denoiser().coefficients(-1.0), "negative or NaN; got .-1.0"),
    "NaN": (lambda x, y: subset().coefficients(np.array([1, np.nan])), "negative or NaN"),
    "no state": (lambda x, y: denoiser()(x[:0], 1.0, y[:0]), "with B >= 1; got"),
    "level": (lambda x, y: reliability(track(denoiser(), x, y), 99), "one of the 64 levels"),
    "noise": (lambda x, y: reliability(track(denoiser(), x, y), 0.5), "not its noise; got 0.5"),
    "window": (
        lambda x, y: calibration_error(track(denoiser(), x, y), window=(3.0, 0.1)),
        "0 < low <= high",
    ),
    "paths": (
        lambda x, y: track(denoiser(), x, y, sigmas=[0.1, 1.0], paths=x[None]),
        "every image at every level",
    ),
    "labels": (lambda x, y: generated_posterior(denoiser(), 9, labels=y), r"of shape \(9,\)"),
    "some classes": (
        lambda x, y: Guided(denoiser(), tracking_guidance(np.log([0.5, 0.5]))),
        r"all 3 classes; got shape \(2,\)",
    ),
    "some classes drawn": (
        lambda x, y: sample(
            denoiser(), x.shape, [2.0, 1.0], guidance=tracking_guidance(np.log([0.5, 0.5]))
        ),
        r"all 3 classes; got shape \(2,\)",
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_would_give_a_wrong_number_is_refused(name):
    call, says = SILENT[name]
    with pytest.raises(ValueError, match=says):
        call(*data())


def test_states_paths_and_labels_of_numpy_are_those_of_torch():
    (x, labels), paths = data(4), np.random.default_rng(0).normal(size=(2, 4, *SHAPE))
    reads = {
        "elbo": lambda of: elbo_posterior(denoiser(), of(x), 0.5).log_posterior,
        "track": lambda of: (
            track(denoiser(), x, labels, sigmas=[0.1, 1.0], paths=of(paths)).log_posterior
        ),
        "generated": lambda of: (
            (
                generated_posterior(denoiser(), 4, labels=of(labels), sigmas=[0.1, 1.0])[0]
            ).log_posterior
        ),
    }
    for read in reads.values():
        np.testing.assert_array_equal(read(np.asarray), read(torch.from_numpy))
