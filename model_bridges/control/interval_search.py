"""The guidance interval of the entropy curve against a search by image quality.

`guidance_interval` reads from the curve H(C|x_sigma) where the central 80 % of the class is decided; it sees
no drawn image. The usual way is a search (Kynkaanniemi et al. 2024, arXiv 2404.07724): draw and judge for a
grid of intervals (low, high] and take the best Frechet distance. Here their ends are 0, those of 0.3, 1, 3
and 10 times the data's spread that the model's range holds, and its upper end. All runs use the same noise.
Costs are evaluations of the network: of the images of the curve, and of all runs of the search.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reporting.claims import Claim, at_most
from model_bridges.control.drawing import Draw, Wanted, draw_all
from model_bridges.control.guided import Kind, feedback_kinds, limited
from model_bridges.guidance import Unguided
from model_bridges.quality import Floor, paired_difference
from model_bridges.samplers import karras_sigmas
from model_bridges.studied import NUM_STEPS, StudiedModel

SCALE = 2.0


@dataclass(frozen=True, eq=False)
class IntervalSearch:
    """Draws by interval; `entropic` is that of the curve."""

    scale: float
    interval: tuple[float, float]
    unguided: Draw
    full: Draw
    entropic: Draw
    feedback: list[Draw]  # as published, and with tau = 1, if asked for
    cells: dict[tuple[float, float], Draw]
    floor: Floor
    curve_evaluations: int
    search_evaluations: int
    checks: list[Claim]

    @property
    def best(self) -> tuple[float, float]:
        """The interval of the grid with the least Frechet distance."""
        return min(self.cells, key=lambda ends: float(self.cells[ends].quality.frechet.value))


def search_intervals(
    model: StudiedModel,
    interval: tuple[float, float],
    curve_evaluations: int,
    *,
    scale: float = SCALE,
    num_images: int = 500,
    feedback: bool = True,
    seed: int = 0,
    progress: Progress = SILENT,
) -> IntervalSearch:
    """Draw with the interval of the curve, with every interval of a grid, without, and everywhere.

    Args:
        model: The model with its judge.
        interval: Of the entropy curve.
        curve_evaluations: What the curve cost.
        scale: w inside.
        num_images: Of each run.
        feedback: Whether feedback guidance is drawn, too.
        seed: Of all noise.
        progress: Told of every run and of its steps.

    Raises:
        ValueError: As `Interval` and `quality.assess`.
    """
    top = model.denoiser.sigma_range[1]
    spread = float(model.states(model.fitted, seed).images.std())
    inner = [spread * factor for factor in (0.3, 1.0, 3.0, 10.0)]
    edges = [0.0, *(edge for edge in inner if edge < top), top]

    low, high = interval
    levels = karras_sigmas(NUM_STEPS, *model.denoiser.sigma_range).numpy()
    ends = [(float(a), float(b)) for a, b in combinations(edges, 2)]
    kinds: dict[str, Kind] = {
        "unguided": lambda labels: Unguided(labels),
        f"interval of the curve ({low:.3g}, {high:.3g}], w = {scale:g}": limited(scale, low, high),
        **(feedback_kinds(levels) if feedback else {}),
    }
    grid = [(f"({a:.3g}, {b:.3g}], w = {scale:g}", limited(scale, a, b)) for a, b in ends]
    wanted = [Wanted(*one, num_images, seed=seed) for one in (*kinds.items(), *grid)]
    unguided, entropic, *drawn = draw_all(model, wanted, progress)
    heard, searched = drawn[: -len(ends)], drawn[-len(ends) :]
    cells = dict(zip(ends, searched, strict=True))
    full = cells[float(edges[0]), float(edges[-1])]
    progress.step("floor of the distance")
    true = model.floor(num_images)
    spent = num_images * sum(cell.evaluations for cell in cells.values())
    best = min(cells.values(), key=lambda cell: float(cell.quality.frechet.value))
    return IntervalSearch(
        scale,
        interval,
        unguided,
        full,
        entropic,
        heard,
        cells,
        true,
        curve_evaluations,
        spent,
        _checks(unguided, full, entropic, best, true, curve_evaluations / spent),
    )


def _checks(
    unguided: Draw, full: Draw, entropic: Draw, best: Draw, true: Floor, share: float
) -> list[Claim]:
    def gap(a: Draw, b: Draw, metric: str = "frechet") -> Estimate:
        return paired_difference(a.quality, b.quality, metric)

    return [
        at_most(
            "Fréchet distance, interval of the curve minus the best of the search",
            gap(entropic, best),
            round(float(true.held_out.frechet.value), 3),
            f"best: {best.name}; bound: the distance of held-out images",
        ),
        at_most(
            "Fréchet distance, interval of the curve minus unlimited", gap(entropic, full), 0.0
        ),
        at_most(
            "Fréchet distance, interval of the curve minus unguided", gap(entropic, unguided), 0.0
        ),
        at_most(
            "evaluations of the curve over those of the search",
            Estimate.exact(np.asarray(share)),
            0.5,
        ),
        at_most(
            "guidance everywhere lowers the diversity inside a class: minus unguided",
            gap(full, unguided, "diversity"),
            0.0,
            "Wu et al. 2024",
        ),
        at_most(
            "the interval keeps diversity: that of guidance everywhere minus the interval's",
            gap(full, entropic, "diversity"),
            0.0,
        ),
    ]
