"""Pictures of guidance: the cross-entropy along guided trajectories, and where an interval pays."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm_speciation.estimate import Estimate
from gmm_speciation.guidance import GuidedCurve, IntervalGain
from gmm_speciation.plotting.style import COLOURS, DASHES, band, finish, noise_axis, panels, styled


@styled()
def plot_guided(
    curves: Mapping[float, GuidedCurve],
    points: Mapping[str, tuple[float, GuidedCurve]] | None = None,
    window: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Cross-entropy and its rate per unit log kappa for several scales, noise on the right.

    Args:
        curves: Closed forms by scale, on the clock kappa.
        points: By name, a scale and a simulated curve on the same clock, drawn with 95 % bars.
        window: Kappas between which the unguided class gives up most of its information; shaded.
        title: Above the picture.

    Raises:
        ValueError: If there is no curve, or one is on another clock.
    """
    if not curves:
        raise ValueError("There must be at least one guided curve to plot; got none.")
    every = [*curves.values(), *(curve for _, curve in (points or {}).values())]
    if other := {curve.clock_name for curve in every} - {"kappa"}:
        raise ValueError(f"Guided curves are drawn on the clock kappa; got one on {other.pop()}.")
    colour = {scale: COLOURS[i % len(COLOURS)] for i, scale in enumerate(curves)}
    figure, (upper, lower) = panels((1.25, 1.0))
    for scale, curve in curves.items():
        style: dict[str, Any] = {"color": colour[scale]}
        upper.plot(
            curve.clock, curve.cross_entropy.value, label=f"guidance scale {scale:g}", **style
        )
        lower.plot(curve.clock, curve.clock * curve.rate.value, **style)
    for marker, (name, (scale, curve)) in zip(cycle("osD^v"), (points or {}).items()):
        upper.errorbar(
            curve.clock,
            np.asarray(curve.cross_entropy.value),
            yerr=curve.cross_entropy.half_width(),
            fmt=marker,
            color=colour.get(scale, "#222222"),
            markersize=4,
            capsize=2,
            elinewidth=1,
            label=f"simulated, {name}",
            markerfacecolor="white",
            zorder=3,
        )
    _shaded(upper, lower, window)
    lower.set_xscale("log")
    ends = [(curve.clock.min(), curve.clock.max()) for curve in curves.values()]
    lower.set_xlim(max(most for _, most in ends), min(least for least, _ in ends))
    lower.set_xlabel("κ = α²|m|²/(σ² + α²s²)        signal  →  noise")
    upper.set_ylabel("cross-entropy CE\nE[−log p(c|x)]  [nats]")
    lower.set_ylabel("its rate −κ dCE/dκ\n[nats]")
    upper.set_ylim(bottom=0)
    return finish(figure, upper, title)


def _shaded(upper: Axes, lower: Axes, window: tuple[float, float] | None) -> None:
    """The window in both panels, named once."""
    if window is not None:
        for axes, label in ((upper, "most of the unguided information"), (lower, None)):
            axes.axvspan(*window, color="#888888", alpha=0.13, linewidth=0, label=label)


@styled()
def plot_interval_gain(
    gains: Sequence[IntervalGain],
    window: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """What guidance in one window of kappa is worth, per unit of w - 1, against the window's place.

    Args:
        gains: One a scale.
        window: Shaded, as in `plot_guided`.
        title: Above the picture.

    Raises:
        ValueError: If there is no gain, one is of scale 1, or they are read at different places.
    """
    if not gains:
        raise ValueError("There must be at least one gain to plot; got none.")
    if any(gain.scale == 1 for gain in gains) or len({gain.read_out for gain in gains}) > 1:
        raise ValueError(
            "Gains are drawn per unit of the scale less 1, read at one kappa; got scales "
            f"{[gain.scale for gain in gains]} at kappas {[gain.read_out for gain in gains]}."
        )
    figure, (upper, lower) = panels((1.0, 1.0))
    for index, gain in enumerate(gains):
        style: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "marker": "o",
            "markersize": 4,
            "linestyle": DASHES[index % len(DASHES)],
        }
        per = gain.scale - 1
        upper.plot(
            gain.place, gain.gain_per_kappa / per, label=f"guidance scale {gain.scale:g}", **style
        )
        lower.plot(gain.place, gain.shift_per_log_kappa / per, **style)
    _shaded(upper, lower, window)
    lower.set_xscale("log")
    lower.set_xlim(max(g.high[-1] for g in gains), min(g.low[0] for g in gains))
    lower.set_xlabel("κ of the guided window        signal  →  noise")
    upper.set_ylabel(
        f"fall of the cross-entropy at κ = {gains[0].read_out:g},\nper guided κ and scale − 1  [nats]"
    )
    lower.set_ylabel("shift of the commitment,\nper guided log κ and scale − 1")
    for axes in (upper, lower):
        axes.set_ylim(bottom=0)
    return finish(figure, upper, title)


@styled()
def plot_divergence(
    log_snr: Float[np.ndarray, " T"],
    divergence: Mapping[float, Estimate],
    information: Float[np.ndarray, " T"],
    title: str | None = None,
) -> Figure:
    """Where negative prompting leaves the distribution without the class, and where the class is decided.

    Args:
        log_snr: Levels, in any order.
        divergence: By strength, nats of path divergence per unit log-SNR.
        information: `-dH/dlambda` of "this class or another".
        title: Above the picture.
    """
    figure, (upper, lower) = panels((1.25, 0.8))
    for index, (strength, values) in enumerate(divergence.items()):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        label = f"strength {strength:g}"
        band(upper, log_snr, values, colour=colour, label=label, linestyle=dash)
    lower.plot(log_snr, information, color="#222222")
    upper.set_yscale("log")
    upper.set_ylabel("½σ²E|ŝ − s_¬c|²\n[nats per unit λ]")
    lower.set_ylabel("class decided\n−dH/dλ  [nats]")
    lower.set_ylim(bottom=0)
    noise_axis(upper, lower, log_snr)
    return finish(figure, upper, title)
