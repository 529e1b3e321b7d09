"""The house style: palette, panels, the noise axis, bands, and the legend above a picture.

The noise axis runs as the forward process does: signal on the left, noise on the right, so the
log-SNR decreases to the right. The scale above it is the noise per signal `exp(-log_snr / 2)`.
Figures are `matplotlib.figure.Figure` objects without global state; `save` writes them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gmm_speciation.checks import ArrayLike
from gmm_speciation.estimate import Estimate
from gmm_speciation.processes import DiffusionProcess

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


@contextmanager
def styled() -> Iterator[None]:
    """The house style, for the figures made inside the block, or in the function that it decorates."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        yield


@styled()
def panels(
    heights: Sequence[float], width: float = 8.2, unit: float = 2.6
) -> tuple[Figure, list[Axes]]:
    """A figure of panels above each other that share the horizontal axis, in the house style.

    Args:
        heights: Relative height of each panel, from the top.
        width: Inches.
        unit: Inches of a panel of height 1.
    """
    figure = Figure(figsize=(width, unit * sum(heights) + 0.9), layout="constrained")
    axes = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    return figure, list(axes[:, 0])


@styled()
def noise_axis(
    top: Axes, bottom: Axes, log_snr: ArrayLike, process: DiffusionProcess | None = None
) -> None:
    """Log-SNR below, decreasing to the right; noise scale above; a process's times under it."""
    ends = float(np.max(np.asarray(log_snr))), float(np.min(np.asarray(log_snr)))
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


def plain_log(axis: Any, subs: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Numbers of a logarithmic axis as they are spoken, 3 and not 3 × 10⁰, at `subs` of each decade."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


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
    x = np.asarray(x)
    axes.plot(x, scale * np.asarray(estimate.value), color=colour, label=label, **line)
    axes.fill_between(x, scale * low, scale * high, color=colour, alpha=0.22, linewidth=0)


def mark_exits(axes: Axes) -> None:
    """A triangle in a line's colour where it leaves the frame through the top or the bottom.

    Called when the limits are set: a bound that explodes is cut, and the picture says so.
    """
    ends = axes.get_ylim()
    for line in list(axes.get_lines()):
        x, y = (np.asarray(part, float) for part in line.get_data())
        if len(x) < 3:  # a rule, no curve
            continue
        for edge, marker, beyond in zip(ends, "v^", (y < ends[0], y > ends[1]), strict=True):
            for index in np.flatnonzero(beyond[1:] != beyond[:-1]):
                share = (edge - y[index]) / (y[index + 1] - y[index])
                axes.plot(
                    x[index] + share * (x[index + 1] - x[index]),
                    edge,
                    marker=marker,
                    color=line.get_color(),
                    markersize=6,
                    clip_on=False,
                    zorder=5,
                )


def unit_scale(unit: str) -> float:
    """What turns nats into `unit`.

    Raises:
        ValueError: If there is no such unit.
    """
    if unit not in UNITS:
        raise ValueError(f"`unit` must be one of {', '.join(UNITS)}; got {unit!r}.")
    return UNITS[unit]


@styled()
def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure; the suffix of `path` chooses the format. Returns the path."""
    figure.savefig(path)
    return Path(path)


def legend_above(
    figure: Figure,
    title: str | None = None,
    ncols: int = 2,
    axes: Axes | None = None,
    **options: Any,
) -> None:
    """One legend in rows over the panels, where it hides nothing; of one panel only, if given.

    Its columns are as many as asked for, or as few as the width of the figure has room for.
    """
    of = () if axes is None else axes.get_legend_handles_labels()
    where: dict[str, Any] = {"loc": "outside upper left", "alignment": "left"}
    for columns in range(ncols, 0, -1):
        legend = figure.legend(*of, **where, ncols=columns, title=title, **options)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def finish(figure: Figure, upper: Axes, title: str | None, ncols: int = 3) -> Figure:
    """The figure with its labels in line, and the legend of the upper panel over all of them."""
    figure.align_ylabels()
    legend_above(figure, title, ncols, upper)
    return figure
