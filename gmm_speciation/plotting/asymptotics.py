"""Pictures of the laws of large dimension and of many classes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gmm_speciation.asymptotics import ClassCriteria, ClockWindows, LimitCurve, ScalingFit
from gmm_speciation.curves import ClockedCurve
from gmm_speciation.plotting.style import COLOURS, DASHES, finish, legend_above, panels, styled

_CRITERIA = {
    "spectral": ("spectral", "s"),
    "curvature": ("curvature of log p", "x"),
    "cloning": ("cloning", "^"),
    "entropic_peak": ("entropic peak", "o"),
    "half_entropy": ("half entropy", "D"),
}
_GUIDES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "K": lambda k: k,
    "2 log K": lambda k: 2 * np.log(k),
    "log K": np.log,
}


@styled()
def plot_class_criteria(criteria: ClassCriteria) -> Figure:
    """Where five criteria stand on the axis s as the number of equidistant classes grows.

    Args:
        criteria: At two or more numbers of classes, in growing order.
    """
    counts = criteria.num_classes
    figure, (axes,) = panels((1.7,))
    for index, (field, (name, marker)) in enumerate(_CRITERIA.items()):
        axes.loglog(
            counts,
            getattr(criteria, field),
            marker=marker,
            markersize=6 - 2 * (marker == "x"),
            color=COLOURS[index],
            label=name,
            markerfacecolor="none" if marker == "s" else None,
        )
    fine = np.geomspace(counts[0], counts[-1], 200)
    for (name, guide), dash in zip(_GUIDES.items(), DASHES[1:], strict=True):
        axes.loglog(
            fine,
            guide(fine),
            color="#222222",
            linewidth=1.1,
            linestyle=dash,
            label=f"s = {name}",
            zorder=2.5,
        )
    axes.set_xlim(counts[0] / 1.2, 1.2 * counts[-1])
    axes.set_xlabel("number of equidistant classes K")
    axes.set_ylabel("s = α²δ²/2v        noise  →  signal")
    return finish(
        figure,
        axes,
        "Spectral and curvature criteria say s = K; the entropy decides between log K and 2 log K",
    )


@styled()
def plot_limit(
    law: LimitCurve, curves: Mapping[str, tuple[ClockedCurve, float]], title: str | None = None
) -> Figure:
    """Curves of finite dimension around their speciation time, on the law they tend to.

    Args:
        law: The limit.
        curves: By name, a curve on the Ornstein-Uhlenbeck clock and its t_S.
        title: Above the picture.
    """
    figure, (upper, lower) = panels((1.0, 1.0))
    for index, (name, (curve, time)) in enumerate(curves.items()):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        style: dict[str, Any] = {"color": colour, "linestyle": dash}
        upper.plot(curve.times - time, curve.entropy.value, label=name, **style)
        lower.plot(curve.times - time, curve.rate.value, **style)
    behind: dict[str, Any] = {"color": "#222222", "linewidth": 5.0, "alpha": 0.22, "zorder": 1}
    upper.plot(law.offset, law.entropy, label="law, d → ∞", **behind)
    lower.plot(law.offset, law.rate, **behind)
    upper.axhline(np.log(2), color="#777777", linewidth=1.0, linestyle=":")
    for axes in (upper, lower):
        axes.set_ylim(bottom=0)
    upper.set_ylabel("class entropy H(C|X)  [nats]")
    lower.set_ylabel("rate dH/dt  [nats per unit t]")
    lower.set_xlim(float(np.min(law.offset)), float(np.max(law.offset)))
    lower.set_xlabel("time from speciation  t − t_S        signal  →  noise")
    return finish(figure, upper, title)


@styled()
def plot_clock_windows(windows: ClockWindows, title: str | None = None) -> Figure:
    """The entropic window against the dimension: in t / t_S it closes, in sigma / sigma^* it does not.

    Args:
        windows: At two or more dimensions, in growing order.
        title: Above the picture.
    """
    figure, (upper, lower) = panels((1.0, 1.0))
    share = f"central {windows.mass:.0%} of the information"
    clocks = (
        (upper, windows.vp, "VP: t/t_S", f"{share}, width ∝ 1/log d in t/t_S"),
        (lower, windows.ve, "VE: σ/σ*", f"{share}, width → {windows.ve_law:.3f} in σ/σ*"),
    )
    for (axes, window, label, text), colour in zip(clocks, COLOURS, strict=False):
        low, high = window.T
        axes.fill_between(windows.dim, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(windows.dim, low, color=colour)
        axes.plot(windows.dim, high, color=colour)
        upper.plot([], [], color=colour, linewidth=6, alpha=0.4, label=text)
        axes.axhline(1.0, color="#777777", linewidth=1.0, linestyle=":")
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.1 * float(high.max()))
    upper.plot([], [], color="#777777", linewidth=1.0, linestyle=":", label="κ = 1")
    lower.set_xscale("log")
    lower.set_xlim(float(windows.dim[0]), float(windows.dim[-1]))
    lower.set_xlabel("dimension d")
    return finish(figure, upper, title, 2)


@styled()
def plot_scaling(fits: Mapping[str, ScalingFit], title: str | None = None) -> Figure:
    """Speciation times against log d with their fitted lines; the legend tells slopes with errors.

    Args:
        fits: By the name of the law or criterion.
        title: Above the picture.

    Raises:
        ValueError: If there is no fit.
    """
    if not fits:
        raise ValueError("There must be at least one fit to plot; got none.")
    figure, (axes,) = panels((1.7,))
    for index, (name, fit) in enumerate(fits.items()):
        colour = COLOURS[index % len(COLOURS)]
        dims = np.exp(fit.log_dim)
        half = float(fit.slope.half_width())
        error = f" ± {half:.1g}" if half > 1e-12 else ""
        # Adding 0 turns -0 into 0.
        label = f"{name}: slope {round(float(fit.slope.value), 4) + 0.0:.4f}{error}"
        axes.plot(dims, fit(dims), color=colour, linewidth=1.4, label=label)
        bars: dict[str, Any] = {"fmt": "o", "color": colour, "markersize": 5, "capsize": 2}
        axes.errorbar(dims, fit.times.value, yerr=fit.times.half_width(), **bars)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("dimension d")
    axes.set_ylabel("speciation time t_S  [Ornstein-Uhlenbeck]")
    legend_above(figure, title, 2, axes)
    return figure
