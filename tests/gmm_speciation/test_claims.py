"""One claim, one rule of verdict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Claim, Verdict, verdict


def _claim(value, stderr=0.0, tolerance=0.1, predicted=1.0, **options):
    return Claim(
        "a number",
        predicted,
        Estimate(np.asarray(value), np.asarray(stderr), np.inf),
        tolerance,
        **options,
    )


@pytest.mark.parametrize(
    ("value", "stderr", "expected"),
    [
        (1.05, 0.02, Verdict.YES),  # 1.05 ± 0.039
        (1.05, 0.03, Verdict.OPEN),  # reaches over the edge at 1.1
        (1.2, 0.04, Verdict.NO),  # 1.2 ± 0.078
        (1.2, 0.06, Verdict.OPEN),
        (1.0, 1.0, Verdict.OPEN),  # a poor measurement confirms nothing
        (np.nan, 0.0, Verdict.OPEN),
    ],
)
def test_the_whole_interval_decides(value, stderr, expected):
    assert _claim(value, stderr).verdict == expected


def test_bounds_allow_one_side():
    assert _claim(5.0, tolerance=0.0, relation="at least").verdict == Verdict.YES
    assert _claim(0.9, tolerance=0.0, relation="at least").verdict == Verdict.NO
    assert _claim(0.054, 0.041, 0.0, 0.06, relation="at most").verdict == Verdict.OPEN
    assert _claim(-5.0, tolerance=0.0, relation="at most").verdict == Verdict.YES
    assert _claim(0.0, relation="at most").tells_apart is None


def test_what_is_no_claim_is_refused():
    with pytest.raises(ValueError, match="at most or at least"):
        _claim(1.0, relation="about")
    with pytest.raises(ValueError, match="negative"):
        _claim(1.0, tolerance=-1.0)
    with pytest.raises(ValueError, match="one number"):
        Claim("two", 1.0, Estimate.exact(np.ones(2)), 0.1)


@settings(deadline=None)
@given(st.floats(-10, 10), st.floats(0, 1), st.floats(0.01, 1), st.floats(1.001, 5), st.booleans())
def test_two_predictions_further_apart_than_they_tell_are_not_both_yes(
    value, stderr, tolerance, factor, up
):
    one = _claim(value, stderr, tolerance, predicted=2.0)
    step = factor * one.tells_apart * one.predicted
    other = one.given(one.predicted + (step if up else -step))
    assert {one.verdict, other.verdict} != {Verdict.YES}


@settings(deadline=None)
@given(st.floats(-10, 10), st.floats(0, 5), st.floats(-10, 10), st.floats(0, 5))
def test_yes_and_no_are_mirror_images(low, width, least, room):
    interval, allowed = (low, low + width), (least, least + room)
    mirrored = verdict((-interval[1], -interval[0]), (-allowed[1], -allowed[0]))
    assert verdict(interval, allowed) == mirrored
