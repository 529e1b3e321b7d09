"""Pictures of cross-checks. Plots take results and recompute nothing.

The noise axis is the theory's: signal on the left, noise on the right, log-SNR `-2 log sigma`.
"""

from itertools import cycle

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm_speciation.plotting import COLOURS, band, mark_exits, noise_axis, panels, styled
from gmm_speciation.plotting.style import legend_above, plain_log
from model_bridges.crosscheck.results import CrossCheck, VariableCheck
from model_bridges.entropy.evidence import UNDECIDED
from model_bridges.entropy.pairs import Pairs
from model_bridges.entropy.plotting import shade_window
from model_bridges.entropy.tree import DecisionTree
from model_bridges.images.labelled import LabelledImages
from model_bridges.tracking.calibration import Reliability

THEORY, TRACKED, BAYES, FREE, TRUE = (COLOURS[i] for i in (1, 0, 2, 3, 4))
OTHERS = ((COLOURS[5], "-."), ("#8c564b", (0, (4, 1, 1, 1))))


def plot_crosscheck(check: VariableCheck, law: str) -> Figure:
    """Entropies above, rates below, of theory and model for one semantic variable."""
    figure, (upper, lower) = panels((1.25, 1.0))
    x = check.tracked.log_snr
    with styled():
        upper.axhline(check.tracked.prior_entropy, color="#555555", linewidth=0.9, linestyle=":")
        band(upper, x, check.theory.entropy, colour=THEORY, label="theory: fitted mixture")
        band(upper, x, check.tracked.entropy, colour=TRACKED, label="model: tracked posterior")
        band(upper, x, check.bayes.entropy, colour=BAYES, label="model: denoiser gap, Bayes")
        if check.unconditional is not None:
            band(
                upper,
                x,
                check.unconditional.entropy,
                colour=FREE,
                linestyle="--",
                label=f"model: {check.reference.curve}",
            )
        band(
            upper,
            x,
            check.cross_entropy,
            colour=TRUE,
            linestyle=(0, (1, 1.2)),
            label="cross-entropy with the true class (≥ H)",
        )
        for (name, bound), (colour, dash) in zip(check.bounds.items(), cycle(OTHERS)):
            band(upper, x, bound, colour=colour, linestyle=dash, label=f"{name} (≥ H)")
        band(lower, x, check.theory.rate, colour=THEORY)
        band(lower, x, check.bayes.rate, colour=BAYES)
        band(lower, x, check.slope.rate, colour=TRACKED)
        if check.unconditional is not None:
            band(lower, x, check.unconditional.rate, colour=FREE, linestyle="--")
        window = check.tracked.window(0.8)
        shade_window((upper, lower), window, "model: 80 % of the information", TRACKED)
        spectral = check.points["spectral, theory"].log_snr
        if spectral is not None:
            place = float(spectral.value)
            for axes, label in ((upper, "spectral criterion of the data"), (lower, None)):
                axes.axvline(place, color="#777777", linewidth=1.2, linestyle="--", label=label)
        for curve, colour in ((check.theory, THEORY), (check.bayes, BAYES)):
            peak = curve.peak()
            lower.plot(float(peak.log_snr.value), float(peak.rate.value), "o", color=colour)
        # An entropy integrated from disagreeing networks may leave the picture; the rate shows it.
        upper.set_ylim(-0.12, check.tracked.prior_entropy * 1.08)
        mark_exits(upper)
        lower.set_ylim(bottom=0)
        upper.set_ylabel("entropy of the class  [nats]")
        lower.set_ylabel("rate −dH/dλ  [nats]")
        noise_axis(upper, lower, x)
        legend_above(figure, f"{check.name}, averaged over {law}; bands are 95 %", 2)
    return figure


def plot_variables(result: CrossCheck) -> Figure:
    """Entropy of every variable as a share of its prior entropy; model solid, theory dashed."""
    figure, (upper, lower) = panels((1.0, 0.9))
    named = {name: (v.tracked, v.theory) for name, v in result.variables.items()}
    nested = list(result.nested.items())
    if nested:
        (title, model), (_, theory) = nested
        named[title.removesuffix(", model")] = (model, theory)
    with styled():
        for (name, (model, theory)), colour in zip(named.items(), cycle(COLOURS)):
            share = 1 / model.prior_entropy
            x = model.log_snr
            band(upper, x, model.entropy, colour=colour, scale=share, label=name)
            band(upper, x, theory.entropy, colour=colour, scale=share, linestyle="--")
            band(lower, x, model.rate, colour=colour, scale=share)
            band(lower, x, theory.rate, colour=colour, scale=share, linestyle="--")
        upper.plot([], [], color="#555555", label="model")
        upper.plot([], [], color="#555555", linestyle="--", label="theory")
        upper.axhline(0.5, color="#777777", linewidth=0.9, linestyle=":")
        upper.set_ylabel("share of the entropy left")
        lower.set_ylabel("share lost per unit λ")
        upper.set_ylim(-0.03, 1.06)
        lower.set_ylim(bottom=0)
        noise_axis(upper, lower, result.posterior.log_snr)
        legend_above(figure, "Which semantic variable is decided at which noise", 3)
    return figure


def plot_excess(check: VariableCheck, result: CrossCheck) -> Figure:
    """What each form of the denoiser gap says level by level, and the part that is not information."""
    figure, (axes,) = panels((1.3,))
    x = check.tracked.log_snr
    with styled():
        band(axes, x, check.slope.rate, colour=TRACKED, label="slope of the tracked entropy")
        band(axes, x, check.bayes.rate, colour=BAYES, label="Bayes form, E Σ p_c|D_c − D̄|²")
        if check.unconditional is not None and check.budget.excess is not None:
            band(
                axes,
                x,
                check.unconditional.rate,
                colour=FREE,
                label=f"{check.reference.form}, E Σ p_c|D_c − D_u|²",
            )
            band(
                axes,
                x,
                check.budget.excess,
                colour="#000000",
                linestyle="--",
                label=f"excess E|D̄ − D_u|²: {check.reference.excess}",
            )
        axes.set_ylabel("rate, all / 2σ²  [nats per unit λ]")
        axes.set_ylim(bottom=0)
        noise_axis(axes, axes, x)
        legend_above(figure, None, 2)
    return figure


def plot_reliability(diagram: Reliability) -> Figure:
    """How often a class is true against the probability it was given; on the line if calibrated."""
    with styled():
        figure = Figure(figsize=(5.2, 5.0), layout="constrained")
        axes = figure.subplots()
        filled = diagram.counts > 0
        low, high = diagram.frequency.interval()
        value = np.asarray(diagram.frequency.value)
        error = np.stack([value - np.maximum(low, 0), np.minimum(high, 1) - value])[:, filled]
        axes.plot(
            [0, 1], [0, 1], color="#777777", linestyle="--", linewidth=1.2, label="calibrated"
        )
        axes.errorbar(
            diagram.confidence[filled],
            value[filled],
            yerr=np.maximum(error, 0),
            fmt="o-",
            color=TRACKED,
            capsize=3,
            label="tracked posterior, 95 %",
        )
        axes.set_xlabel("probability given to a class")
        axes.set_ylabel("share of cases in which it is true")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.legend(
            loc="upper left",
            title=f"inside the 80 % window\nmean deviation {diagram.expected_error:.3f}",
            alignment="left",
        )
    return figure


def plot_images(
    result: CrossCheck, chosen: Int[np.ndarray, " n"], class_names: list[str]
) -> Figure:
    """A few images beside the posterior that the model gives their classes along their noise path.

    The moment of decision is marked where the clean end names a class with some confidence.
    """
    record, check = result.posterior, result.main
    pictures: Float[np.ndarray, "N *event"] = result.pictures.cpu().numpy()
    posterior = np.exp(record.log_posterior)
    with styled():
        figure = Figure(figsize=(8.6, 1.35 * len(chosen) + 1.4), layout="constrained")
        grid = figure.subplots(len(chosen), 2, squeeze=False, width_ratios=(1, 6.5))
        colours = [*COLOURS, "#882255", "#999933", "#44AA99"]
        shown: set[int] = set()
        for row, index in enumerate(chosen):
            picture, axes = grid[row]
            show_picture(picture, pictures[index // record.num_paths])
            for label in map(int, np.flatnonzero(posterior[:, index].max(0) > 0.2)):
                shown.add(label)
                true = record.labels is not None and record.labels[index] == label
                axes.plot(
                    record.log_snr,
                    posterior[:, index, label],
                    color=colours[label % 10],
                    linewidth=2.2 if true else 1.1,
                )
            if posterior[0, index].max() >= UNDECIDED:
                axes.axvline(-2 * np.log(check.decision[index]), color="#777777", linestyle=":")
            else:
                axes.text(0.01, 0.9, "not decided", transform=axes.transAxes, va="top", fontsize=9)
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks([0, 0.5, 1])
            axes.set_xlim(record.log_snr[0], record.log_snr[-1])
            if row < len(chosen) - 1:
                axes.set_xticklabels([])
        noise_axis(grid[0, 1], grid[-1, 1], record.log_snr)
        figure.supylabel("posterior of each class along the image's own path", fontsize=10)
        for label in sorted(shown):
            grid[0, 1].plot([], [], color=colours[label % 10], label=class_names[label])
        grid[0, 1].plot(
            [],
            [],
            color="#777777",
            linestyle=":",
            label=f"decided (p ≥ {UNDECIDED:g} at the clean end)",
        )
        legend_above(figure, "Thick: the true class", 8, columnspacing=1.2, handlelength=1.4)
    return figure


def as_shown(picture: Float[np.ndarray, "*event"]) -> Float[np.ndarray, "height width *colour"]:
    """Colours 0 to 1 of `(3, height, width)` in [-1, 1], anything else as it is in rows."""
    if picture.ndim == 3 and len(picture) == 3:
        return np.clip(picture.transpose(1, 2, 0) / 2 + 0.5, 0, 1)
    return picture.reshape(-1, picture.shape[-1])


def show_picture(axes: Axes, picture: Float[np.ndarray, "*event"]) -> None:
    """One picture, what has no colours as ink on paper."""
    axes.imshow(as_shown(picture), cmap="gray_r")
    axes.set_axis_off()


def plot_samples(samples: LabelledImages, class_names: list[str], columns: int = 10) -> Figure:
    """Samples of a model, one row a class."""
    shown = samples.images if samples.pictures is None else samples.pictures
    pictures, labels = shown.cpu().numpy(), samples.labels.cpu().numpy()
    rows = [np.flatnonzero(labels == label)[:columns] for label in range(len(class_names))]
    with styled():
        size = (0.62 * columns + 0.085 * max(map(len, class_names)) + 0.4, 0.64 * len(rows) + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for name, index, line in zip(class_names, rows, grid, strict=True):
            for axes, chosen in zip(line, index, strict=False):
                show_picture(axes, pictures[chosen])
            for axes in line[len(index) :]:
                axes.set_axis_off()
            line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center")
    return figure


def plot_pairs(pairs: Pairs, class_names: list[str]) -> Figure:
    """Half-entropy point of every pair of classes, measured against the mixture's and the spectral law's."""
    with styled():
        figure = Figure(figsize=(8.6, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        y, error = np.asarray(pairs.measured.value), pairs.measured.half_width()
        sides = (
            (left, np.asarray(pairs.predicted.value), pairs.predicted.half_width(), THEORY),
            (right, pairs.spectral, None, "#777777"),
        )
        for axes, x, across, colour in sides:
            axes.errorbar(x, y, yerr=error, xerr=across, fmt="o", ms=4, lw=0.8, color=colour)
            shown = np.isfinite(x) & np.isfinite(y)
            if shown.any():
                ends = [min(x[shown].min(), y[shown].min()), max(x[shown].max(), y[shown].max())]
                axes.plot(ends, ends, color="#333333", linewidth=0.9, linestyle="--")
                for index in np.flatnonzero(shown)[np.argsort(y[shown])][[0, -1]]:
                    name = f"{class_names[pairs.a[index]]}–{class_names[pairs.b[index]]}"
                    axes.annotate(name, (x[index], y[index]), (5, -9), textcoords="offset points")
        left.set_xlabel("λ of the fitted mixture")
        right.set_xlabel("λ = −log(|m_a − m_b|²/4), spectral")
        left.set_ylabel("half-entropy point λ of the pair, model")
    return figure


def plot_trees(trees: dict[str, DecisionTree], class_names: list[str]) -> Figure:
    """Which classes are told apart at which noise; forks of less support than a half are of many ways."""
    num = max(len(tree.classes) for tree in trees.values())
    with styled():
        size = (4.3 * len(trees), max(3.2, 0.26 * num + 1.2))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(trees), sharex=True, squeeze=False)[0]
        for (title, tree), axes, colour in zip(
            trees.items(), grid, (TRACKED, THEORY), strict=False
        ):
            _draw_tree(axes, tree, class_names, colour)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("noise σ at which they are told apart")
    return figure


def _draw_tree(axes: Axes, tree: DecisionTree, class_names: list[str], colour: str) -> None:
    num, top = len(tree.classes), len(tree.merges) - 1
    places: list[float] = []  # of the leaves, in the order in which they are drawn
    least = float(tree.sigmas.min())

    def draw(node: int, above: float) -> tuple[float, float]:
        """Draw what is below a node; where its line leaves it, and at which sigma."""
        if node < num:
            axes.text(
                least * 0.72,
                len(places),
                class_names[int(tree.classes[node])],
                ha="right",
                va="center",
                fontsize=8,
            )
            places.append(float(len(places)))
            return places[-1], least * 0.8
        fork = node - num
        sigma = float(tree.sigmas[fork])
        if fork < top and tree.support[fork] < 0.5:
            sigma = above
        ends = [draw(int(below), sigma) for below in tree.merges[fork]]
        axes.vlines(sigma, ends[0][0], ends[1][0], color=colour)
        for height, start in ends:
            axes.hlines(height, start, sigma, color=colour)
        middle = (ends[0][0] + ends[1][0]) / 2
        if fork < top and sigma < above:
            axes.text(sigma, middle, f" {tree.support[fork]:.0%}", fontsize=7, va="bottom")
        return middle, sigma

    draw(num + top, np.inf)
    axes.set_xscale("log")
    plain_log(axes.xaxis, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0))
    axes.set_yticks([])
    axes.set_xlim(least * 0.5, float(tree.sigmas.max()) * 1.15)
