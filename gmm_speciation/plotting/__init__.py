"""Pictures of results. Plots take results and recompute nothing.

style       palette, panels, the noise axis, bands; shared by every picture
asymptotics laws of large dimension and of many classes
benchmark   estimators of the class entropy against each other
curves      entropy curves on the noise axis and on a clock
hopfield    branches and transitions of a modern Hopfield network
"""

from gmm_speciation.plotting.asymptotics import plot_class_criteria, plot_limit, plot_scaling
from gmm_speciation.plotting.benchmark import plot_against, plot_front, plot_heat_map
from gmm_speciation.plotting.curves import plot_clock, plot_curve
from gmm_speciation.plotting.hopfield import plot_bifurcations, plot_transitions
from gmm_speciation.plotting.style import (
    COLOURS,
    DASHES,
    STYLE,
    UNITS,
    Axes,
    Figure,
    band,
    noise_axis,
    panels,
    save,
    styled,
)

__all__ = [
    "COLOURS",
    "DASHES",
    "STYLE",
    "UNITS",
    "Axes",
    "Figure",
    "band",
    "noise_axis",
    "panels",
    "plot_against",
    "plot_bifurcations",
    "plot_class_criteria",
    "plot_clock",
    "plot_curve",
    "plot_front",
    "plot_heat_map",
    "plot_limit",
    "plot_scaling",
    "plot_transitions",
    "save",
    "styled",
]
