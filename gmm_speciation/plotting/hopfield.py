"""Pictures of a modern Hopfield network: its branches, and all transitions on the axis beta_eff."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm_speciation.checks import ArrayLike
from gmm_speciation.estimate import Estimate
from gmm_speciation.hopfield import (
    Branch,
    CriticalBetas,
    EntropicTransitions,
    Loop,
    PatternBifurcations,
)
from gmm_speciation.plotting.style import COLOURS, DASHES, band, finish, panels, plain_log, styled

Transitions = dict[str, float | Sequence[float] | Estimate | None]
_AXIS = "effective inverse temperature  β_eff = βδ²/2 = s        noise  →  signal"
_NARROW = 30.0  # ratio of the ends above which the axis is logarithmic
_CRITICAL = {"appearance": "appearance", "equal_energy": "equal energy", "stability": "stability"}


@styled()
def plot_bifurcations(
    found: Sequence[PatternBifurcations], predicted: CriticalBetas, largest: float
) -> Figure:
    """Overlap of the tracked branches with their pattern against beta_eff.

    Minima are solid, saddles dashed; the predicted critical values stand as vertical lines, the
    measured ones as points on the branches.

    Args:
        found: One entry a tracked pattern.
        predicted: Of equidistant patterns.
        largest: Right end of the axis.
    """
    first = min(value for value in vars(predicted).values() if value is not None) / 4
    figure, (axes,) = panels((1.6,))
    width = 1.8 if len(found) < 4 else 1.0
    for one in found:
        if one.branch is not None:
            _draw(axes, one.branch, COLOURS[0], width)
        _draw(axes, one.symmetric, COLOURS[1], width)
        _mark(axes, one)
    for index, (field, name) in enumerate(_CRITICAL.items()):
        value = getattr(predicted, field)
        style: dict[str, Any] = {"color": COLOURS[index + 2], "linestyle": DASHES[1:][index]}
        label = f"{name}, predicted {value:.4g}"
        axes.axvline(value, linewidth=1.4, label=label, **style)
    axes.plot([], [], color=COLOURS[0], label="pattern branch")
    axes.plot([], [], color=COLOURS[1], label="symmetric branch")
    axes.plot([], [], color="#777777", linestyle=DASHES[1], label="unstable")
    axes.plot([], [], "o", color="#222222", markersize=5, label="measured")
    _beta_axis(axes, first, largest)
    axes.set_ylabel("overlap with the pattern")
    return finish(figure, axes, None)


@styled()
def plot_loops(loops: Mapping[str, Loop]) -> Figure:
    """Overlap of retrieval swept up (dashed) and down (solid) in beta_eff, by name of the patterns.

    Raises:
        ValueError: If there is no loop.
    """
    if not loops:
        raise ValueError("`loops` must hold at least one loop; got none.")
    figure, (axes,) = panels((1.4,))
    for index, (name, loop) in enumerate(loops.items()):
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(loop.beta_eff, loop.down, color=colour, label=name)
        axes.plot(loop.beta_eff, loop.up, color=colour, linestyle=DASHES[1])
    for name, dashes in (("swept down, from the pattern", DASHES[0]), ("swept up", DASHES[1])):
        axes.plot([], [], color="0.4", linestyle=dashes, label=name)
    ends = np.array([loop.beta_eff[[0, -1]] for loop in loops.values()])
    _beta_axis(axes, ends.min(), ends.max())
    axes.set_ylabel("overlap with the pattern")
    return finish(figure, axes, None)


@styled()
def plot_transitions(
    predicted: Transitions,
    measured: Transitions,
    equidistant: EntropicTransitions,
    patterns: EntropicTransitions,
) -> Figure:
    """Class entropy above, every transition below, on the one axis `s = beta_eff`.

    Args:
        predicted: beta_eff of equidistant patterns by the name of the transition.
        measured: The same of the patterns at hand; several values where patterns differ.
        equidistant: Whose entropy to draw as the prediction.
        patterns: Whose entropy to draw as measured.
    """
    figure, (upper, lower) = panels((1.0, 1.0))
    for one, name, colour, dash in (
        (equidistant, "equidistant classes", COLOURS[0], "-"),
        (patterns, "empirical mixture of the patterns", COLOURS[1], DASHES[1]),
    ):
        curve = one.curve
        band(
            upper,
            np.exp(curve.log_snr),
            curve.entropy,
            colour=colour,
            linestyle=dash,
            label=name,
            scale=1 / curve.prior_entropy,
        )
    names = list(predicted)
    for row, name in enumerate(names):
        _row(lower, row, predicted[name], COLOURS[0], "D", filled=False)
        _row(lower, row, measured.get(name), COLOURS[1], "o", filled=True)
        if isinstance(value := predicted[name], float):
            for axes in (upper, lower):
                axes.axvline(value, color="#999999", linewidth=1.0, linestyle=DASHES[2])
    lower.plot(
        [], [], "D", color=COLOURS[0], markerfacecolor="none", label="equidistant, predicted"
    )
    lower.plot([], [], "o", color=COLOURS[1], markersize=5, label="measured")
    lower.set_yticks(range(len(names)), labels=names)
    lower.set_ylim(len(names) - 0.5, -0.5)
    lower.grid(visible=False, axis="x")
    upper.set_ylabel("entropy left  H/log N")
    upper.set_ylim(0, 1.02)
    places = np.concatenate([_places(v) for t in (predicted, measured) for v in t.values()])
    upper.set_xscale("log")
    _beta_axis(lower, min(0.3, places.min() / 2), 1.4 * places.max())
    handles, labels = (
        above + below
        for above, below in zip(
            upper.get_legend_handles_labels(), lower.get_legend_handles_labels(), strict=True
        )
    )
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return figure


def _beta_axis(axes: Axes, first: float, last: float) -> None:
    if axes.get_xscale() == "log" or last > _NARROW * first:
        axes.set_xscale("log")
        plain_log(axes.xaxis)
    axes.set_xlim(first, last)
    axes.set_xlabel(_AXIS)


def _draw(axes: Axes, branch: Branch, colour: str, width: float) -> None:
    """A branch, solid where stable; pieces share their ends, so that it has no gaps."""
    stable = np.asarray(branch.stable)
    cuts = np.flatnonzero(np.diff(stable)) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(stable)], strict=True):
        piece = slice(max(start - 1, 0), stop)
        axes.plot(
            branch.beta_eff[piece],
            branch.overlap[piece],
            color=colour,
            linewidth=width if stable[start] else 0.7 * width,
            linestyle="-" if stable[start] else DASHES[1],
        )


def _mark(axes: Axes, one: PatternBifurcations) -> None:
    """The measured values on the branches on which they happen."""
    for value, branch in (
        (one.betas.appearance, one.branch),
        (one.betas.equal_energy, one.branch),
        (one.betas.stability, one.symmetric),
    ):
        if value is None or branch is None:
            continue
        stable = np.asarray(branch.stable)
        lost = int(np.argmin(stable)) if not stable.all() else len(stable)
        beta, overlap = branch.beta_eff[: lost + 1], branch.overlap[: lost + 1]
        order = np.argsort(beta)
        height = np.interp(value, beta[order], overlap[order])
        axes.plot(value, height, "o", color="#222222", markersize=5, zorder=5)


def _places(value: ArrayLike | Estimate | None) -> np.ndarray:
    if value is None:
        return np.array([])
    return np.atleast_1d(np.asarray(value.value if isinstance(value, Estimate) else value, float))


def _row(
    axes: Axes,
    row: int,
    value: float | Sequence[float] | Estimate | None,
    colour: str,
    marker: str,
    filled: bool,
) -> None:
    places = _places(value)
    if isinstance(value, Estimate):
        low, high = value.interval()
        axes.plot([float(low), float(high)], [row, row], color=colour, linewidth=1.5)
    axes.plot(
        places,
        np.full(len(places), float(row)),
        linestyle="none",
        marker=marker,
        color=colour,
        markersize=5 if filled else 9,
        markerfacecolor=colour if filled else "none",
    )
