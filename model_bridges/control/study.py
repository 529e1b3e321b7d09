"""What guidance does to a trained model: information, intervals, time grids, all from one set of data.

The entropy curve of data gives the window; guided trajectories, intervals and grids follow from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reporting.claims import Claim
from model_bridges.control.information import GuidedInformation, guided_information
from model_bridges.control.interval_search import IntervalSearch, search_intervals
from model_bridges.control.time_grids import TimeGrids, compare_grids
from model_bridges.denoisers.base import Denoiser
from model_bridges.entropy.curve import trusted_curve
from model_bridges.entropy.windows import GuidanceInterval, guidance_interval
from model_bridges.studied import StudiedModel
from model_bridges.tracking.forward import track

SECTIONS = ("information", "intervals", "grids")
CURVE_LEVELS = 40


@dataclass(frozen=True, eq=False)
class GuidanceStudy:
    """The sections that were run; the others are None."""

    model: str
    mass: float
    curve: EntropyCurve
    interval: GuidanceInterval
    num_curve_images: int
    information: GuidedInformation | None
    intervals: IntervalSearch | None
    grids: TimeGrids | None

    @property
    def checks(self) -> list[Claim]:
        """Every claim of every section."""
        parts = (self.information, self.intervals, self.grids)
        return [check for part in parts if part is not None for check in part.checks]


def check_numbers(mass: float, scale: float) -> None:
    """Refuse what is no share of the information, or no guidance.

    Raises:
        ValueError: If `mass` is not inside (0, 1), or `scale` not finite and above 1.
    """
    if not 1 < scale < float("inf"):
        raise ValueError(
            f"The scale of the intervals is finite and must be above 1, unguided; got {scale}."
        )
    if not 0 < mass < 1:
        raise ValueError(
            f"The interval holds a share of the information inside (0, 1); got {mass}."
        )


def study_guidance(
    model: StudiedModel,
    *,
    theory: Denoiser | None = None,
    sections: Sequence[str] = SECTIONS,
    mass: float = 0.8,
    scale: float = 2.0,
    num_images: int = 500,
    num_paths: int = 150,
    curve_images: int = 200,
    seed: int = 0,
    progress: Progress = SILENT,
) -> GuidanceStudy:
    """Run sections.

    Args:
        model: The model with its judge.
        theory: A mixture fitted to its states, as a model; its trajectories are shown beside.
        sections: Of `SECTIONS`.
        mass: Share of the information in the interval.
        scale: w of the interval search.
        num_images: Of every judged run.
        num_paths: Of every run of tracked trajectories.
        curve_images: Held-out images of the entropy curve.
        seed: Of everything random.
        progress: Told of every run and of its steps.

    Warns with `TrustWarning` where the curve cannot be trusted, and with it the interval.

    Raises:
        ValueError: If a section is unknown, as `check_numbers`, or as the sections.
    """
    unknown = [name for name in sections if name not in SECTIONS]
    if unknown or not sections:
        raise ValueError(f"Sections are {', '.join(SECTIONS)}; got {', '.join(unknown) or 'none'}.")
    check_numbers(mass, scale)
    progress.step("the entropy curve of held-out images")
    data = model.states(model.averaged, seed)
    chosen = slice(0, min(curve_images, len(data.labels)))
    images, labels = data.images[chosen].double(), data.labels[chosen]
    record = track(
        model.denoiser,
        images,
        labels,
        sigmas=np.geomspace(*model.denoiser.sigma_range, CURVE_LEVELS),
        seed=seed,
        progress=progress,
    )
    curve = trusted_curve(record, images, labels)
    curve.trust.warn("The entropy curve that the interval is read from")
    interval = guidance_interval(curve, mass)
    window = interval[0], interval[1]
    information = intervals = grids = None
    if "information" in sections:
        information = guided_information(
            model,
            window,
            theory=theory,
            num_paths=num_paths,
            seed=seed,
            progress=progress,
        )
    if "intervals" in sections:
        intervals = search_intervals(
            model,
            window,
            record.evaluations,
            scale=scale,
            num_images=num_images,
            seed=seed,
            progress=progress,
        )
    if "grids" in sections:
        grids = compare_grids(model, record, num_images=num_images, seed=seed, progress=progress)
    return GuidanceStudy(
        model.name, mass, curve, interval, chosen.stop, information, intervals, grids
    )
