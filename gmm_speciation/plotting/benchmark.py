"""Pictures of the benchmark: heat map, error against d and n, cost against accuracy; the log law."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from gmm_speciation.benchmark.leaderboard import Standing
from gmm_speciation.benchmark.log_law import LogLaw
from gmm_speciation.plotting.style import COLOURS, DASHES, Axes, legend_above, panels, styled

_MARKERS = "osD^vP*"
_TALLEST = 3.0  # errors beyond it are out of the picture
_FLOOR = 1e-4  # the truth's own tolerance; nothing below it is told apart


def plot_heat_map(
    errors: Mapping[tuple[str, str], float], standings: Sequence[Standing], tasks: Sequence[str]
) -> Figure:
    """Relative RMSE of every estimator on every task, best estimator on top.

    Args:
        errors: By estimator and task; what is missing stays white.
        standings: Rows, in their order.
        tasks: Columns, in their order.
    """
    table = np.array(
        [[errors.get((line.estimator, task), np.nan) for task in tasks] for line in standings]
    )
    with styled():
        size = (2.6 + 0.36 * len(tasks), 2.2 + 0.24 * len(standings))
        figure = Figure(figsize=(max(size[0], 6.0), max(size[1], 3.2)), layout="constrained")
        axes = figure.subplots()
        shown = axes.imshow(
            np.maximum(table, 1e-3),
            norm=LogNorm(1e-3, 1.0, clip=True),
            cmap="cividis",
            aspect="auto",
        )
        axes.grid(False)
        axes.set_xticks(range(len(tasks)), tasks, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(standings)), [s.estimator for s in standings], fontsize=8)
        bar = figure.colorbar(shown, extend="both", pad=0.01)
        bar.set_label("RMSE of H over H(C); white: no result")
    return figure


def plot_against(
    tables: Mapping[str, Mapping[int, float]], standings: Sequence[Standing], axis: str, ylabel: str
) -> Figure:
    """Error against a number: a panel a family, a line an estimator.

    Args:
        tables: By estimator, error by number.
        standings: Which estimators to draw and in which order; those with one number are left out.
        axis: What the number is.
        ylabel: What the error is.
    """
    drawn = [line for line in standings if len(tables.get(line.estimator, {})) > 1]
    families = list(dict.fromkeys(line.family for line in drawn)) or [""]
    rows = -(-len(families) // 2)
    ticks = sorted({number for line in drawn for number in tables[line.estimator]})
    with styled():
        figure = Figure(figsize=(11.0, 1.9 * rows + 0.9), layout="constrained")
        parts = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, family in zip(parts, families, strict=False):
            for index, line in enumerate(one for one in drawn if one.family == family):
                of = tables[line.estimator]
                colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS)]
                axes.plot(
                    list(of),
                    np.maximum(list(of.values()), _FLOOR),
                    color=colour,
                    linestyle=dash,
                    marker=_MARKERS[index % len(_MARKERS)],
                    markersize=4,
                    linewidth=1.3,
                    label=line.estimator,
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(family, fontsize=9, loc="left")
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)
        for axes in parts[len(families) :]:
            axes.remove()
        low, high = parts[0].get_ylim()
        parts[0].set_ylim(max(low, _FLOOR), min(high, _TALLEST))
        parts[0].minorticks_off()
        parts[0].set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        figure.supxlabel(axis, fontsize=10)
        figure.supylabel(ylabel, fontsize=10)
    return figure


def plot_front(standings: Sequence[Standing]) -> Figure:
    """Processor seconds of a run against relative RMSE; the front joins those that none beats in both."""
    figure, (axes,) = panels((2.6,), width=10.0)
    with styled():
        families = list(dict.fromkeys(line.access for line in standings))
        for index, access in enumerate(families):
            group = [line for line in standings if line.access == access]
            axes.plot(
                [line.seconds for line in group],
                [_height(line) for line in group],
                linestyle="none",
                marker=_MARKERS[index],
                color=COLOURS[index],
                label=f"knows the {access}",
            )
            front = _front(group)
            axes.plot(
                [line.seconds for line in front],
                [_height(line) for line in front],
                color=COLOURS[index],
                linewidth=1.0,
                alpha=0.6,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(x=0.12)
        axes.set_xlabel("processor seconds of a run, median over tasks")
        axes.set_ylabel("RMSE of H over H(C), median over tasks")
        legend_above(figure, None, 3, axes)
        figure.draw_without_rendering()  # the layout is known, so that labels can avoid each other
        _name(axes, standings)
    return figure


def _height(line: Standing) -> float:
    return max(line.relative, _FLOOR)


def _name(axes: Axes, standings: Sequence[Standing]) -> None:
    """The names beside their points, each in the first place where it covers no other."""
    size, points = 6.5, 72 / axes.figure.dpi
    at = axes.transData.transform([(line.seconds, _height(line)) for line in standings]) * points
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    for line, (x, y) in zip(standings, at, strict=True):
        width, height = 0.56 * size * len(line.estimator), 1.1 * size
        sides = [
            (5, -height / 2),
            (-5 - width, -height / 2),
            (-width / 2, 5),
            (-width / 2, -5 - height),
        ]
        sides += [(5, 4), (5, -4 - height), (-5 - width, 4), (-5 - width, -4 - height)]
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + height) for dx, dy in sides]
        overlaps = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = int(np.argmin(overlaps))
        taken.append(boxes[best])
        axes.annotate(
            line.estimator,
            (line.seconds, _height(line)),
            sides[best],
            textcoords="offset points",
            fontsize=size,
            color="#444444",
            va="bottom",
            annotation_clip=False,
        )


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _front(standings: Sequence[Standing]) -> list[Standing]:
    best, front = np.inf, []
    for line in sorted(standings, key=lambda line: (line.seconds, line.relative)):
        if line.relative < best:
            best = line.relative
            front.append(line)
    return front


def plot_log_law(laws: Sequence[LogLaw]) -> Figure:
    """Speciation times of networks and of the exact curve against log d; below, their difference.

    Args:
        laws: The legend tells their slopes with bootstrap intervals.
    """
    figure, (above, below) = panels((1.7, 1.0), width=8.0)
    with styled():
        for index, law in enumerate(laws):
            colour, marker = COLOURS[index], _MARKERS[index]
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
            ends = law.means[law.used].interval()
            difference = (law.means.value - law.predicted)[law.used]
            half = np.asarray(ends[1] - ends[0]) / 2
            below.errorbar(
                shifted[law.used],
                difference,
                yerr=half,
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
