"""Estimators of one's own that return what is no result: a row says what, in JSON."""

import json
import sys

import pytest

from gmm_speciation.benchmark.cells import Cell
from gmm_speciation.benchmark.worker import run_cell

ODD = """
import numpy as np
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators import Estimator, LevelEstimator, Outcome

class Whole(Estimator):
    title, reference = "of all levels", "none"
    error, rate, dof, claims = 0.01, 0.1, 5.0, True
    def curve(self, problem):
        half = np.full(len(problem.log_snr), 0.3)
        found = Estimate(half, np.full_like(half, self.error), self.dof)
        rate = Estimate(np.full_like(half, self.rate), 0 * half)
        return Outcome(found, rate=rate, has_interval=self.claims)

class NanError(Whole):
    error = np.nan

class NanNoise(Whole):
    error, claims = np.nan, False

class EndlessError(Whole):
    error = np.inf

class EndlessRate(Whole):
    rate = np.inf

class NanDof(Whole):
    dof = np.nan

class OneLevel(LevelEstimator):
    title, reference = "of one level", "none"
    answer = Estimate(0.3, 0.0)
    def level(self, x, labels, prior, rng):
        return self.answer

class PlainNumber(OneLevel):
    answer = 0.3

class TwoNumbers(OneLevel):
    answer = Estimate(np.array([0.3, 0.4]), np.zeros(2))

class NanLevel(OneLevel):
    answer = Estimate(0.3, np.nan)

class Huge(OneLevel):
    answer = Estimate(1e300, 0.0)

class SortsLabels(OneLevel):
    def level(self, x, labels, prior, rng):
        labels.sort()
        return self.answer

class HalvesPrior(OneLevel):
    def level(self, x, labels, prior, rng):
        prior *= 0.5
        return self.answer

class Centres(OneLevel):
    def level(self, x, labels, prior, rng):
        x -= x.mean(0)
        return self.answer

class NoWeights(OneLevel):
    def __init__(self):
        raise FileNotFoundError("weights.pt is missing")

class NeedsOne(OneLevel):
    def __init__(self, one):
        self.one = one
"""
FAULTS = {
    "NanError": "standard error must be finite at all 16 levels",
    "NanNoise": "standard error must be finite at all 16 levels",
    "EndlessError": "standard error must be finite at all 16 levels",
    "EndlessRate": "rate must be finite at all 16 levels",
    "NanDof": "`dof` must be positive; got nan",
    "PlainNumber": "Expected a `Estimate`; got a float. `level` returns H(C|X).",
    "TwoNumbers": "`level` returns one number; got shape (2,)",
    "NanLevel": "standard error must be finite at all 16 levels",
    "Huge": "entropy must be finite at all 16 levels, below 1e+100",
    "SortsLabels": "read-only",
    "HalvesPrior": "read-only",
    "Centres": "read-only",
    "NoWeights": "FileNotFoundError: weights.pt is missing",
    "NeedsOne": "TypeError: NeedsOne.__init__() missing 1 required positional argument: 'one'",
}


@pytest.mark.parametrize("name", ["Whole", "OneLevel", *FAULTS])
def test_what_is_no_result_fails_by_name(name, tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        row = run_cell(Cell("pair-d1", f"odd:{name}", "noisy", 64, 0))
    finally:
        sys.modules.pop("odd", None)
    json.dumps(row, allow_nan=False)
    assert row["status"] == ("failed" if name in FAULTS else "ok")
    assert FAULTS.get(name, "") in row["message"]
