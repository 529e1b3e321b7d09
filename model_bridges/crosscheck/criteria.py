"""Speciation criteria of the fitted mixture beside those of the model, and which of them can be compared.

    spectral           sigma^2 = Lambda, the largest eigenvalue of the mixture's covariance
    between classes    the same of the class means
    bifurcation        the maximum of log p_t that continues pure noise loses its stability
    entropic           largest rate -dH/dlambda
    half entropy       H(C|X) = H(C) / 2
    cloning            phi = E sum_c p(c|x)^2 has gone 0.55 of the way from chance to certainty

The first three are properties of a distribution, and nothing of a network is measured for them. The others
are functionals of the class posterior: on the mixture's side of its closed form, on the model's of the
tracked one. phi is what two reverse runs from one state agree by where that posterior is calibrated (Biroli
et al. 2024, arXiv 2402.18491); the runs themselves are the estimator "clones".

The error of a point of the mixture is that of averages over draws; the mixture counts as known. What it owes
to the states that it was fitted to is an error of its own (`errors_of_fit`).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from gmm_speciation.covariances import Full
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.speciation import (
    CLONE_SHARE,
    SpeciationPoint,
    between_class_eigenvalue,
    cloning_point,
    curvature_point,
    entropic_point,
    half_entropy_point,
    spectral_point,
    top_eigenvalue,
)
from model_bridges.tracking.readouts import curve_of
from model_bridges.tracking.tracked import Chain, PartitionLike, TrackedPosterior, group_log_sum

NOT_MEASURED = "nothing of a network is measured for it"
POSTERIOR = "yes: of the closed-form and of the tracked posterior"
# Whether a model's point is the same quantity as the theory's, and of what.
COMPARABLE = {
    "spectral": "no: of the data's covariance",
    "spectral between classes": "no: of the data's class means",
    "bifurcation": "no: of log p of the fitted mixture",
    "entropic peak": "yes: of the rate by the closed form and by the denoiser gap",
    "half entropy": POSTERIOR,
    "cloning": POSTERIOR,
}
REFIT_DRAWS = 512  # the same ones for all refits, whose differences need few
LARGEST = 1_000_000  # numbers in covariances of which points are searched for: a minute


def _too_large(mixture: GaussianMixture) -> SpeciationPoint | None:
    """No point, and why, where a search would take long: d^2 products for each draw and component."""
    own = isinstance(mixture.covariance, Full) and not mixture.covariance.shared
    if not own or mixture.num_components * mixture.dim**2 <= LARGEST:
        return None
    words = f"not followed with {mixture.num_components} covariances of {mixture.dim}² numbers"
    return SpeciationPoint(None, words)


def distribution_points(mixture: GaussianMixture) -> dict[str, SpeciationPoint]:
    """The points of the whole distribution, which are those of every grouping of its classes."""
    bifurcation = _too_large(mixture) or curvature_point(mixture)
    return {"spectral": spectral_point(top_eigenvalue(mixture)), "bifurcation": bifurcation}


def both_sides(
    whole: dict[str, SpeciationPoint],
    mixture: GaussianMixture,
    record: TrackedPosterior,
    partition: Partition,
    theory: EntropyCurve,
    tracked: EntropyCurve,
    num_samples: int,
    seed: int,
) -> dict[str, SpeciationPoint]:
    """Every criterion of one grouping by "NAME, theory" and "NAME, model", in the order of `COMPARABLE`.

    Args:
        whole: Points of the whole distribution, by name.
        mixture, record, partition: The two sides, and the classes.
        theory, tracked: Their entropy curves.
        num_samples: Draws of X for the theory's clones.
        seed: Of these.
    """
    of_mixture = whole | mixture_points(mixture, partition, theory, num_samples, seed)
    of_model = _read(tracked) | {
        "cloning": _or_reason(partial(tracked_cloning_point, record, partition))
    }
    missing = SpeciationPoint(None, NOT_MEASURED)
    return {
        f"{name}, {side}": found.get(name, missing)
        for name in COMPARABLE
        for side, found in (("theory", of_mixture), ("model", of_model))
    }


def mixture_points(
    mixture: GaussianMixture, partition: Partition, curve: EntropyCurve, num_samples: int, seed: int
) -> dict[str, SpeciationPoint]:
    """Points of one grouping of a mixture's classes that are quick to find, by name.

    Args:
        mixture, partition: Whose they are.
        curve: Its entropy, whose levels are where they are looked for.
        num_samples, seed: Draws of X for its clones.
    """
    cloning = _too_large(mixture) or _or_reason(
        partial(
            cloning_point,
            mixture,
            partition=partition,
            log_snr_range=(float(curve.log_snr[-1]), float(curve.log_snr[0])),
            num_samples=num_samples,
            key=jax.random.key(seed),
        )
    )
    between = spectral_point(between_class_eigenvalue(mixture, partition))
    return {"spectral between classes": between, "cloning": cloning} | _read(curve)


def _read(curve: EntropyCurve) -> dict[str, SpeciationPoint]:
    return {
        "entropic peak": entropic_point(curve),
        "half entropy": _or_reason(partial(half_entropy_point, curve)),
    }


def errors_of_fit(
    points: Mapping[str, SpeciationPoint],
    refits: Iterable[GaussianMixture],
    partition: Partition,
    log_snr: Float[np.ndarray, " L"],
    seed: int,
) -> dict[str, Estimate]:
    """The mixture's points with the errors that they owe to the states fitted, but for the bifurcation.

    Args:
        points: By "NAME, theory", as `both_sides` gives them.
        refits: Fits without one part of the states each.
        partition, log_snr, seed: Of the points.
    """

    def again(mixture: GaussianMixture) -> dict[str, SpeciationPoint]:
        curve = entropy_curve(
            mixture, log_snr, partition=partition, num_samples=REFIT_DRAWS, key=jax.random.key(seed)
        )
        whole = {"spectral": spectral_point(top_eigenvalue(mixture))}
        return whole | mixture_points(mixture, partition, curve, REFIT_DRAWS, seed)

    of_theory = {name.removesuffix(", theory"): point for name, point in points.items()}
    return jackknifed(of_theory, map(again, refits))


def jackknifed(
    points: Mapping[str, SpeciationPoint], without: Iterable[Mapping[str, SpeciationPoint]]
) -> dict[str, Estimate]:
    """Log-SNRs of points with their jackknife errors; NaN where one of all has no point.

    Args:
        points: By name, of all states.
        without: Those that are looked for again without one part of the states each.
    """

    def place(point: SpeciationPoint) -> float:
        return np.nan if point.log_snr is None else float(point.log_snr.value)

    rows = [{name: place(point) for name, point in found.items()} for found in without]
    return {
        name: Estimate.jackknife(place(points[name]), np.array([row[name] for row in rows]))
        for name in rows[0]
    }


def tracked_cloning_point(
    record: TrackedPosterior, partition: PartitionLike = None, share: float = CLONE_SHARE
) -> SpeciationPoint:
    """Where `E sum_c p_c^2` of the tracked posterior has gone `share` of the way from chance to 1.

    `1 - sum_c p_c^2` is an entropy too (of order 2): its curve has batches of images, and the point their
    error.

    Raises:
        ValueError: If it is there at the noisiest level already.
    """
    chosen = record.partition(partition)
    with np.errstate(divide="ignore"):
        chance = float(np.exp(2 * group_log_sum(np.log(record.prior), chosen)).sum())

    def disagreement(chain: Chain) -> np.ndarray:
        return 1 - np.exp(2 * group_log_sum(chain.log_posterior, chosen)).sum(-1)

    values = record.extrapolate(disagreement)
    slope = -np.gradient(values, record.log_snr, axis=0)
    curve = curve_of(record, values, slope, 1 - chance, "order-2 entropy of tracking")
    level = (1 - share) * (1 - chance)
    least = float(np.min(curve.entropy.value))
    if least > level:
        return SpeciationPoint(
            None,
            f"clones agree with probability {1 - least:.4g} at λ = {record.log_snr[0]:.4g}, the cleanest "
            f"level looked at: {1 - level:.4g} is needed",
        )
    return SpeciationPoint(curve.crossing(level))


def _or_reason(find: Callable[[], SpeciationPoint]) -> SpeciationPoint:
    """The point, or why there is none on these levels."""
    try:
        return find()
    except ValueError as error:
        return SpeciationPoint(None, str(error))
