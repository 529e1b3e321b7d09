"""Pictures of control: what a removal costs, and samples. Plots take results and recompute nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from torch import Tensor

from gmm_speciation.plotting import COLOURS, band, mark_exits, noise_axis, panels, styled
from gmm_speciation.plotting.style import legend_above, plain_log
from model_bridges.control.information import LIMITED, WHERE, GuidedInformation
from model_bridges.control.interval_search import IntervalSearch
from model_bridges.control.removal import Removal
from model_bridges.control.time_grids import CLASS, KARRAS, METHODS, STATE, TimeGrids
from model_bridges.crosscheck.plotting import as_shown
from model_bridges.quality import Quality, paired_difference

MARKERS = "osD^vP"
# One colour and marker a kind, in every picture.
KINDS = {
    name: (COLOURS[index], MARKERS[index])
    for index, name in enumerate(("NP", "SLD", "DNG", "DNG, classes", "DNG, published"))
}
_WORDS = {
    "NP": "negative prompting",
    "SLD": "safe latent diffusion",
    "DNG": "dynamic negative guidance",
}
_BARS: dict[str, Any] = {"fmt": "none", "elinewidth": 0.6, "alpha": 0.45, "zorder": 1}


def in_words(name: str) -> str:
    """A name with the kind of guidance in it spelled out, as in "DNG, classes"."""
    short, comma, rest = name.partition(",")
    kind, blank, strength = short.partition(" ")
    return f"{_WORDS.get(kind, kind)}{blank}{strength}{comma}{rest}"


def plot_removal(result: Removal) -> Figure:
    """What is left of the class against the two prices, a line a kind; all start at the star, unguided.

    Points are often crowded: bars stay in the background, and each axis shows the points, not every bar.
    """
    prices = {
        "frechet": "Fréchet distance to the data without the class  [squared feature units]",
        "balance": "class balance: KL of the kept shares from their weights  [nats]",
    }
    with styled():
        figure = Figure(figsize=(10.4, 4.9), layout="constrained")
        labels: list[tuple[Axes, str, tuple[float, float], str]] = []
        for axes, (metric, label) in zip(
            figure.subplots(1, 2, sharey=True), prices.items(), strict=True
        ):
            for index, (name, curve) in enumerate(result.curves.items()):
                colour, marker = KINDS.get(name, (COLOURS[index % len(COLOURS)], "P"))
                _bars(axes, curve.points[1:], metric, colour)
                places = [_at(point, metric) for point in curve.points]
                axes.plot(
                    *np.transpose(places),
                    color=colour,
                    marker=marker,
                    markersize=5,
                    linewidth=1.3,
                    label=in_words(name) if metric == "frechet" else None,
                )
                labels += [
                    (axes, f"{strength:g}", at, colour)
                    for strength, at in zip(curve.strengths[1:], places[1:], strict=True)
                ]
            start = result.unguided
            _bars(axes, [start], metric, "#222222")
            axes.plot(
                *_at(start, metric),
                "*",
                color="#222222",
                markersize=12,
                zorder=4,
                label="unguided" if metric == "frechet" else None,
            )
            floors = {
                "frechet": (float(result.floor.held_out.frechet.value), "held-out images"),
                "balance": (start.balance_floor, "as many exact draws"),
            }
            floor, name = floors[metric]
            _marked(axes, floor, name)
            axes.set_xscale("log")
            points = [point for curve in result.curves.values() for point in curve.points]
            costs = [floor, *(_at(point, metric)[0] for point in points)]
            ends = [value for value in costs if value > 0]
            axes.set_xlim(min(ends) / 1.35, max(ends) * 1.35)
            plain_log(axes.xaxis)
            axes.set_xlabel(label)
        figure.axes[0].set_ylabel(f"images of class {result.removed} that are left  [%]")
        figure.axes[0].set_ylim(bottom=-0.5)
        legend_above(
            figure,
            "Numbers: strengths. Bars: 95 % of each point; all share their noise, so differences are "
            "known better.",
            3,
        )
        _placed(figure, labels)
    return figure


def _at(point: Quality, metric: str) -> tuple[float, float]:
    """A price, and what is left of the class for it, per cent."""
    return float(getattr(point, metric).value), 100 * float(point.left.value)


def _bars(axes: Axes, points: Sequence[Quality], metric: str, colour: str) -> None:
    """The 95 % intervals of both."""
    x, y = np.transpose([_at(point, metric) for point in points])
    axes.errorbar(
        x,
        y,
        xerr=[getattr(point, metric).half_width() for point in points],
        yerr=np.transpose(
            [100 * np.abs(np.array(p.left.interval()) - p.left.value) for p in points]
        ),
        color=colour,
        **_BARS,
    )


def _placed(figure: Figure, labels: Sequence[tuple[Axes, str, tuple[float, float], str]]) -> None:
    """Labels beside their points, each at the nearest place where it covers no other label and no point.

    A label that had to move away gets a line to its point.
    """
    figure.draw_without_rendering()  # settles the layout
    scale = figure.dpi / 72
    centres = [axes.transData.transform(at) for axes, _, at, _ in labels]
    points = [Bbox.from_extents(*(c - 3.2 * scale), *(c + 3.2 * scale)) for c in centres]
    taken: list[Bbox] = []
    for (axes, text, at, colour), centre in zip(labels, centres, strict=True):
        label = axes.annotate(
            text,
            at,
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=colour,
            zorder=5,
        )
        label.set_in_layout(False)
        size = np.array([(box := label.get_window_extent()).width, box.height]) / 2 + 1.5 * scale
        best, fewest = (0.0, 0.0), np.inf
        for radius in (8, 12, 17, 23, 30, 38, 47):
            for angle in np.pi / 4 + np.arange(16) * np.pi / 8:
                offset = radius * np.array([1.2 * np.cos(angle), np.sin(angle)])
                middle = centre + offset * scale
                box = Bbox.from_extents(*(middle - size), *(middle + size))
                hidden = sum(box.overlaps(other) for other in (*taken, *points))
                outside = not (axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max))
                if (count := hidden + 100 * outside) < fewest:
                    best, fewest, chosen = (float(offset[0]), float(offset[1])), count, box
            if fewest == 0:
                break
        label.set_position(best)
        taken.append(chosen)
        if np.hypot(*best) > 15:
            axes.annotate(
                "",
                at,
                best,
                textcoords="offset points",
                zorder=1,
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 4},
            )


def plot_guided(result: GuidedInformation) -> Figure:
    """Cross-entropy of the class asked for along guided trajectories; the fitted mixture dashed.

    Above, constant scales and feedback; below, one scale in a limited interval of noise.
    """
    figure, (axes, below) = panels((1.5, 1.1))
    with styled():
        for index, (scale, run) in enumerate(result.runs.items()):
            colour = COLOURS[index % len(COLOURS)]
            curve = run.curve
            # Heavy tails: its mean is a few trajectories', a band would hide the rest.
            if scale < 1:
                axes.plot(
                    curve.clock,
                    np.asarray(curve.cross_entropy.value),
                    color=colour,
                    linewidth=1,
                    label=f"guidance scale {scale:g}, no band",
                )
            else:
                words = "unguided, scale 1" if scale == 1 else f"guidance scale {scale:g}"
                band(axes, curve.clock, curve.cross_entropy, colour=colour, label=words)
            if scale in result.theory:
                exact = result.theory[scale].curve
                axes.plot(
                    exact.clock,
                    np.asarray(exact.cross_entropy.value),
                    color=colour,
                    linewidth=1.1,
                    linestyle=(0, (4, 2)),
                )
        for (name, run), colour in zip(
            result.feedback.items(), ("#555555", "#a0a0a0"), strict=False
        ):
            curve = run.curve
            words = name.replace("feedback, τ =", "feedback guidance, temperature")
            band(axes, curve.clock, curve.cross_entropy, colour=colour, linestyle=":", label=words)
        if result.theory:
            axes.plot([], [], color="#777777", linestyle=(0, (4, 2)), label="fitted mixture")
        for scale in (1.0, LIMITED):  # in the colours of above
            colour = COLOURS[list(result.runs).index(scale) % len(COLOURS)]
            band(below, curve.clock, result.runs[scale].curve.cross_entropy, colour=colour)
        styles = zip((COLOURS[5], COLOURS[6], "#222222"), ("-", "--", ":"), strict=True)
        for (place, run), (colour, line) in zip(result.limited.items(), styles, strict=True):
            words, entropy = f"scale {LIMITED:g} {WHERE[place]}", run.curve.cross_entropy
            band(below, curve.clock, entropy, colour=colour, linestyle=line, label=words)
        low, high = (-2 * np.log(end) for end in result.window)
        for one in (axes, below):
            one.axvspan(
                high,
                low,
                color="#888888",
                alpha=0.13,
                linewidth=0,
                label="most of the unguided information" if one is axes else None,
            )
            one.axhline(curve.prior, color="#555555", linewidth=0.9, linestyle=":")
            one.set_ylabel("cross-entropy\nE[−log p(c|x)]  [nats]")
        # At scale ½ the tails are heavy; the others start from the prior and fall.
        axes.set_ylim(-0.04 * curve.prior, 1.35 * curve.prior)
        below.set_ylim(-0.04 * curve.prior, 1.1 * curve.prior)
        mark_exits(axes)
        noise_axis(axes, below, curve.clock)
        legend_above(figure, ncols=4)
    return figure


def plot_search(result: IntervalSearch) -> Figure:
    """Frechet distance of every interval, best on top, and its paired difference to that of the curve."""
    others = (result.unguided, result.entropic, *result.feedback)
    draws = sorted([*result.cells.values(), *others], key=lambda d: float(d.quality.frechet.value))
    named = {id(result.unguided): "#222222", id(result.entropic): COLOURS[1]}
    named |= {id(one): COLOURS[2] for one in result.feedback}
    distances = [one.quality.frechet for one in draws]
    gaps = [paired_difference(one.quality, result.entropic.quality, "frechet") for one in draws]
    with styled():
        figure = Figure(figsize=(10.4, 0.27 * len(draws) + 1.3), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, estimates in ((left, distances), (right, gaps)):
            for place, (one, estimate) in enumerate(zip(draws, estimates, strict=True)):
                axes.errorbar(
                    float(estimate.value),
                    place,
                    xerr=estimate.half_width(),
                    fmt="o",
                    capsize=2,
                    color=named.get(id(one), "#777777"),
                    elinewidth=1,
                    markersize=5,
                )
        _marked(left, float(result.floor.held_out.frechet.value), "held-out images")
        right.axvline(0.0, color=COLOURS[1], linestyle=":")
        names = [f"{one.name}   [{one.evaluations}]" for one in draws]
        left.set_yticks(range(len(draws)), names, fontsize=8)
        left.invert_yaxis()
        left.set_xlabel("Fréchet distance to the training images, 95 %")
        right.set_xlabel("the same minus the interval of the curve, paired, 95 %")
        left.set_title(
            "(low, high] in σ; in brackets: evaluations an image. Distances in squared feature units.",
            fontsize=9,
            loc="left",
        )
    return figure


def _marked(axes: Axes, place: float, name: str) -> None:
    """A dotted vertical line with its name along it."""
    axes.axvline(place, color="#777777", linestyle=":")
    axes.text(
        place,
        0.99,
        f" {name}",
        transform=axes.get_xaxis_transform(),
        rotation=90,
        ha="right",
        va="top",
        fontsize=8,
        color="#555555",
    )


def plot_grids(result: TimeGrids, floor: float | None = None) -> Figure:
    """Frechet distance against the number of levels, a panel a sampler."""
    with styled():
        figure = Figure(figsize=(9.4, 4.3), layout="constrained")
        panels_ = figure.subplots(1, len(METHODS), sharey=True)
        for axes, method in zip(panels_, METHODS, strict=True):
            for index, grid in enumerate((KARRAS, STATE, CLASS)):
                counts = sorted(n for g, m, n in result.draws if (g, m) == (grid, method))
                found = [result.draws[grid, method, n].quality.frechet for n in counts]
                axes.errorbar(
                    [n * 1.02**index for n in counts],
                    [float(f.value) for f in found],
                    yerr=[f.half_width() for f in found],
                    color=COLOURS[index],
                    marker=MARKERS[index],
                    capsize=2,
                    label=grid if method == METHODS[0] else None,
                )
            if floor is not None:
                axes.axhline(
                    floor,
                    color="#777777",
                    linestyle=":",
                    label="held-out images" if method == METHODS[0] else None,
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            for axis in (axes.xaxis, axes.yaxis):
                plain_log(axis)
            axes.set_xticks(counts)
            axes.set_xlabel(f"noise levels, {method}")
        panels_[0].set_ylabel("Fréchet distance  [squared feature units]")
        legend_above(figure, "levels equally spaced in (Karras: in σ to the power 1/7)", 4)
    return figure


def plot_rows(pictures: Mapping[str, Float[Tensor, "N *event"]], columns: int = 20) -> Figure:
    """Rows of pictures by name; one column is one noise. Grey levels are those of the first row."""
    rows = [
        [as_shown(image) for image in images[:columns].cpu().numpy()]
        for images in pictures.values()
    ]
    first = np.stack(rows[0])
    height, width = first.shape[1:3]
    paper, ink = np.quantile(first, (0.01, 0.99))
    gap = max(1, height // 8)
    canvas = np.full(
        (len(rows) * (height + gap), columns * (width + gap), *first.shape[3:]), np.nan
    )
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            at = i * (height + gap), j * (width + gap)
            canvas[at[0] : at[0] + height, at[1] : at[1] + width] = tile
    if first.ndim == 4:
        canvas = np.nan_to_num(canvas, nan=1.0)
    with styled():
        size = 0.45 * columns + 2.0, 0.45 * len(rows) * (height + gap) / (width + gap) + 0.2
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.imshow(canvas, cmap="gray_r", vmin=paper, vmax=ink, interpolation="nearest")
        places = (height - 1) / 2 + (height + gap) * np.arange(len(rows))
        axes.set_yticks(places, [in_words(name) for name in pictures], fontsize=8)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    return figure
