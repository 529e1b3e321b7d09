"""Pictures of entropy curves: entropy above, rate below, on one noise axis or on a clock."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm_speciation.curves import ClockedCurve, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.plotting.style import (
    COLOURS,
    DASHES,
    band,
    finish,
    noise_axis,
    panels,
    styled,
    unit_scale,
)
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.speciation import SpeciationPoint, SpeciationTimes

_NOTE = 16  # characters of a note that the legend has room for
Curves = EntropyCurve | Mapping[str, EntropyCurve]
Marks = SpeciationTimes | Mapping[str, SpeciationPoint | Estimate | float]


@styled()
def plot_curve(
    curves: Curves,
    process: DiffusionProcess | None = None,
    speciation: Marks | None = None,
    unit: str = "nats",
    title: str | None = None,
) -> Figure:
    """Entropy above, its rate per unit log-SNR below, on one noise axis.

    Args:
        curves: One curve, or several by name.
        process: Adds an axis of its times.
        speciation: What to mark: all criteria, or points or log-SNR by name.
        unit: "nats" or "bits".
        title: Above the picture.

    Raises:
        ValueError: If there is no curve or the unit is unknown.
    """
    named = _named(curves)
    scale = unit_scale(unit)
    marks = _marks(speciation)
    figure, (upper, lower) = panels((1.0, 1.0))
    for index, (name, curve) in enumerate(named.items()):
        colour = COLOURS[index % len(COLOURS)]
        dash = DASHES[index // len(COLOURS) % len(DASHES)]
        line: dict[str, Any] = {"colour": colour, "scale": scale, "linestyle": dash}
        band(upper, curve.log_snr, curve.entropy, label=name, **line)
        band(lower, curve.log_snr, curve.rate, **line)
        prior = scale * curve.prior_entropy
        upper.axhline(prior, color=colour, linewidth=1.0, linestyle=":")
        whole = not np.isnan([curve.entropy.value, curve.rate.value]).any()  # else it has gaps
        if whole and curve.prior_entropy - curve.entropy.value[0] > 1e-9:  # else it is flat
            _mark_window(upper, lower, curve, colour, index, len(named))
            _mark_peaks(lower, curve, colour, scale)
    for index, (label, place) in enumerate(marks.items(), start=len(named)):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[1:][index % (len(DASHES) - 1)]
        upper.axvline(place, color=colour, linestyle=dash, linewidth=1.4, label=label)
        lower.axvline(place, color=colour, linestyle=dash, linewidth=1.4)
    _legend_keys(upper)
    upper.set_ylabel(f"class entropy H(C|X)  [{unit}]")
    lower.set_ylabel(f"rate −dH/dλ  [{unit}]")
    upper.set_ylim(bottom=0)
    # Room above the rates for the bars of the windows.
    lower.set_ylim(0, lower.get_ylim()[1] * (1 + 0.04 * (len(named) if len(named) > 1 else 0)))
    grids = np.concatenate([curve.log_snr for curve in named.values()])
    noise_axis(upper, lower, grids, process)
    return finish(figure, upper, title)


@styled()
def plot_clock(clocked: ClockedCurve | Mapping[str, ClockedCurve], unit: str = "nats") -> Figure:
    """Entropy above and `dH/dt` below, against the time of one process.

    Raises:
        ValueError: If there is no curve, the unit is unknown, or the curves have several processes.
    """
    named = {"curve": clocked} if isinstance(clocked, ClockedCurve) else dict(clocked)
    scale = unit_scale(unit)
    if not named:
        raise ValueError("There must be at least one curve to plot; got none.")
    first = next(iter(named.values()))
    name = type(first.process).__name__
    if not all(eqx.tree_equal(curve.process, first.process) for curve in named.values()):
        kinds = ", ".join(sorted({type(curve.process).__name__ for curve in named.values()}))
        apart = kinds if kinds != name else f"{kinds} with different parameters"
        raise ValueError(f"The curves must be on one process's clock; got {apart}.")
    figure, (upper, lower) = panels((1.0, 1.0))
    for index, (label, curve) in enumerate(named.items()):
        colour = COLOURS[index % len(COLOURS)]
        band(upper, curve.times, curve.entropy, colour=colour, label=label, scale=scale)
        band(lower, curve.times, curve.rate, colour=colour, scale=scale)
        peaks = curve.peaks()
        for peak in peaks or (curve.peak(),):
            at = float(peak.time.value), scale * float(peak.rate.value)
            lower.plot(*at, "o", color=colour, markersize=6)
            if len(peaks) > 1:
                _say_share(lower, at, float(peak.share.value), colour)
    upper.set_ylabel(f"class entropy H(C|X)  [{unit}]")
    lower.set_ylabel(f"rate dH/dt  [{unit} per unit t]")
    starts, ends = zip(*((c.times[0], c.times[-1]) for c in named.values()), strict=True)
    if np.isinf(first.process.time_range[1]) and max(ends) > 50 * min(starts) > 0:
        lower.set_xscale("log")
        lower.xaxis.set_major_formatter("{x:g}")
    lower.set_xlim(min(starts), max(ends))
    lower.set_xlabel(f"time t of {name}        signal  →  noise")
    upper.set_ylim(bottom=0)
    lower.set_ylim(bottom=0)
    upper.plot([], [], "o", color="#777777", label="peaks of dH/dt")
    return finish(figure, upper, None)


def _named(curves: Curves) -> dict[str, EntropyCurve]:
    named = {"H(C|X)": curves} if isinstance(curves, EntropyCurve) else dict(curves)
    if not named:
        raise ValueError("There must be at least one curve to plot; got none.")
    return named


def _marks(speciation: Marks | None) -> dict[str, float]:
    """Log-SNR by label; criteria that are not defined have no place in a picture."""
    if speciation is None:
        return {}
    points = speciation.points() if isinstance(speciation, SpeciationTimes) else speciation
    marks = {}
    for name, point in points.items():
        place = point.log_snr if isinstance(point, SpeciationPoint) else point
        if place is None:
            continue
        value = float(place.value if isinstance(place, Estimate) else place)
        if not np.isfinite(value):
            continue
        sign = "−" if value < 0 else ""
        label = f"{name}, λ = {sign}{abs(value):.2f}"
        # Of a long note its beginning: "on a plateau", without the numbers.
        note = ((isinstance(point, SpeciationPoint) and point.note) or "").split(":")[0]
        marks[f"{label}: {note}" if 0 < len(note) <= _NOTE else label] = value
    return marks


def _mark_window(
    upper: Axes, lower: Axes, curve: EntropyCurve, colour: str, index: int, count: int
) -> None:
    """The 80 % window: shaded for one curve, a bar along the top for each of several."""
    try:
        window = curve.window(0.8)
    except ValueError:  # the grid ends inside it
        return
    ends = float(window.high.value), float(window.low.value)
    if count == 1:
        for axes in (upper, lower):
            axes.axvspan(*ends, color=colour, alpha=0.08, linewidth=0)
        return
    height = 1.0 - 0.03 * (index + 1)
    lower.plot(
        ends,
        [height, height],
        color=colour,
        linewidth=4,
        alpha=0.45,
        transform=lower.get_xaxis_transform(),
        solid_capstyle="butt",
    )


def _mark_peaks(lower: Axes, curve: EntropyCurve, colour: str, scale: float) -> None:
    """Dots at the peaks of the rate; where there are several, each says its share of the information."""
    peaks = curve.peaks()
    for peak in peaks or (curve.peak(),):
        place, height = float(peak.log_snr.value), scale * float(peak.rate.value)
        half = float(peak.log_snr.half_width())
        lower.errorbar(
            place, height, xerr=half, fmt="o", color=colour, markersize=6, capsize=2, linewidth=1.2
        )
        if len(peaks) > 1:
            _say_share(lower, (place, height), float(peak.share.value), colour)


def _say_share(axes: Axes, at: tuple[float, float], share: float, colour: str) -> None:
    text = axes.annotate(
        f"{share:.0%}",
        at,
        xytext=(7, 5),
        textcoords="offset points",
        color=colour,
        fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},
    )
    text.set_in_layout(False)  # it may stand above the panel


def _legend_keys(axes: Axes) -> None:
    axes.plot([], [], "o", color="#777777", markersize=6, label="peaks of the rate")
    axes.plot([], [], color="#777777", linewidth=6, alpha=0.3, label="80 % of the information")
    axes.plot([], [], color="#777777", linewidth=1.0, linestyle=":", label="prior entropy H(C)")
