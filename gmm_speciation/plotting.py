"""Pictures of entropy curves. Plots take results and recompute nothing.

The noise axis runs as the forward process does: signal on the left, noise on the right, so the
log-SNR decreases to the right. The scale above it is the noise per signal `exp(-log_snr / 2)`.
Figures are `matplotlib.figure.Figure` objects without global state; `save` writes them.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm_speciation.checks import ArrayLike
from gmm_speciation.curves import ClockedCurve, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.speciation import SpeciationPoint, SpeciationTimes

# Okabe & Ito's palette: its colours stay apart under every common colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
STYLE: dict[str, Any] = {
    "font.size": 10.0,
    "axes.labelsize": 10.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 160,
}
UNITS = {"nats": 1.0, "bits": float(1 / np.log(2))}
Curves = EntropyCurve | Mapping[str, EntropyCurve]
Marks = SpeciationTimes | Mapping[str, SpeciationPoint | Estimate | float]


def styled() -> AbstractContextManager[None]:
    """The house style, for the figures made inside the block."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


def panels(
    heights: Sequence[float], width: float = 8.2, unit: float = 2.6
) -> tuple[Figure, list[Axes]]:
    """A figure of panels above each other that share the horizontal axis, in the house style.

    Args:
        heights: Relative height of each panel, from the top.
        width: Inches.
        unit: Inches of a panel of height 1.
    """
    with styled():
        figure = Figure(figsize=(width, unit * sum(heights) + 0.9), layout="constrained")
        axes = figure.subplots(
            len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
    return figure, list(axes[:, 0])


def noise_axis(
    top: Axes, bottom: Axes, log_snr: ArrayLike, process: DiffusionProcess | None = None
) -> None:
    """Log-SNR below, decreasing to the right; noise scale above; a process's times under it."""
    ends = float(np.max(log_snr)), float(np.min(log_snr))
    with styled():
        bottom.set_xlim(*ends)
        bottom.set_xlabel("log-SNR  λ = log(α²/σ²)        signal  →  noise")
        sigma = np.exp(-np.array(ends) / 2)
        decades = 10.0 ** np.arange(np.floor(np.log10(sigma[0])), np.ceil(np.log10(sigma[1])) + 1)
        candidates = np.concatenate([decades, 2 * decades, 5 * decades])
        scale = top.secondary_xaxis("top")
        _ticks(scale, candidates, -2 * np.log(candidates), ends)
        scale.set_xlabel("noise per signal  σ/α = exp(−λ/2)", labelpad=6)
        if process is None:
            return
        times = _round_times(process, ends)
        clock = bottom.secondary_xaxis(-0.34)
        _ticks(clock, times, np.asarray(process.log_snr(times)), ends)
        clock.set_xlabel(f"time t of {type(process).__name__}")


def _round_times(process: DiffusionProcess, ends: tuple[float, float]) -> Float[np.ndarray, " N"]:
    """Times worth a tick, the roundest first."""
    first, last = process.time_range
    leading = [100, 200, 500, 300, 400, 600, 800, 700, 900]
    digits = np.concatenate([leading, np.arange(150, 1000, 100), np.arange(110, 1000, 10)])
    times = np.outer([*digits, 995, 998], 10.0 ** np.arange(-8, 5)).ravel()
    times = times[(times > first) & (times <= last)]
    log_snr = np.asarray(process.log_snr(times))
    return times[(log_snr <= ends[0]) & (log_snr >= ends[1])]


def _ticks(axis: Any, values: np.ndarray, positions: np.ndarray, ends: tuple[float, float]) -> None:
    """Ticks at those of `positions` that leave room for their labels; earlier ones win."""
    kept: dict[float, str] = {}
    for value, place in zip(values, positions, strict=True):
        share = (place - ends[0]) / (ends[1] - ends[0])
        if -1e-9 <= share <= 1 + 1e-9 and all(
            abs(place - other) > 0.075 * abs(ends[1] - ends[0]) for other in kept
        ):
            kept[float(place)] = f"{value:.6g}"
    axis.set_ticks(list(kept), labels=list(kept.values()))


def band(
    axes: Axes,
    x: ArrayLike,
    estimate: Estimate,
    *,
    colour: str,
    label: str | None = None,
    scale: float = 1.0,
    **line: Any,
) -> None:
    """A line through an array of estimates, with its 95 % band."""
    low, high = estimate.interval()
    axes.plot(x, scale * np.asarray(estimate.value), color=colour, label=label, **line)
    axes.fill_between(x, scale * low, scale * high, color=colour, alpha=0.22, linewidth=0)


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
    scale = _unit(unit)
    marks = _marks(speciation)
    figure, (upper, lower) = panels((1.0, 1.0))
    with styled():
        for index, (name, curve) in enumerate(named.items()):
            colour = COLOURS[index % len(COLOURS)]
            dash = DASHES[index // len(COLOURS) % len(DASHES)]
            band(
                upper,
                curve.log_snr,
                curve.entropy,
                colour=colour,
                label=name,
                scale=scale,
                linestyle=dash,
            )
            band(lower, curve.log_snr, curve.rate, colour=colour, scale=scale, linestyle=dash)
            prior = scale * curve.prior_entropy
            upper.axhline(prior, color=colour, linewidth=1.0, linestyle=":")
            if curve.prior_entropy - curve.entropy.value[0] > 1e-9:  # else it is flat
                _mark_window(upper, lower, curve, colour, index, len(named))
                _mark_peak(lower, curve, colour, scale)
        for index, (name, place) in enumerate(marks.items(), start=len(named)):
            _mark_point(upper, lower, name, place, index)
        _legend_keys(upper)
        upper.set_ylabel(f"class entropy H(C|X)  [{unit}]")
        lower.set_ylabel(f"rate −dH/dλ  [{unit}]")
        upper.set_ylim(bottom=0)
        # Room above the rates for the bars of the windows.
        lower.set_ylim(0, lower.get_ylim()[1] * (1 + 0.04 * (len(named) if len(named) > 1 else 0)))
        grids = np.concatenate([curve.log_snr for curve in named.values()])
        noise_axis(upper, lower, grids, process)
        _finish(figure, upper, title)
    return figure


def plot_clock(clocked: ClockedCurve | Mapping[str, ClockedCurve], unit: str = "nats") -> Figure:
    """Entropy above and `dH/dt` below, against the time of one process.

    Raises:
        ValueError: If there is no curve, the unit is unknown, or the curves have several processes.
    """
    named = {"curve": clocked} if isinstance(clocked, ClockedCurve) else dict(clocked)
    scale = _unit(unit)
    processes = {type(curve.process).__name__ for curve in named.values()}
    if len(processes) != 1:
        raise ValueError(f"The curves must be on one process's clock; got {sorted(processes)}.")
    figure, (upper, lower) = panels((1.0, 1.0))
    with styled():
        for index, (name, curve) in enumerate(named.items()):
            colour = COLOURS[index % len(COLOURS)]
            band(upper, curve.times, curve.entropy, colour=colour, label=name, scale=scale)
            band(lower, curve.times, curve.rate, colour=colour, scale=scale)
            peak = curve.peak()
            lower.plot(peak.time.value, scale * peak.rate.value, "o", color=colour, markersize=6)
        upper.set_ylabel(f"class entropy H(C|X)  [{unit}]")
        lower.set_ylabel(f"rate dH/dt  [{unit} per unit t]")
        first = next(iter(named.values()))
        starts, ends = zip(*((c.times[0], c.times[-1]) for c in named.values()), strict=True)
        if np.isinf(first.process.time_range[1]) and max(ends) > 50 * min(starts) > 0:
            lower.set_xscale("log")
            lower.xaxis.set_major_formatter("{x:g}")
        lower.set_xlim(min(starts), max(ends))
        lower.set_xlabel(f"time t of {processes.pop()}        signal  →  noise")
        upper.set_ylim(bottom=0)
        lower.set_ylim(bottom=0)
        upper.plot([], [], "o", color="#777777", label="peak of dH/dt")
        _finish(figure, upper, None)
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure; the suffix of `path` chooses the format. Returns the path."""
    with styled():
        figure.savefig(path)
    return Path(path)


def _named(curves: Curves) -> dict[str, EntropyCurve]:
    named = {"H(C|X)": curves} if isinstance(curves, EntropyCurve) else dict(curves)
    if not named:
        raise ValueError("There must be at least one curve to plot; got none.")
    return named


def _unit(unit: str) -> float:
    if unit not in UNITS:
        raise ValueError(f"`unit` must be one of {', '.join(UNITS)}; got {unit!r}.")
    return UNITS[unit]


def _marks(speciation: Marks | None) -> dict[str, float]:
    """Log-SNR by name; criteria that are not defined have no place in a picture."""
    if speciation is None:
        return {}
    points = speciation.points() if isinstance(speciation, SpeciationTimes) else speciation
    places = {
        name: point.log_snr if isinstance(point, SpeciationPoint) else point
        for name, point in points.items()
    }
    return {
        name: float(place.value if isinstance(place, Estimate) else place)
        for name, place in places.items()
        if place is not None
    }


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


def _mark_peak(lower: Axes, curve: EntropyCurve, colour: str, scale: float) -> None:
    peak = curve.peak()
    place = float(peak.log_snr.value)
    half = place - float(peak.log_snr.interval()[0])
    lower.errorbar(
        place,
        scale * float(peak.rate.value),
        xerr=half,
        fmt="o",
        color=colour,
        markersize=6,
        capsize=2,
        linewidth=1.2,
    )


def _mark_point(upper: Axes, lower: Axes, name: str, place: float, index: int) -> None:
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[1:][index % (len(DASHES) - 1)]
    for axes in (upper, lower):
        axes.axvline(place, color=colour, linestyle=dash, linewidth=1.4)
    sign = "−" if place < 0 else ""
    label = f"{name}, λ = {sign}{abs(place):.2f}"
    upper.plot([], [], color=colour, linestyle=dash, linewidth=1.4, label=label)


def _legend_keys(axes: Axes) -> None:
    axes.plot([], [], "o", color="#777777", markersize=6, label="peak of the rate")
    axes.plot([], [], color="#777777", linewidth=6, alpha=0.3, label="80 % of the information")
    axes.plot([], [], color="#777777", linewidth=1.0, linestyle=":", label="prior entropy H(C)")


def _finish(figure: Figure, upper: Axes, title: str | None) -> None:
    """One legend in rows over the panels, where it hides nothing."""
    figure.align_ylabels()
    handles, labels = upper.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, title=title, alignment="left")
