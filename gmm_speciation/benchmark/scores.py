"""Scores: a row against the truth of its task, on the whole curve.

    error       root mean square over the levels of H - truth, nats, as they count; bias is the mean of
                H - truth
    raw         the error before H is clipped
    rate        root mean square error of -dH/dlambda, nats per unit log-SNR
    peak        |place of the largest rate - truth|, in log-SNR
    window      mean distance of the ends of the 80 % window, in log-SNR
    inside      share of levels whose 95 % interval meets that of the truth
    violation   for a bound: the most by which it is on the wrong side, beyond the truth's interval and four
                standard errors of its own, where these are known

A number on the wrong side is no bound, however near. At a level with a violation it counts as what holds
without it, H(C) from above and 0 from below, or as itself where that is farther from the truth. So no
violation is nearer than any bound that holds there, whatever else is on the board.

Every H is clipped to [0, H(C)], where every entropy lies, for all estimators alike; intervals and
violations are those of the raw number. Peak and window are read off the curve as everywhere, the truth's
off the truth on the same levels, so an estimator that returns the truth has no error. An estimator without
a rate of its own gets the slope of a monotone cubic through its entropies.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Kind

_NOISE = 4.0  # standard errors of a bound that are chance
_ROUNDING = 1e-5  # of H(C): a violation within it is that of sums and integrals


def score(row: Mapping[str, Any], truth: EntropyCurve) -> dict[str, float | None]:
    """Scores of a row that is ok; NaN-free, None where a score does not apply.

    Raises:
        ValueError: If the row is not on the truth's levels.
    """
    values, exact = np.asarray(row["entropy"], float), np.asarray(truth.entropy.value, float)
    if values.shape != exact.shape:
        raise ValueError(
            f"{row['estimator']!r} on {row['task']!r}, n = {row['n']}, seed {row['seed']}: the row has "
            f"{len(values)} levels, the truth {len(exact)}. It is damaged, or of another version of the "
            "task; take its line out of the file, and the cell runs again."
        )
    raw, values = values, np.clip(values, 0, truth.prior_entropy)
    error = counted(row, truth) - exact
    rate = row.get("rate")
    rates = slope(truth.log_snr, values) if rate is None else np.asarray(rate, float)
    estimated = EntropyCurve(
        truth.log_snr, Estimate.exact(values), Estimate.exact(rates), truth.prior_entropy, "row"
    )
    low, high = truth.entropy.interval()
    return {
        "error": float(np.sqrt(np.mean(error**2))),
        "bias": float((values - exact).mean()),
        "raw": float(np.sqrt(np.mean((raw - exact) ** 2))),
        "rate": float(np.sqrt(np.mean((rates - np.asarray(truth.rate.value)) ** 2))),
        # Of an estimate that is wrong it may be at an end.
        "peak": abs(
            float(estimated.peak(at_end=True).log_snr.value)
            - float(truth.peak(at_end=True).log_snr.value)
        ),
        "window": _window(estimated, truth),
        "inside": _inside(row, low, high),
        "violation": None
        if (beyond := _beyond(row, truth)) is None
        else max(float(beyond.max()), 0.0),
    }


def counted(row: Mapping[str, Any], truth: EntropyCurve) -> np.ndarray:
    """What H counts as at every level: clipped, and of a bound that is none what holds without it."""
    values, exact = np.clip(row["entropy"], 0, truth.prior_entropy), np.asarray(truth.entropy.value)
    beyond = _beyond(row, truth)
    if beyond is None:
        return values
    trivial = 0.0 if Kind(row["kind"]) is Kind.LOWER else truth.prior_entropy
    none = beyond > _ROUNDING * truth.prior_entropy
    none &= np.abs(trivial - exact) > np.abs(values - exact)
    return np.where(none, trivial, values)


def slope(log_snr: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """`-dH/dlambda` of a monotone cubic through the points."""
    order = slice(None, None, -1)
    found = PchipInterpolator(log_snr[order], entropy[order]).derivative()(log_snr)
    return -np.asarray(found, float)


def intervals(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """The 95 % interval at every level, where the estimator claims one and it is known."""
    if row.get("stderr") is None or "dof" not in row:
        return None
    return Estimate(
        np.asarray(row["entropy"], float), np.asarray(row["stderr"], float), float(row["dof"])
    ).interval()


def _inside(row: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> float | None:
    claimed = intervals(row)
    if claimed is None:
        return None
    return float(np.mean((claimed[0] <= high) & (claimed[1] >= low)))


def _noise(row: Mapping[str, Any], levels: int) -> np.ndarray | None:
    """Standard errors of the number itself, zero where it has none; None where they are not known."""
    if not row.get("stderr") and "noise" not in row:
        return None
    known = row.get("stderr") or row["noise"]
    return np.zeros(levels) if known is None else np.asarray(known, float)


def _beyond(row: Mapping[str, Any], truth: EntropyCurve) -> np.ndarray | None:
    """By how much a bound is on the wrong side at every level, below 0 where it is not; None if unknown."""
    values, (low, high), kind = (
        np.asarray(row["entropy"]),
        truth.entropy.interval(),
        Kind(row["kind"]),
    )
    noise = _noise(row, len(values))
    if kind is Kind.ESTIMATE or noise is None:
        return None
    return (values - high if kind is Kind.LOWER else low - values) - _NOISE * noise


def _window(estimated: EntropyCurve, truth: EntropyCurve) -> float | None:
    """None where the estimate has no window: a flat curve, or one that ends inside it."""
    if np.ptp(np.asarray(estimated.entropy.value)) < 1e-9:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong at an end of an estimate is its error
            found, exact = estimated.window(0.8), truth.window(0.8)
    except ValueError:
        return None
    ends = [(found.low, exact.low), (found.high, exact.high)]
    return float(np.mean([abs(float(a.value) - float(b.value)) for a, b in ends]))
