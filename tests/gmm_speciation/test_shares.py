"""Shares: the exact interval of independent trials, and of fewer where trials hang together."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import at_least, at_most, check_records, check_rows
from gmm_speciation.reporting.records import percent, to_json
from gmm_speciation.shares import Share


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize(
    ("hits", "trials"), [(0, 300), (300, 300), (0, 1), (1, 1), (1, 2), (285, 300)]
)
def test_the_interval_of_independent_trials_is_exact(hits, trials, level):
    share = Share.counted(hits / trials, trials)
    wanted = binomtest(hits, trials).proportion_ci(level)
    np.testing.assert_allclose(share.interval(level), wanted, rtol=1e-9, atol=1e-12)
    assert share.stderr > 0
    np.testing.assert_allclose(
        share.complement.interval(level), 1 - np.array(wanted)[::-1], atol=1e-9
    )


def test_none_of_three_hundred_is_not_never():
    none, every = Share.counted(0.0, 300), Share.counted(1.0, 300)
    assert f"{none}" == "0.0000 (0.0000–0.0122)"
    assert percent(none) == "0.0 (0.0–1.2)"
    assert f"{every:.3f}" == "1.000 (0.988–1.000)"
    assert "(0.0000–0.0122)" in repr(none)
    assert at_most("few", none, 0.0123).verdict == "yes"
    assert at_most("few", none, 0.0121).verdict == "open"
    assert at_least("most", every, 0.9879).verdict == "open"
    few = Share.counted(0.0, 3)
    assert at_most("few", few, 0.5).verdict == "open"


def test_the_tables_and_records_of_claims_show_the_ends():
    checks = [at_most("a", Share.counted(0.0, 300), 0.02), at_most("b", Estimate(0.1, 0.1), 0.02)]
    assert [row[3] for row in check_rows(checks).rows] == ["(0.000–0.012)", "0.196"]
    first, second = json.loads(json.dumps(check_records(checks)))
    ends = binomtest(0, 300).proportion_ci()
    assert first["interval_95"] == pytest.approx(list(ends))
    assert first["half_width"] == pytest.approx(ends.high)
    np.testing.assert_allclose(second["interval_95"], [0.1 - 0.195996, 0.1 + 0.195996], atol=1e-6)


def test_a_share_is_read_back_from_json():
    shares = Share.of(Estimate([0.0, 0.3, 1.0], [0.0, 0.05, 0.0], 19.0), 200)
    read = json.loads(json.dumps(to_json(shares)))
    back = Share(read["value"], read["stderr"], read["dof"], read["trials"])
    np.testing.assert_array_equal(back.interval(), shares.interval())
    np.testing.assert_array_equal(read["interval_95"], shares.interval())
    np.testing.assert_array_equal(shares[1].interval(), np.array(shares.interval())[:, 1])


def test_shares_of_nothing_are_not_defined():
    empty = Share.of(Estimate([np.nan, 0.5], [np.nan, 0.1], 9.0), np.array([0, 20]))
    assert np.isnan(empty.interval()[0]).tolist() == [True, False]
    assert f"{empty[0]}" == "not defined"
    with pytest.raises(ValueError, match="`level` must lie inside"):
        empty.interval(1.0)


@pytest.mark.parametrize("centre", [0.02, 0.5, 0.97])
def test_trials_that_hang_together_count_for_fewer(centre, rng):
    """Twenty batches of five that agree: an interval of 100 coins holds the truth too seldom."""
    runs, batches, size = 2000, 20, 5
    batch = np.repeat(rng.uniform(size=(runs, batches)) < centre, size, axis=1).astype(float)
    of_batches = batch.reshape(runs, batches, size).mean(-1)
    error = of_batches.std(1, ddof=1) / np.sqrt(batches)
    drawn = Share.of(Estimate(batch.mean(1), error, batches - 1.0), batches * size)
    low, high = drawn.interval()
    assert (low >= 0).all()
    assert (high <= 1).all()
    seen = (drawn.value > 0) & (drawn.value < 1)
    assert ((low <= centre) & (centre <= high))[seen].mean() > 0.93
    coins = np.array(Share.counted(drawn.value, batches * size).interval())
    assert (high - low > np.diff(coins, axis=0)[0])[seen].all()
