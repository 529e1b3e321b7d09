"""What the commands say about a result: the numbers read off it, and their tables.

Quantities run down and levels of classes across, so that a table stays within a terminal's width
whatever it holds. Nothing is computed here that is not read off a curve.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gmm_speciation.curves import ClockedCurve, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.peaks import ClockedPeak, Peak
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.reporting.records import format_estimate
from gmm_speciation.reporting.tables import NONE, Table
from gmm_speciation.speciation import SpeciationPoint, SpeciationTimes

MASS = 0.8


def reachable(curve: EntropyCurve, process: DiffusionProcess) -> ClockedCurve | None:
    """The part of a curve that a process passes, on its clock; None where that is no curve."""
    clean, noisy = (float(process.log_snr(end)) for end in process.time_range)
    inside = np.flatnonzero((curve.log_snr <= clean) & (curve.log_snr >= noisy))
    if len(inside) < 4:
        return None
    return curve.part(slice(inside[0], inside[-1] + 1)).on(process)


def _time(point: Estimate, process: DiffusionProcess) -> Estimate | None:
    try:
        return SpeciationPoint(point).on(process)
    except ValueError:
        return None


def _sigma(log_snr: Estimate) -> Estimate:
    """`exp(-lambda / 2)` with its first-order error."""
    return log_snr.map(lambda level: np.exp(-np.asarray(level) / 2))


def read_off(curve: EntropyCurve, process: DiffusionProcess | None = None) -> dict[str, Any]:
    """The numbers that a summary of a curve names; None where the curve has none.

    A curve that is flat has no peak, and one whose grid ends inside the window has no window.
    """
    gained = curve.prior_entropy - float(curve.entropy.value[0])
    found: dict[str, Any] = {
        "prior H(C)": curve.prior_entropy,
        f"H at λ = {curve.log_snr[0]:.1f}".replace("-", "−"): curve.entropy[0],
        f"H at λ = {curve.log_snr[-1]:.1f}".replace("-", "−"): curve.entropy[-1],
    }
    peak = curve.peak() if gained > 1e-9 else None
    try:
        window = curve.window(MASS) if peak else None
    except ValueError:
        window = None
    found["peak, λ"] = peak and peak.log_snr
    found["peak, σ/α"] = peak and _sigma(peak.log_snr)
    found["peak, −dH/dλ"] = peak and peak.rate
    found["peaks of −dH/dλ, λ (share)"] = curve.peaks() if peak else None
    found["80 % window, λ"] = window and (window.high, window.low)
    found["80 % window, σ/α"] = window and (_sigma(window.high), _sigma(window.low))
    if process is None:
        return found
    clocked = reachable(curve, process)
    found["peak of −dH/dλ, t"] = peak and _time(peak.log_snr, process)
    times = window and (_time(window.high, process), _time(window.low, process))
    found["80 % window, t"] = times if times and None not in times else None
    found["peak of dH/dt, t"] = clocked.peak().time if clocked and peak else None
    found["peak of dH/dt"] = clocked.peak().rate if clocked and peak else None
    found["peaks of dH/dt, t (share)"] = clocked.peaks() if clocked and peak else None
    return found


def _shown(value: Any) -> str:
    if value is None or value == ():
        return NONE
    if isinstance(value, tuple) and isinstance(value[0], Peak | ClockedPeak):
        return ", ".join(
            f"{_short(one.log_snr if isinstance(one, Peak) else one.time)} ({float(one.share.value):.0%})"
            for one in value
        )
    if isinstance(value, tuple):
        # Estimates of both ends: their errors are in the result, the table keeps to the width.
        return " … ".join(map(_short, value))
    return format_estimate(value)


def _short(value: Estimate) -> str:
    return f"{float(value.value):.3g}".replace("-", "−")


def curve_table(summaries: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> Table:
    """One column a level, one row a quantity of `read_off`; nats, and per unit of λ or t."""
    quantities = list(next(iter(summaries.values())))
    rows = [[q, *(_shown(numbers[q]) for numbers in summaries.values())] for q in quantities]
    return Table(["nats", *summaries], [*rows, ["method", *methods]])


def times_tables(
    criteria: Mapping[str, SpeciationTimes], process: DiffusionProcess
) -> dict[str, Table]:
    """One table a level: criterion, log-SNR, noise scale, time; what parts there, or why there is none."""
    headers = ["criterion", "log-SNR λ", "σ/α", f"t, {type(process).__name__}", "remark"]
    return {
        level: Table(
            headers, [[name, *_point(point, process)] for name, point in times.points().items()]
        )
        for level, times in criteria.items()
    }


def _point(point: SpeciationPoint, process: DiffusionProcess) -> list[str]:
    if point.log_snr is None:
        return [NONE, NONE, NONE, point.reason or NONE]
    time = _time(point.log_snr, process)
    reached = format_estimate(time) if time is not None else "out of its range"
    place = point.log_snr
    return [format_estimate(place), format_estimate(_sigma(place)), reached, point.note or ""]


def times_result(
    criteria: Mapping[str, SpeciationTimes], process: DiffusionProcess
) -> dict[str, dict[str, Any]]:
    """The same as data: per level and criterion its log-SNR, sigma, time, reason, note and splits."""

    def entry(point: SpeciationPoint) -> dict[str, Any]:
        place = point.log_snr
        return {
            "log_snr": place,
            "sigma": None if place is None else _sigma(place),
            "time": None if place is None else _time(place, process),
            "reason": point.reason,
            "note": point.note,
            "splits": point.splits,  # components on the sides of each
        }

    return {
        level: {name: entry(point) for name, point in times.points().items()}
        for level, times in criteria.items()
    }
