"""Levels that are too few to say where a peak, a window or a crossing is: said, and by how much."""

import re
import warnings

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm

import gmm_speciation as gs
from gmm_speciation.maxima import warn_of_few


def pair_peak() -> float:
    """Peak of the rate of two Gaussians, means of norm 8: by quadrature and minimiser of scipy."""

    def negative_rate(log_snr):
        signal = 1 / (1 + np.exp(-log_snr))
        kappa = (
            64 * signal / 1.0
        )  # distance of a mean from the boundary, in standard deviations, squared
        mmse = quad(
            lambda z: norm.pdf(z) * (1 - np.tanh(kappa + np.sqrt(kappa) * z)), -12, 12, limit=400
        )[0]
        return -mmse * kappa * (1 - signal) / 2

    return minimize_scalar(negative_rate, bracket=(-5, -4, -3), tol=1e-10).x


@pytest.mark.parametrize(("step", "few"), [(0.25, False), (0.5, False), (1.0, True), (2.0, True)])
@pytest.mark.parametrize("method", ["exact", "quasi-monte-carlo"])
def test_levels_too_few_to_place_a_peak_are_said(step, few, method):
    """What is said is what is off: on fine levels the place is right, on coarse ones it warns."""
    levels = np.arange(6.0, -14.0, -step) + 0.17
    curve = gs.entropy_curve(gs.families.symmetric_pair(64), levels, method=method)
    expected = pair_peak()
    if not few:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert abs(float(curve.peak().log_snr.value) - expected) < 0.005
        return
    with pytest.warns(
        UserWarning, match=r"[1-4] levels lie in the upper half of the peak: the peak"
    ):
        found = curve.peak()
    assert abs(float(found.log_snr.value) - expected) > 0.02


def test_points_of_another_maximum_place_no_peak():
    """Two peaks of three levels each are two that are too coarse."""
    heights = np.array([0.0, 0.6, 1.0, 0.6, 0.1, 0.1, 0.6, 0.9, 0.6, 0.0])
    with pytest.warns(UserWarning, match="3 levels lie in the upper half"):
        warn_of_few(heights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few(np.repeat(heights, 2))


@pytest.mark.parametrize(("num_classes", "distance"), [(2, 6.0), (3, 4.0), (10, 5.0)])
def test_places_on_few_levels_are_off_by_no_more_than_is_said(num_classes, distance):
    """Levels from much too coarse to fine, wherever they fall, against those of levels 0.025 apart."""
    said = {
        "two thirds": 2 / 3,
        "half": 1 / 2,
        "a fifth": 1 / 5,
        "a tenth": 1 / 10,
        "a fiftieth": 1 / 50,
    }
    law = gs.families.equidistant(num_classes, 16, distance, 0.5)
    grid = np.linspace(9.0, -9.0, 721)
    fine = gs.entropy_curve(law, grid)
    half = fine.prior_entropy / 2

    def places(curve):
        window = curve.window()
        return {
            "peak": (curve.peak().log_snr,),
            "window": (window.low, window.high),
            "crossing": (curve.crossing(half),),
        }

    right, seen = places(fine), set()
    for stride in (10, 20, 32, 40, 52, 64, 80, 100, 120, 140):
        for start in range(0, stride, max(1, stride // 6)):
            part = fine.part(slice(start, None, stride))
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                own = places(part)
            told = {}
            for one in found:
                match = re.search(
                    r"the (\w+) may be off by ([a-z ]+) of their step", str(one.message)
                )
                if match:
                    told[match[1]] = said[match[2]]
                    seen.add(match[2])
            at_end = any("at an end" in str(one.message) for one in found)
            for what, ends in own.items():
                if at_end:
                    continue
                off = max(
                    abs(float(a.value) - float(b.value)) / (stride * 0.025)
                    for a, b in zip(ends, right[what], strict=True)
                )
                assert off < told.get(what, 0.02), (what, stride, start)
    assert seen == set(said)


@pytest.mark.parametrize("method", ["exact", "quasi-monte-carlo"])
@pytest.mark.parametrize(
    ("step", "few"), [(0.5, None), (0.8, None), (1.5, "a fifth"), (2.0, "half")]
)
def test_levels_too_few_to_place_window_and_crossing_are_said(step, few, method):
    """Against those of levels that are 0.1 apart."""
    pair = gs.families.symmetric_pair(64)
    fine = gs.entropy_curve(pair, np.arange(8.0, -16.0, -0.1))
    curve = gs.entropy_curve(pair, np.arange(6.0, -14.0, -step) + 0.17, method=method)
    half = curve.prior_entropy / 2
    if few:
        for what, ask in (("window", curve.window), ("crossing", lambda: curve.crossing(half))):
            with pytest.warns(UserWarning, match=f"the {what} may be off by {few} of their step"):
                ask()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, place = curve.window(), curve.crossing(half)
    for end, expected in (
        (found.low, fine.window().low),
        (found.high, fine.window().high),
        (place, fine.crossing(half)),
    ):
        assert abs(float(end.value) - float(expected.value)) < 0.01
