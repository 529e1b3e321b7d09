"""Families in any dimension: against the limits of many dimensions, and as commands."""

import json

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import gmm_speciation as gs
from gmm_speciation import cli
from gmm_speciation.cli.mixtures import FAMILIES


def channel(kappa):
    """H and -dH/dkappa of two equal classes whose log-odds have mean 2 kappa and variance 4 kappa."""
    width = 2 * np.sqrt(kappa)
    log_odds = lambda z: 2 * kappa + width * z  # noqa: E731
    entropy = quad(lambda z: norm.pdf(z) * np.logaddexp(0, -log_odds(z)), -12, 12, limit=400)[0]
    error = quad(lambda z: norm.pdf(z) * (1 - np.tanh(log_odds(z) / 2)), -12, 12, limit=400)[0]
    return entropy, error / 2


@pytest.mark.parametrize("power", [20, 30, 100])
@pytest.mark.parametrize("place", [-1.0, 0.3, 1.25, 2.5])
def test_classes_of_equal_means_are_a_binary_channel(power, place):
    """Their log-odds become normal, with `kappa = d (e^lambda (v_1 - v_0))^2 / 8 = e^{2 place} / 8`."""
    dim = 10**power
    law = gs.families.equal_means(dim, (0.5, 1.5), reduced=True)
    level = place - np.log(float(dim)) / 2
    kappa = np.exp(2 * place) / 8
    entropy, slope = channel(kappa)
    found = gs.class_entropy(law, level, method="exact")
    rate = gs.entropy_rate(law, level, method="exact")
    np.testing.assert_allclose(found.value, entropy, atol=1e-8)
    np.testing.assert_allclose(rate.value, 2 * kappa * slope, atol=1e-8)
    for one in (found, rate):
        assert one.stderr < 1e-9
    draws = gs.class_entropy(law, level, method="quasi-monte-carlo", num_samples=2**15)
    if entropy > 10 / 2**15:  # below, the draws that carry the mean may not have come
        assert abs(draws.value - entropy) < 5 * draws.stderr


def test_one_transition_has_one_peak_in_any_dimension():
    """Of equal means at kappa = 1.50833 in log-SNR, whatever d; half of it is lost at 1.04400."""
    times = gs.speciation_times(gs.families.equal_means(10**30, (0.5, 1.5), reduced=True))
    points = times.points()
    assert not any(name.startswith("entropic peak ") for name in points)
    for name, kappa in (("half entropy", 1.0440133), ("entropic peak", 1.5083306)):
        place = np.log(8 * kappa) / 2 - 30 * np.log(10) / 2
        assert float(points[name].log_snr.value) == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize("family", [name for name, one in FAMILIES.items() if one.reducible])
def test_a_command_forms_nothing_in_d_dimensions(family, capsys):
    """In 10^18 dimensions all but what goes with the logarithm of d is as in few."""
    told = {}
    for power in (2, 18):
        words = ["times", family, "--dim", str(10**power), "--num-samples", "256", "--json"]
        assert cli.main(words) == 0
        told[power] = json.loads(capsys.readouterr().out)["criteria"]
    for level, few in told[2].items():
        many = told[18][level]
        half = [one["half entropy"]["log_snr"]["value"] for one in (few, many)]
        if family == "symmetric-pair":  # kappa = alpha^2 d = 1.04401
            expected = [np.log(k / (1 - k)) for k in (1.0440133e-2, 1.0440133e-18)]
            np.testing.assert_allclose(half, expected, atol=1e-6)
        elif family == "equal-means":  # kappa = d e^{2 lambda} / 8, as d grows
            assert half[1] == pytest.approx(np.log(8 * 1.0440133) / 2 - 9 * np.log(10), abs=1e-6)
        else:  # means at a distance that d does not change
            assert half[1] == pytest.approx(half[0], abs=1e-3)


def test_draws_in_d_dimensions_need_them(capsys):
    words = [
        "curve",
        "symmetric-pair",
        "--dim",
        "16",
        "--method",
        "monte-carlo",
        "--points",
        "8",
        "--json",
    ]
    assert cli.main(words) == 0
    (curve,) = json.loads(capsys.readouterr().out)["curves"].values()
    assert curve["method"] == "monte-carlo"
