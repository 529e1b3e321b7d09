"""Theory and trained model side by side, on one log-SNR axis.

On labelled images (data, or the model's own samples) one tracking pass gives, for the classes and for
every grouping of them,

    H by tracking           entropy of the posterior tracked along each image's own noise path
    H by the denoiser gap   H(C) minus the integral of `E sum_c p_c |D_c - Dbar|^2 / sigma^2`
    ... unconditional form  the same against the unconditional network, or the empty prompt
    cross-entropy           of the tracked posterior with the true class; an upper bound on H(C|X)

beside the closed-form entropy of a Gaussian mixture fitted to the training data, and the
cross-entropies of posteriors that know nothing of the model. A calibrated model has equal entropy and
cross-entropy and closes its budget: what the denoisers say was lost over the grid is what the
posteriors say was lost. All averages are over the distribution named in `law`. Nats; log-SNR `-2 log sigma`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.progress import Parts, Progress, listening
from gmm_speciation.shares import with_unseen
from gmm_speciation.speciation import SpeciationPoint
from model_bridges.crosscheck.checks import verdicts
from model_bridges.crosscheck.criteria import both_sides, distribution_points, errors_of_fit
from model_bridges.crosscheck.results import CrossCheck, VariableCheck
from model_bridges.crosscheck.theory import FittedMixture, with_weights
from model_bridges.crosscheck.tracked_job import tracked
from model_bridges.denoisers.base import UNCONDITIONAL_NETWORK, Denoiser, Reference
from model_bridges.denoisers.checks import check_levels
from model_bridges.entropy.evidence import Evidence, evidence, label_divergence
from model_bridges.entropy.gap import gap_curve, information_budget
from model_bridges.entropy.pairs import (
    MOST_CLASSES,
    classes_with_images,
    compare_pairs,
    mixture_pairs,
    tracked_pairs,
)
from model_bridges.entropy.problem import problem
from model_bridges.entropy.tracking import merged_posterior
from model_bridges.entropy.tree import decision_tree
from model_bridges.entropy.trust import trusted
from model_bridges.images.labelled import LabelledImages
from model_bridges.tracking.calibration import (
    accuracy,
    calibration_error,
    cross_entropy,
    inside,
    reliability,
)
from model_bridges.tracking.readouts import decision_sigma, slope_curve, tracked_curve
from model_bridges.tracking.tracked import TrackedPosterior


def compare(
    denoiser: Denoiser,
    data: LabelledImages,
    mixture: GaussianMixture,
    *,
    partitions: Mapping[str, Partition],
    nested: tuple[str, str] | None = None,
    class_name: str = "class",
    bounds: Mapping[str, Mapping[str, Estimate]] | None = None,
    fit: FittedMixture | None = None,
    sigmas: Float[np.ndarray, " L"] | None = None,
    num_paths: int = 1,
    num_samples: int = 2048,
    seed: int = 0,
    reference: Reference = UNCONDITIONAL_NETWORK,
    samples: LabelledImages | None = None,
    progress: Progress | Parts | None = None,
    folder: Path | None = None,
) -> CrossCheck:
    """Measure a model by every estimator and put the theory of a mixture beside it.

    Args:
        denoiser: The model.
        data: Labelled images in the model's units.
        mixture: The theory's side, one component a class, in the same units, flattened. It is taken with the
            class weights of the model.
        partitions: Groupings of the classes, by name; the single classes come by themselves.
        nested: Names of a coarse and a fine variable whose conditional entropy is shown too.
        class_name: What to call the single classes.
        bounds: Cross-entropies of other posteriors `(L,)`, by variable and name.
        fit: How the mixture came about, for the record.
        sigmas: Levels, equally spaced in log sigma; 64 over the model's range by default.
        num_paths: Noise paths of each image.
        num_samples: Draws of X for the mixture's entropy.
        seed: Of the noise and the draws.
        reference: What the model's unconditional part is.
        samples: Samples of the model, to be shown.
        progress: Told of the steps of the tracking pass; a `Progress`, or a function `(done, in all)`.
        folder: Of the tracking pass; killed, it continues there, and processes of a launch share it.

    Raises:
        ValueError: If the mixture does not have one component a class, or as `track`.
    """
    if mixture.num_components != denoiser.num_classes:
        raise ValueError(
            f"The mixture must have one component a class ({denoiser.num_classes}); got "
            f"{mixture.num_components}. Fit it with `gmm_speciation.fit(x, labels)`."
        )
    given = problem(
        denoiser,
        data.images,
        data.labels,
        law=data.law,
        sigmas=check_levels(sigmas, denoiser.sigma_range),
        partitions=partitions,
        seed=seed,
    )
    mixture = with_weights(mixture, given.prior)
    record = tracked(given, num_paths, folder, progress)
    groupings = {class_name: Partition.trivial(denoiser.num_classes), **partitions}
    sums = merged_posterior(record, data.images, groupings)
    whole = distribution_points(mixture)
    divergence = label_divergence(given.labels, given.prior)
    variables = {
        name: _variable(
            name,
            record,
            evidence(sums, name, record.sigmas, partition.is_trivial),
            divergence,
            partition,
            mixture,
            whole,
            dict((bounds or {}).get(name, {})),
            num_samples,
            seed,
            reference,
        )
        for name, partition in groupings.items()
    }
    conditional = {}
    if nested is not None:
        coarse, fine = nested
        below, above = variables[fine], variables[coarse]
        conditional = {
            f"{fine} given {coarse}, model": _difference(
                below.tracked, above.tracked, record.num_images
            ),
            f"{fine} given {coarse}, theory": _difference(below.theory, above.theory, num_samples),
        }
    main = variables[class_name]
    if fit is not None and fit.refits is not None:
        listening(progress).step("fitting the mixture without each part of its states")
        found = errors_of_fit(main.points, fit.refits(), main.partition, record.log_snr, seed)
        main = variables[class_name] = replace(main, fit_errors=found)
    window = main.tracked.window(0.8).sigma  # beyond it posteriors are certain or know nothing
    return CrossCheck(
        data.law,
        record,
        variables,
        conditional,
        reliability(record.levels(inside(record, window))),
        data.images if data.pictures is None else data.pictures,
        mixture,
        fit,
        verdicts(main),
        samples,
        **_pairs(record, mixture, seed),
    )


def _pairs(record: TrackedPosterior, mixture: GaussianMixture, seed: int) -> dict[str, Any]:
    """Every pair of classes and the trees that follow, where there are enough classes and not too many."""
    if not 3 <= len(classes_with_images(record)) <= MOST_CLASSES:
        return {}
    measured = tracked_pairs(record)
    expected = mixture_pairs(mixture, record.log_snr, measured.classes, seed=seed)
    return {
        "pairs": compare_pairs(measured, expected, mixture),
        "tree": decision_tree(measured, seed=seed),
        "theory_tree": decision_tree(expected, seed=seed),
    }


def _variable(
    name: str,
    record: TrackedPosterior,
    found: Evidence,
    divergence: Estimate | None,
    partition: Partition,
    mixture: GaussianMixture,
    whole: dict[str, SpeciationPoint],
    bounds: dict[str, Estimate],
    num_samples: int,
    seed: int,
    reference: Reference,
) -> VariableCheck:
    theory = entropy_curve(
        mixture,
        record.log_snr,
        partition=partition,
        num_samples=num_samples,
        key=jax.random.key(seed),
    )
    tracked = trusted(tracked_curve(record, partition), found, divergence=divergence)
    tracked.trust.warn(f"The curve of {name}", stacklevel=4)
    points = both_sides(whole, mixture, record, partition, theory, tracked, num_samples, seed)
    free = record.excess is not None
    return VariableCheck(
        name,
        partition,
        tracked,
        slope_curve(record, partition),
        gap_curve(record, "bayes", partition),
        gap_curve(record, "unconditional", partition) if free else None,
        theory,
        cross_entropy(record, partition),
        calibration_error(record, partition),
        calibration_error(record, partition, tracked.window(0.8).sigma),
        accuracy(record, partition),
        information_budget(record, partition),
        bounds,
        found,
        points,
        decision_sigma(record, partition),
        reference,
    )


def _difference(fine: EntropyCurve, coarse: EntropyCurve, num_draws: int) -> EntropyCurve:
    """`H(fine | coarse, X) = H(fine | X) - H(coarse | X)`, paired batch by batch where both have them."""
    prior = fine.prior_entropy - coarse.prior_entropy
    one, other = fine.batches, coarse.batches
    if one is None or other is None:
        entropy, rate = fine.entropy - coarse.entropy, fine.rate - coarse.rate
        return EntropyCurve(fine.log_snr, entropy, rate, prior, fine.method)
    batches = Batches(one.entropy - other.entropy, one.rate - other.rate)
    entropy, rate = (Estimate.from_samples(part) for part in (batches.entropy, batches.rate))
    estimates = with_unseen(entropy, rate, num_draws)
    return EntropyCurve(fine.log_snr, *estimates, prior, fine.method, batches)
