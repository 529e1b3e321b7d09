"""Pictures of the benchmark: heat map, error against d and n, cost against accuracy; the log law."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from gmm_speciation.benchmark.leaderboard import Standing
from gmm_speciation.benchmark.log_law import LogLaw
from gmm_speciation.plotting.style import COLOURS, DASHES, panels, styled

_MARKERS = "osD^vP*"
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
    """Error against a number, one line an estimator, named at its right end.

    Args:
        tables: By estimator, error by number.
        standings: Which estimators to draw and in which order; those with one number are left out.
        axis: What the number is.
        ylabel: What the error is.
    """
    figure, (axes,) = panels((2.2,), width=9.0)
    drawn = [line for line in standings if len(tables.get(line.estimator, {})) > 1]
    with styled():
        ends = []
        for index, line in enumerate(drawn):
            of = tables[line.estimator]
            x, y = np.array(list(of)), np.maximum(list(of.values()), _FLOOR)
            colour = COLOURS[index % len(COLOURS)]
            dash = DASHES[index // len(COLOURS) % len(DASHES)]
            axes.plot(x, y, color=colour, linestyle=dash, marker="o", markersize=3, linewidth=1.3)
            ends.append((float(np.log10(y[-1])), line.estimator, colour, float(x[-1])))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(axis)
        axes.set_ylabel(ylabel)
        if ends:
            right = max(end[3] for end in ends)
            low, high = map(float, np.log10(axes.get_ylim()))
            # Labels pushed apart from below, in units of the panel.
            place = low - 1.0
            step = (high - low) / max(30, len(ends) + 1)
            for level, name, colour, end in sorted(ends):
                place = max(level, place + step)
                axes.annotate(
                    name, (end, 10**level), (right * 1.08, 10**place), textcoords="data", fontsize=7,
                    color=colour, va="center", annotation_clip=False,
                )  # fmt: skip
            figure.get_layout_engine().set(rect=(0, 0, 0.86, 1))  # type: ignore
    return figure


def plot_front(standings: Sequence[Standing]) -> Figure:
    """Processor seconds of a run against relative RMSE; the front joins those that none beats in both."""
    figure, (axes,) = panels((2.4,), width=9.0)
    with styled():
        families = list(dict.fromkeys(line.access for line in standings))
        for index, access in enumerate(families):
            group = [line for line in standings if line.access == access]
            axes.plot(
                [line.seconds for line in group], [max(line.relative, 1e-4) for line in group],
                linestyle="none", marker=_MARKERS[index], color=COLOURS[index], label=f"knows the {access}",
            )  # fmt: skip
        for line in standings:
            axes.annotate(
                line.estimator, (line.seconds, max(line.relative, 1e-4)), (4, 3),
                textcoords="offset points", fontsize=6.5, color="#444444",
            )  # fmt: skip
        for index, access in enumerate(families):
            front = _front([line for line in standings if line.access == access])
            axes.plot(
                [line.seconds for line in front], [max(line.relative, 1e-4) for line in front],
                color=COLOURS[index], linewidth=1.0, alpha=0.6,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("processor seconds of a run, median")
        axes.set_ylabel("RMSE of H over H(C)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


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
                law.dims[law.used], law.means.value[law.used], linestyle="none", color=colour,
                marker=marker, markersize=6, markerfacecolor="white", label=label,
            )  # fmt: skip
            # Side by side, so that error bars can be told apart.
            shifted = law.dims * 1.06 ** (index - (len(laws) - 1) / 2)
            ends = law.means[law.used].interval()
            difference = (law.means.value - law.predicted)[law.used]
            half = np.asarray(ends[1] - ends[0]) / 2
            below.errorbar(
                shifted[law.used], difference, yerr=half, fmt=marker, color=colour, markersize=5,
                markerfacecolor="white", capsize=2, linewidth=1.0,
            )  # fmt: skip
        below.axhline(0, color="#444444", linewidth=0.8)
        for axes in (above, below):
            axes.set_xscale("log", base=2)
            axes.set_xticks(laws[0].dims, [f"{d:g}" for d in laws[0].dims])
        above.set_ylabel("time t  [Ornstein-Uhlenbeck]")
        below.set_ylabel("networks − exact")
        below.set_xlabel("dimension d")
        figure.legend(
            *above.get_legend_handles_labels(), loc="outside upper left", ncols=1,
            title="Circles and other marks: trained networks; lines: the exact curve; bars: 95 % over seeds",
            alignment="left",
        )  # fmt: skip
    return figure
