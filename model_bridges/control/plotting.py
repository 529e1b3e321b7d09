"""Pictures of control: what a removal costs, and samples. Plots take results and recompute nothing."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor

from gmm_speciation.estimate import Estimate
from gmm_speciation.plotting import COLOURS, styled
from model_bridges.control.removal import Removal
from model_bridges.plotting import show_picture

MARKERS = "osD^vP"


def half_widths(estimate: Estimate) -> float:
    """Half of the 95 % interval."""
    low, high = estimate.interval()
    return float(high - low) / 2


def plot_removal(result: Removal) -> Figure:
    """What is left of the class against the two prices, a line a kind; all start at the star, unguided."""
    prices = {
        "frechet": "Fréchet distance to the data without the class  [squared feature units]",
        "balance": "class balance: KL of the kept shares from uniform  [nats]",
    }
    with styled():
        figure = Figure(figsize=(10.4, 4.9), layout="constrained")
        for axes, (metric, label) in zip(
            figure.subplots(1, 2, sharey=True), prices.items(), strict=True
        ):
            for index, (name, curve) in enumerate(result.curves.items()):
                left, price = (
                    [getattr(point, field) for point in curve.points]
                    for field in ("removed_share", metric)
                )
                axes.errorbar(
                    [float(p.value) for p in price], [100 * float(s.value) for s in left],
                    xerr=[half_widths(p) for p in price], yerr=[100 * half_widths(s) for s in left],
                    color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)],
                    markersize=4, linewidth=1.2, elinewidth=0.7, capsize=2,
                    label=name if metric == "frechet" else None,
                )  # fmt: skip
                strengths = zip(curve.strengths[1:], price[1:], left[1:], strict=True)
                for strength, p, s in strengths:
                    axes.annotate(
                        f"{strength:g}", (float(p.value), 100 * float(s.value)), (4, 4),
                        textcoords="offset points", fontsize=7, color=COLOURS[index % len(COLOURS)],
                    )  # fmt: skip
            start = result.unguided
            assert start.removed_share is not None  # a class was removed
            axes.plot(
                float(getattr(start, metric).value), 100 * float(start.removed_share.value), "*",
                color="#222222", markersize=12, zorder=4,
                label="unguided" if metric == "frechet" else None,
            )  # fmt: skip
            floors = {
                "frechet": (float(result.floor.halves.value), "two true samples of this size"),
                "balance": (start.balance_floor, "as many exact draws"),
            }
            axes.axvline(floors[metric][0], color="#777777", linestyle=":", label=floors[metric][1])
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
        figure.axes[0].set_ylabel(f"images of class {result.removed} that are left  [%]")
        figure.axes[0].set_ylim(bottom=-0.5)
        handles, labels = [], []
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.append(handle)
                labels.append(label)
        figure.legend(
            handles, labels, loc="outside upper left", ncols=4, alignment="left",
            title="Numbers: strengths. Bars: 95 %.",
        )  # fmt: skip
    return figure


def plot_rows(pictures: Mapping[str, Float[Tensor, "N *event"]], columns: int = 20) -> Figure:
    """Rows of pictures by name; one column is one noise."""
    with styled():
        figure = Figure(
            figsize=(0.45 * columns + 2.0, 0.47 * len(pictures) + 0.2), layout="constrained"
        )
        grid = figure.subplots(len(pictures), columns, squeeze=False)
        for line, (name, images) in zip(grid, pictures.items(), strict=True):
            shown: Float[np.ndarray, "N *event"] = images.cpu().numpy()
            for axes in line:
                axes.set_axis_off()
            for axes, image in zip(line, shown, strict=False):
                show_picture(axes, image)
            line[0].text(
                -0.2, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=8
            )
    return figure
