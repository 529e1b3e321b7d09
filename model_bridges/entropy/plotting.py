"""Pictures of measured entropies. Plots take results and recompute nothing.

The noise axis is the theory's: signal on the left, noise on the right, log-SNR `-2 log sigma`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gmm_speciation.curves import Window
from gmm_speciation.plotting import COLOURS, Axes, band, noise_axis, panels, styled
from gmm_speciation.plotting.style import legend_above
from model_bridges.entropy.measure import MeasuredVariable, Measurement

if TYPE_CHECKING:
    from gmm_speciation.plotting import Figure

LABELS = {
    "tracking": "tracking, class against class",
    "gap": "denoiser gap, Bayes",
    "gap-unconditional": "denoiser gap, unconditional",
    "gap-sampled": "denoiser gap, sampled levels",
    "tracking-ratio": "ratio to the unconditional, prior·eˡ",
    "tracking-forced": "forced prior ½ (binary)",
    "elbo": "ELBO differences",
    "clones": "clones: bounds on H",
}
SPARSE = ("elbo", "clones")  # few levels: points
_COLOURS = dict(zip(LABELS, (*COLOURS, "#8c564b"), strict=True))


def plot_estimators(variable: MeasuredVariable, law: str) -> "Figure":
    """Entropy by every estimator above, rates below; the theory dashed in grey."""
    figure, (upper, lower) = panels((1.25, 1.0))
    prior = variable.main.prior_entropy
    ends: list[float] = []
    with styled():
        upper.axhline(prior, color="#555555", linewidth=0.9, linestyle=":")
        if variable.theory is not None:
            theory = variable.theory
            style: dict[str, Any] = {"colour": "#777777", "linestyle": (0, (5, 2))}
            band(upper, theory.log_snr, theory.entropy, label="theory: fitted mixture", **style)
            band(lower, theory.log_snr, theory.rate, **style)
        for name, curve in variable.curves.items():
            colour, x = _COLOURS[name], curve.log_snr
            ends += [x[0], x[-1]]
            if name == "clones" and variable.clones is not None:
                low = np.maximum(variable.clones.lower.interval()[0], 0)
                high = np.minimum(variable.clones.upper.interval()[1], prior)
                middle = np.asarray(curve.entropy.value)
                errors = np.stack([np.maximum(middle - low, 0), np.maximum(high - middle, 0)])
                upper.errorbar(
                    x,
                    middle,
                    yerr=errors,
                    fmt="none",
                    color=colour,
                    capsize=3,
                    linewidth=1.4,
                    label=LABELS[name],
                )
                continue  # the slope of the middle of two bounds is no rate
            for axes, estimate in ((upper, curve.entropy), (lower, curve.rate)):
                label = LABELS[name] if axes is upper else None
                if name in SPARSE:
                    axes.errorbar(
                        x,
                        np.asarray(estimate.value),
                        yerr=estimate.half_width(),
                        fmt="o",
                        markersize=3.5,
                        color=colour,
                        capsize=2,
                        linewidth=1.1,
                        label=label,
                    )
                else:
                    band(axes, x, estimate, colour=colour, label=label)
        window = _window(variable)
        if window is not None:
            shade_window((upper, lower), window, "80 % of the information", COLOURS[0])
        upper.set_ylim(-0.06 * prior, prior * 1.1)
        upper.set_ylabel("entropy of the class  [nats]")
        lower.set_ylabel("rate −dH/dλ  [nats]")
        top = max(
            np.max(curve.rate.value)
            for n, curve in variable.curves.items()
            if n in _shown(variable)
        )
        lower.set_ylim(0, 1.25 * float(top))
        noise_axis(upper, lower, np.array([max(ends), min(ends)]))
        legend_above(figure, f"{variable.name}, averaged over {law}; bands and bars are 95 %", 2)
    return figure


def _shown(variable: MeasuredVariable) -> list[str]:
    """Curves whose rate sets the scale: the unconditional forms may be far larger by model error."""
    names = [n for n in variable.curves if n in ("tracking", "gap", "elbo", "gap-sampled")]
    return names or list(variable.curves)


def _window(variable: MeasuredVariable) -> Window | None:
    """That of 80 % of the information, unless the levels end inside it."""
    try:
        return variable.main.window(0.8)
    except ValueError:
        return None


def shade_window(panels: Sequence[Axes], window: Window, label: str, colour: str) -> None:
    """A window on the noise axis of panels below each other, named on the first."""
    ends = float(window.high.value), float(window.low.value)
    for axes in panels:
        named = label if axes is panels[0] else None
        axes.axvspan(*ends, color=colour, alpha=0.07, linewidth=0, label=named)


def plot_windows(result: Measurement) -> "Figure":
    """Share of the entropy left, variable by variable, and their 80 % windows as bars below."""
    figure, (upper, lower) = panels((1.2, 0.13 * len(result.variables) + 0.15))
    ends: list[float] = []
    with styled():
        for row, (name, variable) in enumerate(result.variables.items()):
            curve, colour = variable.main, COLOURS[row % len(COLOURS)]
            ends += [curve.log_snr[0], curve.log_snr[-1]]
            share = 1 / curve.prior_entropy
            band(upper, curve.log_snr, curve.entropy, colour=colour, scale=share, label=name)
            window = _window(variable)
            if window is None:
                continue
            low, high = float(window.low.value), float(window.high.value)
            lower.plot([low, high], [row, row], color=colour, linewidth=5, solid_capstyle="butt")
            for end, estimate in ((low, window.low), (high, window.high)):
                error = estimate.half_width()
                lower.errorbar(end, row, xerr=error, color="#222222", capsize=3, linewidth=1)
        upper.axhline(0.5, color="#777777", linewidth=0.9, linestyle=":")
        upper.set_ylabel("share of H(C) left")
        upper.set_ylim(-0.04, 1.06)
        lower.set_yticks(range(len(result.variables)), list(result.variables))
        lower.set_ylim(len(result.variables) - 0.5, -0.5)
        noise_axis(upper, lower, np.array([max(ends), min(ends)]))
        legend_above(figure, "Entropy left, and the window that holds 80 % of it, ends ± 95 %", 4)
    return figure


def plot_single_images(result: Measurement, variable: MeasuredVariable, num: int = 6) -> "Figure":
    """Images from the latest to the earliest decision, each with its posterior along its own path."""
    points = variable.points
    assert points is not None  # the caller shows what is there
    order = np.argsort(points.decision_sigma, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(num, len(order))).round().astype(int)]
    figure, rows = panels([0.5] * len(chosen))
    log_snr = -2 * np.log(points.sigmas)
    shown: dict[int, None] = {}
    with styled():
        for axes, index in zip(rows, chosen, strict=True):
            posterior = points.posterior[index]
            for label in map(int, np.flatnonzero(posterior.max(0) > 0.2)):
                shown.setdefault(label)
                axes.plot(
                    log_snr,
                    posterior[:, label],
                    color=COLOURS[label % len(COLOURS)],
                    linestyle="-" if label < len(COLOURS) else "--",
                    linewidth=2.2 if label == points.final_class[index] else 1.1,
                )
            axes.axvline(-2 * np.log(points.decision_sigma[index]), color="#555555", linestyle=":")
            axes.set_ylim(-0.04, 1.04)
            axes.set_yticks([0, 0.5, 1])
            _inset(axes, result, int(index), len(points.posterior) // result.num_images)
        noise_axis(rows[0], rows[-1], log_snr)
        figure.supylabel("posterior of each class along the path", fontsize=10)
        for label in sorted(shown):
            rows[0].plot(
                [],
                [],
                color=COLOURS[label % len(COLOURS)],
                linestyle="-" if label < len(COLOURS) else "--",
                label=points.class_names[label],
            )
        rows[0].plot([], [], color="#555555", linestyle=":", label="decided")
        legend_above(figure, "Thick: the class that the path ends in", 6)
    return figure


def _inset(axes, result: Measurement, index: int, num_paths: int) -> None:
    """The image itself at the right end, where states are pictures."""
    images = result.images
    if images is None or images.ndim != 4 or images.shape[1] not in (1, 3):
        return
    image = images[index // num_paths].cpu().numpy()
    low, high = image.min(), image.max()
    picture = np.moveaxis((image - low) / max(high - low, 1e-9), 0, -1)
    inset = axes.inset_axes((0.9, 0.05, 0.09, 0.9))
    inset.imshow(picture, cmap="gray_r" if picture.shape[-1] == 1 else None)
    inset.set_axis_off()
