"""Pictures of published experiments beside the exact result."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure

from gmm_speciation.estimate import Estimate
from gmm_speciation.plotting.curves import plot_clock
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
from gmm_speciation.published import CloningFigure, DeepHierarchy, FourPoints


@runtime_checkable
class Clones(Protocol):
    """Agreement of clones on the noise axis: published, simulated, or of a trained network."""

    @property
    def log_snr(self) -> np.ndarray: ...

    @property
    def agreement(self) -> Estimate: ...


@styled()
def plot_clones(curves: Mapping[str, Clones]) -> Figure:
    """Probability that two clones end in one class against the noise where they part, with 95 % bands.

    Args:
        curves: By name: `published.trained_clones`, `speciation.simulate_cloning` and the
            agreement of clones of a model, in any mixture.

    Raises:
        ValueError: If there is no curve.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve; got none.")
    figure, (axes,) = panels((1.4,))
    for index, (name, curve) in enumerate(curves.items()):
        band(
            axes,
            curve.log_snr,
            curve.agreement,
            colour=COLOURS[index % len(COLOURS)],
            label=name,
            marker="o",
            markersize=3.5,
        )
    axes.set_ylabel("probability that clones end in one class")
    noise_axis(axes, axes, np.concatenate([np.asarray(one.log_snr) for one in curves.values()]))
    return finish(figure, axes, None)


@styled()
def plot_cloning(figure_of: CloningFigure) -> Figure:
    """Share of clones that end in one class: against the branch time, and against t / t_S.

    Lines are exact, points the equivalent single dimension, diamonds all d dimensions; bars are 95 %.
    """
    figure = Figure(figsize=(8.2, 6.6), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    for index, dim in enumerate(figure_of.dims):
        colour, speciation = COLOURS[index % len(COLOURS)], np.log(dim) / 2
        share = figure_of.projected[index]
        for axes, unit in ((upper, 1.0), (lower, speciation)):
            axes.plot(
                figure_of.line_times / unit, figure_of.line[index], color=colour, linewidth=1.4
            )
            _points(axes, figure_of.times / unit, share, "o", 3.5, colour)
            if dim in figure_of.full:
                run = figure_of.full[dim]
                _points(axes, run.times / unit, run.same_class, "D", 5.5, colour)
        upper.plot([], [], color=colour, label=f"d = {dim:,}")
        upper.axvline(speciation, color=colour, linewidth=0.9, linestyle=":")
    lower.axvline(1.0, color="#777777", linewidth=0.9, linestyle=":")
    upper.plot([], [], color="#777777", label="exact φ")
    upper.plot([], [], "o", color="#777777", markersize=3.5, label="one dimension, simulated")
    if figure_of.full:
        upper.plot(
            [],
            [],
            "D",
            color="#777777",
            markersize=5.5,
            markerfacecolor="none",
            label="all d dimensions, simulated",
        )
    upper.plot([], [], color="#777777", linewidth=0.9, linestyle=":", label="t_S = ½ log d")
    for axes in (upper, lower):
        axes.set_ylabel("share of clones in one class")
        axes.set_ylim(0.45, 1.02)
    upper.set_xlabel("branch time t  [Ornstein-Uhlenbeck]        signal  →  noise")
    lower.set_xlabel("t / t_S")
    return finish(
        figure, upper, "Clones part at t_S; in units of t_S the step sharpens like 1 / log d"
    )


@styled()
def plot_hierarchy(hierarchy: DeepHierarchy, unit: str = "nats") -> Figure:
    """Entropy of every level above, rate of its own decision below, with its speciation points.

    Raises:
        ValueError: If the unit is unknown.
    """
    scale = unit_scale(unit)
    figure, (upper, lower) = panels((1.0, 1.0))
    for index, (name, curve) in enumerate(hierarchy.entropies.items()):
        colour = COLOURS[index % len(COLOURS)]
        distance = hierarchy.distances[index]
        upper.plot(
            curve.log_snr,
            scale * np.asarray(curve.entropy.value),
            color=colour,
            label=f"{name}, {distance:g} apart",
        )
        decision = hierarchy.decisions[name]
        lower.plot(decision.log_snr, scale * np.asarray(decision.rate.value), color=colour)
        for criterion, dash in (("entropic peak", DASHES[1]), ("bifurcation", DASHES[2])):
            place = hierarchy.criteria[name][criterion].log_snr
            if place is not None:
                lower.axvline(float(place.value), color=colour, linewidth=1.2, linestyle=dash)
    for criterion, dash in (("entropic peak", DASHES[1]), ("bifurcation", DASHES[2])):
        upper.plot([], [], color="#777777", linewidth=1.2, linestyle=dash, label=criterion)
    upper.set_ylabel(f"H(level|X)  [{unit}]")
    lower.set_ylabel(f"rate of H(level|above, X)  [{unit}]")
    upper.set_ylim(bottom=0)
    lower.set_ylim(bottom=0)
    noise_axis(upper, lower, hierarchy.chain.log_snr)
    return finish(
        figure, upper, "Noise takes one level after the other, each at its own speciation"
    )


def plot_four_points(points: FourPoints, unit: str = "bits") -> Figure:
    """Entropy of every decision above, its rate per step of the schedule below.

    Raises:
        ValueError: If the unit is unknown.
    """
    return plot_clock(points.named(), unit)


def _points(axes, times, share, marker: str, size: float, colour: str) -> None:
    axes.errorbar(
        times,
        np.asarray(share.value),
        yerr=np.abs(np.array(share.interval()) - share.value),  # a share's has two lengths
        fmt=marker,
        color=colour,
        markersize=size,
        capsize=2,
        linewidth=1.0,
        markerfacecolor="none" if marker == "D" else colour,
    )
