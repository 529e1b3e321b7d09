"""Pictures of the benchmark: error against n, heat map of tasks, curves of a task; the log law."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from gmm_speciation.benchmark.boards import Board
from gmm_speciation.benchmark.log_law import LogLaw
from gmm_speciation.plotting.style import COLOURS, DASHES, legend_above, panels, styled

_MARKERS = "osD^vP*"
_TALLEST = 1.5  # errors beyond it are out of the picture
_FLOOR = 1e-4  # the truth's own tolerance; nothing below it is told apart


@styled()
def plot_heat_map(board: Board) -> Figure:
    """Relative error of every estimator on every task, best estimator on top.

    Names of one group, whose members are not resolved from its first, have one colour.
    """
    lines = board.standings
    tasks = list(dict.fromkeys(task for _, task in board.errors))
    table = np.array(
        [[board.errors.get((line.estimator, task), np.nan) for task in tasks] for line in lines]
    )
    table[np.isinf(table)] = np.nan
    size = (2.6 + 0.36 * len(tasks), 2.2 + 0.24 * len(lines))
    figure = Figure(figsize=(max(size[0], 6.0), max(size[1], 3.2)), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(
        np.maximum(table, 1e-3), norm=LogNorm(1e-3, 1.0, clip=True), cmap="cividis", aspect="auto"
    )
    axes.grid(False)
    axes.set_xticks(range(len(tasks)), tasks, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(lines)), [line.estimator for line in lines], fontsize=8)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_color(COLOURS[(line.group - 1) % len(COLOURS)])
    bar = figure.colorbar(shown, extend="both", pad=0.01)
    bar.set_label("error of H over H(C); white: no result")
    return figure


@styled()
def plot_sizes(families: Mapping[str, Mapping[str, Mapping[int, float]]]) -> Figure:
    """Error against the number of samples, a panel a family of tasks, a line an estimator.

    Args:
        families: Error by family, estimator and size; infinite ones are left out.

    Raises:
        ValueError: If there is no family.
    """
    if not families:
        raise ValueError("There must be at least one family of tasks to plot; got none.")
    names = list(dict.fromkeys(name for of in families.values() for name in of))
    ticks = sorted({n for of in families.values() for line in of.values() for n in line})
    rows = -(-len(families) // 2)
    figure = Figure(figsize=(10.0, 2.0 * rows + 1.4), layout="constrained")
    parts = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
    handles = {}
    for axes, (family, of) in zip(parts, families.items(), strict=False):
        for name, line in of.items():
            index = names.index(name)
            turn = index // len(COLOURS)  # no two alike in colour and mark
            (handles[name],) = axes.plot(
                list(line),
                [max(e, _FLOOR) if np.isfinite(e) else np.nan for e in line.values()],
                color=COLOURS[index % len(COLOURS)],
                linestyle=DASHES[turn % len(DASHES)],
                marker=_MARKERS[(index + turn) % len(_MARKERS)],
                markersize=4,
                linewidth=1.3,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(family, fontsize=9, loc="left")
    for axes in parts[len(families) :]:
        axes.remove()
    low, high = parts[0].get_ylim()
    parts[0].set_ylim(max(low, _FLOOR), min(high, _TALLEST))
    parts[0].minorticks_off()
    parts[0].set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=6, fontsize=7, frameon=False
    )
    for axes in parts[len(families) - 2 : len(families)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("number of samples n")
    figure.supylabel("error of H over H(C)", fontsize=10)
    return figure


@styled()
def plot_log_law(laws: Sequence[LogLaw]) -> Figure:
    """Speciation times of networks and of the exact curve against log d; below, their difference.

    Args:
        laws: The legend tells their slopes with 95 % intervals.

    Raises:
        ValueError: If there is no law.
    """
    if not laws:
        raise ValueError("There must be at least one law to plot; got none.")
    figure, (above, below) = panels((1.7, 1.0), width=8.0)
    for index, law in enumerate(laws):
        colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[index % len(_MARKERS)]
        low, high = law.interval
        label = (
            f"{law.family}, {law.point}: slope {law.slope:.3f} ({low:.3f} to {high:.3f}), exact "
            f"{law.predicted_slope:.3f}"
        )
        above.plot(law.dims, law.predicted, color=colour, linewidth=1.2)
        above.plot(
            law.dims[law.used],
            law.means.value[law.used],
            linestyle="none",
            color=colour,
            marker=marker,
            markersize=6,
            markerfacecolor="white",
            label=label,
        )
        # Side by side, so that error bars can be told apart.
        shifted = law.dims * 1.06 ** (index - (len(laws) - 1) / 2)
        below.errorbar(
            shifted[law.used],
            (law.means.value - law.predicted)[law.used],
            yerr=law.means[law.used].half_width(),
            fmt=marker,
            color=colour,
            markersize=5,
            markerfacecolor="white",
            capsize=2,
            linewidth=1.0,
        )
    below.axhline(0, color="#444444", linewidth=0.8)
    for axes in (above, below):
        axes.set_xscale("log", base=2)
        axes.set_xticks(laws[0].dims, [f"{d:g}" for d in laws[0].dims])
    above.set_ylabel("time t  [Ornstein-Uhlenbeck]")
    below.set_ylabel("networks − exact")
    below.set_xlabel("dimension d")
    legend_above(
        figure,
        "Circles and other marks: trained networks; lines: the exact curve; bars: 95 % over seeds",
        1,
        above,
    )
    return figure
