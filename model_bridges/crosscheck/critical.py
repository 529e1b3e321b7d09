"""The noise levels at which a trained model decides, by every criterion that it can be asked.

    entropic         largest rate -dH/dlambda of the class entropy by a read-out of the model
    half entropy     where that entropy is half of the prior's
    spectral         alpha^2 Lambda = sigma^2 with the largest eigenvalue of the data's covariance
    between classes  the same of the covariance of the class means

The first two are the model's own; the others say what its data let expect, by the mixture fitted to them,
with the error that it owes to them: a jackknife of fits without a part of the data.
Log-SNR lambda = -2 log sigma; a point's `on(process)` gives the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gmm_speciation.checks import ArrayLike
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.lookup import pick
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.speciation import (
    SpeciationPoint,
    between_class_eigenvalue,
    entropic_point,
    half_entropy_point,
    sample_top_eigenvalue,
    spectral_point,
    top_eigenvalue,
)
from gmm_speciation.speciation.points import points_in_words
from model_bridges.crosscheck.criteria import jackknifed
from model_bridges.crosscheck.theory import fit_of, fitted_mixture
from model_bridges.denoisers.arrays import Images, Labels
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.checks import check_data, class_weights
from model_bridges.entropy.curve import ESTIMATORS, data_of, entropy_curve
from model_bridges.images.labelled import LabelledImages
from model_bridges.studied import StudiedModel


@dataclass(frozen=True, eq=False)
class CriticalTimes:
    """The criteria side by side; each has a log-SNR, or a reason for having none."""

    entropic: SpeciationPoint
    half_entropy: SpeciationPoint
    spectral: SpeciationPoint
    between_class: SpeciationPoint
    curve: EntropyCurve  # what the first two are read from; its `trust` is theirs

    def points(self) -> dict[str, SpeciationPoint]:
        """Name and point of every criterion."""
        return {
            "entropic peak": self.entropic,
            "half entropy": self.half_entropy,
            "spectral": self.spectral,
            "between-class spectral": self.between_class,
        }

    def __repr__(self) -> str:
        trust = "trusted" if self.curve.trust.ok else "NOT to be trusted"
        head = f"CriticalTimes(log-SNR λ by {self.curve.method}, {trust}"
        return f"{head}\n{points_in_words(self.points())}\n)"


def critical_times(
    model: Denoiser | StudiedModel,
    x0: Images | None = None,
    labels: Labels | None = None,
    *,
    method: str = "tracking",
    partition: Partition | Sequence[int] | str | None = None,
    seed: int = 0,
    **options: Any,
) -> CriticalTimes:
    """The critical noise levels of a trained model.

    Args:
        model: A `StudiedModel`, which brings its data; or a denoiser.
        x0, labels: Clean data of a denoiser, and their classes, without which no mixture is fitted.
        method: The read-out of the entropy, an estimator of `entropy_curve`.
        partition: Groups of classes, or the name of those that a `StudiedModel` knows; every class its own
            by default.
        seed: Of everything random.
        **options: Further ones of `entropy_curve`, such as `sigmas` and `run`.

    Raises:
        ValueError: If the method or the grouping is unknown, a denoiser comes without data or a
            `StudiedModel` with them, and as `entropy_curve`.
    """
    pick(method, dict.fromkeys(ESTIMATORS), "method")
    denoiser, x0, labels, partition = data_of(model, x0, labels, partition, seed)
    curve = entropy_curve(
        denoiser, x0, labels, estimator=method, partition=partition, seed=seed, **options
    )
    # The slope of the middle of two bounds is no rate.
    no_rate = SpeciationPoint(None, "clones bound the entropy and give no rate")
    return CriticalTimes(
        no_rate if method == "clones" else entropic_point(curve),
        half_entropy_point(curve),
        *_spectral(model, x0, labels, partition, seed, options.get("prior")),
        curve,
    )


def _spectral(
    model: Denoiser | StudiedModel,
    x0: Images,
    labels: Labels | None,
    partition: Partition | Sequence[int] | None,
    seed: int,
    prior: ArrayLike | None,
) -> tuple[SpeciationPoint, SpeciationPoint]:
    """Of the whole covariance and of the class means, by the mixture of the data where one can be fitted."""
    try:
        if isinstance(model, StudiedModel):
            fit = fit_of(model, seed, prior)
        else:
            x0, labels = check_data(model, x0, labels)
            if labels is None:
                unknown = SpeciationPoint(None, "class means need the labels of the data")
                whole = sample_top_eigenvalue(x0.flatten(1).double().cpu().numpy())
                return spectral_point(whole), unknown
            given = LabelledImages(x0, labels, "the data given")
            fit = fitted_mixture(given, class_weights(prior, model), model.sigma_range)
    except ValueError as error:  # too few data: what the model itself says stands
        return SpeciationPoint(None, str(error)), SpeciationPoint(None, str(error))

    def points(mixture: GaussianMixture) -> dict[str, SpeciationPoint]:
        between = between_class_eigenvalue(mixture, partition)
        return {
            "whole": spectral_point(top_eigenvalue(mixture)),
            "between": spectral_point(between),
        }

    found = points(fit.mixture)
    if fit.refits is not None:
        for name, place in jackknifed(found, map(points, fit.refits())).items():
            if found[name].log_snr is not None:
                found[name] = SpeciationPoint(place)
    return found["whole"], found["between"]
