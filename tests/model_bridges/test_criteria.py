"""Criteria side by side: against quadrature and closed forms of two Gaussians, written out here."""

import jax
import numpy as np
import pytest
import torch
from scipy.optimize import brentq

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.reporting.tables import NONE
from model_bridges.crosscheck.criteria import COMPARABLE, NOT_MEASURED, tracked_cloning_point
from model_bridges.crosscheck.report import crosscheck_record, points_rows
from model_bridges.crosscheck.study import crosscheck
from model_bridges.images.labelled import LabelledImages

RADIUS, VARIANCE, DIM = 2.0, 0.5, 3


def two_gaussians():
    means = np.zeros((2, DIM))
    means[:, 0] = RADIUS, -RADIUS
    return gs.GaussianMixture.isotropic(means, VARIANCE)


def agreement(sigma):
    """`E p^2 + (1 - p)^2` along the axis of the means, by the trapezoidal rule."""
    total = VARIANCE + sigma**2
    x = np.linspace(RADIUS - 12 * total**0.5, RADIUS + 12 * total**0.5, 20_001)
    density = np.exp(-((x - RADIUS) ** 2) / (2 * total)) / np.sqrt(2 * np.pi * total)
    p = 1 / (1 + np.exp(-2 * RADIUS * x / total))
    return np.trapezoid(density * (p**2 + (1 - p) ** 2), x)


@pytest.fixture(scope="module")
def checked():
    mixture = two_gaussians()
    x, labels = mixture.sample(jax.random.key(5), 600)
    data = LabelledImages(
        torch.from_numpy(np.array(x)), torch.from_numpy(np.array(labels)), "the mixture"
    )
    return crosscheck(
        mb.mixture_denoiser(mixture),
        data,
        mixture,
        partitions={},
        num_samples=4096,
        sigmas=np.geomspace(0.05, 60, 40),
    )


def test_each_side_is_where_two_gaussians_have_it(checked):
    points = checked.main.points
    place = {name: point.log_snr for name, point in points.items()}
    exact = {
        "spectral, theory": -np.log(RADIUS**2 + VARIANCE),
        "spectral between classes, theory": -np.log(RADIUS**2),
        # kappa = |m|^2 / (sigma^2 + s^2) = 1
        "bifurcation, theory": -np.log(RADIUS**2 - VARIANCE),
    }
    for name, value in exact.items():
        assert float(place[name].value) == pytest.approx(value, abs=1e-6), name
    sigma = brentq(lambda s: agreement(s) - (0.5 + 0.55 / 2), 0.05, 60)
    for side in ("theory", "model"):
        found = place[f"cloning, {side}"]
        assert float(found.stderr) < 0.2  # that of the theory is 0: two classes are quadrature
        assert abs(float(found.value) + 2 * np.log(sigma)) < 4 * float(found.stderr) + 1e-4, side


def test_what_no_network_was_asked_for_is_said(checked):
    missing = {n for n, p in checked.main.points.items() if p.log_snr is None}
    assert missing == {f"{n}, model" for n, words in COMPARABLE.items() if words.startswith("no")}
    assert {checked.main.points[name].reason for name in missing} == {NOT_MEASURED}


def test_the_table_has_a_row_a_criterion_and_says_what_compares(checked):
    rows = {row[0]: row[1:] for row in points_rows(checked.main).rows}
    assert list(rows) == list(COMPARABLE)
    theory, model = (
        checked.main.points[f"cloning, {side}"].log_snr for side in ("theory", "model")
    )
    assert float(rows["cloning"][2].split("±")[0].replace("−", "-")) == pytest.approx(
        float(model.value - theory.value), abs=1e-3
    )
    for name, row in rows.items():
        assert row[4].startswith("yes") == (row[1] != NONE) == (row[2] != NONE), name
        assert row[3] == NONE  # this mixture was fitted to nothing
    assert set(crosscheck_record(checked)["variables"]["class"]["points"]) == {
        f"{name}, {side}" for name in COMPARABLE for side in ("theory", "model")
    }


def test_no_place_on_the_levels_is_a_reason_on_either_end():
    """Levels that end before clones agree, and levels that begin where they agree already."""
    mixture = two_gaussians()
    x, labels = mixture.sample(jax.random.key(6), 50)
    images, classes = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(labels))
    noisy = mb.track(mb.mixture_denoiser(mixture), images, classes, sigmas=np.geomspace(8, 60, 9))
    found = tracked_cloning_point(noisy)
    assert found.log_snr is None
    assert "is needed" in found.reason
    certain = mb.track(
        mb.mixture_denoiser(mixture), images, classes, sigmas=np.geomspace(0.1, 60, 40)
    ).levels(slice(10))
    with pytest.raises(ValueError, match="never passes"):
        tracked_cloning_point(certain)
