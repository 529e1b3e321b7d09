"""Pictures of results. Plots take results and recompute nothing.

style         palette, panels, the noise axis, bands; shared by every picture
curves        entropy curves on the noise axis and on a clock
hopfield      branches and transitions of a modern Hopfield network
asymptotics   laws of large dimension and of many classes
published     published experiments beside the exact result
guidance      guided cross-entropies, where an interval pays, where negative prompting fails
benchmark     estimators of the class entropy against each other
"""

from gmm_speciation.plotting.asymptotics import (
    plot_class_criteria,
    plot_clock_windows,
    plot_limit,
    plot_scaling,
)
from gmm_speciation.plotting.benchmark import plot_heat_map, plot_log_law, plot_sizes
from gmm_speciation.plotting.curves import plot_clock, plot_curve
from gmm_speciation.plotting.guidance import plot_divergence, plot_guided, plot_interval_gain
from gmm_speciation.plotting.hopfield import plot_bifurcations, plot_loops, plot_transitions
from gmm_speciation.plotting.published import (
    plot_clones,
    plot_cloning,
    plot_four_points,
    plot_hierarchy,
)
from gmm_speciation.plotting.style import (
    COLOURS,
    DASHES,
    STYLE,
    UNITS,
    Axes,
    Figure,
    band,
    mark_exits,
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
    "mark_exits",
    "noise_axis",
    "panels",
    "plot_bifurcations",
    "plot_class_criteria",
    "plot_clock",
    "plot_clock_windows",
    "plot_clones",
    "plot_cloning",
    "plot_curve",
    "plot_divergence",
    "plot_four_points",
    "plot_guided",
    "plot_heat_map",
    "plot_hierarchy",
    "plot_interval_gain",
    "plot_limit",
    "plot_log_law",
    "plot_loops",
    "plot_scaling",
    "plot_sizes",
    "plot_transitions",
    "save",
    "styled",
]
