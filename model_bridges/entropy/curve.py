"""H(C|X) of a trained model against the noise level, by the estimator of one's choice.

    tracking            entropy of the class posterior tracked along forward-noised data
    gap                 denoiser gap against the Bayes mixture, with the tracked posterior
    gap-unconditional   denoiser gap against the unconditional model
    gap-sampled         the same for the labelled class, levels sampled where the integrand is
    tracking-ratio      ratio to the unconditional model, prior e^l
    tracking-forced     the same with a forced prior of 1/2, binary
    elbo                ELBO differences at the noisy state, without a path
    clones              agreement of two reverse runs: the middle of its bounds on H

The first three and the ratio forms read one pass over the model; use `track` and the read-outs to get them
from one. Nats; log-SNR `-2 log sigma`.
"""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from gmm_speciation.checks import as_count
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.lookup import pick
from gmm_speciation.partitions import Partition
from gmm_speciation.progress import Parts, Progress
from model_bridges.denoisers.arrays import Images, Labels
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.checks import check_data, check_weighed, class_weights
from model_bridges.entropy.clones import CloneJob
from model_bridges.entropy.elbo import ElboJob
from model_bridges.entropy.evidence import evidence, label_divergence, posterior_divergence
from model_bridges.entropy.gap import gap_curve
from model_bridges.entropy.problem import TRIVIAL, named_partitions, problem
from model_bridges.entropy.sampled_gap import SampledGapJob
from model_bridges.entropy.tracking import TrackingJob, merged_posterior
from model_bridges.entropy.trust import trusted
from model_bridges.runs.folder import run_job
from model_bridges.studied import StudiedModel
from model_bridges.tracking.forward import track
from model_bridges.tracking.readouts import forced_prior_curve, ratio_curve, tracked_curve
from model_bridges.tracking.tracked import PartitionLike, TrackedPosterior

READOUTS: dict[str, Callable[[TrackedPosterior, PartitionLike], EntropyCurve]] = {
    "tracking": tracked_curve,
    "gap": lambda record, partition: gap_curve(record, "bayes", partition),
    "gap-unconditional": lambda record, partition: gap_curve(record, "unconditional", partition),
    "tracking-ratio": ratio_curve,
    "tracking-forced": forced_prior_curve,
}
ESTIMATORS = (*READOUTS, "gap-sampled", "elbo", "clones")
NEED_UNCONDITIONAL = ("gap-unconditional", "gap-sampled", "tracking-ratio", "tracking-forced")
NEED_LABELS = ("gap-sampled", "tracking-forced")


def entropy_curve(
    model: Denoiser | StudiedModel,
    x0: Images | None = None,
    labels: Labels | None = None,
    *,
    estimator: str = "tracking",
    partition: Partition | Sequence[int] | str | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    sigmas: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    max_batch: int = 1024,
    progress: Progress | Parts | None = None,
) -> EntropyCurve:
    """Class entropy and its rate on data, averaged over images.

    `curve.trust` holds the checks that would have caught a wrong model (see `trust`); where one fails the
    call warns with `TrustWarning`.

    Args:
        model: A `StudiedModel`, which brings its data; or a denoiser.
        x0: Clean data of a denoiser.
        labels: True classes; "gap-sampled" and "tracking-forced" need them.
        estimator: One of those of the module; "tracking" by default.
        partition: Groups of classes, or the name of those that a `StudiedModel` knows; every class its own
            by default.
        seed: Of everything random.
        run: Folder of a long run, which can be killed and continued (see `runs`).
        sigmas, prior, max_batch: As in `track`. An unconditional model is taken to average over the model's
            `class_prior`, or, where it says none, over this prior. Without a folder, the estimators of one
            pass take 64 even levels by default; the others, and all with one, place their own.
        progress: Told of the parts that are done; a `Progress`, or a function `(done, in all)`.

    Raises:
        ValueError: If the estimator is unknown or needs what is not there, such as an unconditional model of
            this prior, there are fewer than two images, the folder holds another run, and as `data_of` and
            `track`.
        OSError: If the disk is full or the device is lost.
    """
    denoiser, x0, labels, partition = data_of(model, x0, labels, partition, seed)
    x0, labels = check_data(denoiser, x0, labels)
    check_weighed(labels, class_weights(prior, denoiser))
    check_estimator(estimator, denoiser.has_unconditional, labels is not None)
    if prior is not None and getattr(denoiser, "class_prior", None) is not None:
        own = class_weights(None, denoiser)
        if estimator in NEED_UNCONDITIONAL and not np.allclose(class_weights(prior, denoiser), own):
            raise ValueError(
                f"`estimator={estimator!r}` compares with the unconditional model, which averages over the "
                f"model's own `class_prior`; got another `prior`. Use 'tracking', 'gap', 'elbo' or 'clones'."
            )
    if len(x0) < 2:
        raise ValueError(f"An error bar needs at least two images in `x0`; got {len(x0)}.")
    options: dict[str, Any] = {
        "sigmas": sigmas,
        "prior": prior,
        "partitions": {} if partition is None else {"partition": partition},
        "seed": seed,
        "max_batch": max_batch,
    }
    named_partitions(options["partitions"], denoiser.num_classes)
    if run is None and estimator in READOUTS:
        record = track(denoiser, x0, labels, progress=progress, **options)
        return _told(trusted_curve(record, x0, labels, estimator, partition))
    name = TRIVIAL if partition is None else "partition"
    kinds = {"elbo": ElboJob, "clones": CloneJob, "gap-sampled": SampledGapJob}
    job = kinds.get(estimator, TrackingJob)(problem(denoiser, x0, labels, **options))
    merged = run_job(job, run, progress=progress)
    read = {"estimator": estimator} if isinstance(job, TrackingJob) else {}
    curve = job.curve(merged, name, **read)
    found = job.evidence(merged, name)
    divergence = job.problem.divergence(name, merged.rows.get(f"posterior {name}"))
    return _told(trusted(curve, found, estimator, divergence, labels is not None))


def trusted_curve(
    record: TrackedPosterior,
    x0: Float[Tensor, "N *event"],
    labels: Int[Tensor, " N"] | None,
    estimator: str = "tracking",
    partition: Partition | Sequence[int] | None = None,
) -> EntropyCurve:
    """A read-out of tracked posteriors with its trust block; nothing is warned of.

    Args:
        record: The posteriors.
        x0, labels: The images that were tracked, and their classes where they are known.
        estimator: One of `READOUTS`.
        partition: Groups of classes; every class its own by default.
    """
    curve = READOUTS[estimator](record, partition)
    merged, single = merged_posterior(record, x0, {TRIVIAL: partition}), partition is None
    found = evidence(merged, TRIVIAL, record.sigmas, single)
    divergence = label_divergence(labels, record.prior)
    if divergence is None:
        divergence = posterior_divergence(np.exp(record.log_posterior[0]), record.prior)
    return trusted(curve, found, estimator, divergence, labels is not None)


def data_of(
    model: Denoiser | StudiedModel,
    x0: Images | None,
    labels: Labels | None,
    partition: Partition | Sequence[int] | str | None,
    seed: int = 0,
) -> tuple[Denoiser, Images, Labels | None, Partition | Sequence[int] | None]:
    """The denoiser with its data and grouping: those of a `StudiedModel`, or those given.

    Raises:
        ValueError: If the grouping is unknown, a denoiser comes without data or a `StudiedModel` with them.
    """
    if isinstance(model, StudiedModel):
        if x0 is not None or labels is not None:
            raise ValueError("A StudiedModel brings its data; give it others by `with_data`.")
        data = model.states(model.averaged, as_count(seed, "seed", 0))
        if isinstance(partition, str):
            partition = pick(partition, model.partitions, "grouping")
        return model.denoiser, data.images, data.labels, partition
    if isinstance(partition, str):
        raise ValueError(
            f"Only a StudiedModel knows groupings by name; got {partition!r}. Give a `Partition`."
        )
    if x0 is None:
        raise ValueError(
            "A denoiser alone has no data: give `x0`, and `labels` where there are any, or a model with its "
            "data, `mb.study(name, data=...)`, or on samples of its own, `mb.on_own_samples`."
        )
    return model, x0, labels, partition


def _told(curve: EntropyCurve) -> EntropyCurve:
    """The curve, after a warning if it cannot be trusted."""
    curve.trust.warn("The entropy curve", stacklevel=4)
    return curve


def check_estimator(name: str, has_unconditional: bool, has_labels: bool) -> None:
    """Refuse an estimator that is none, or that needs what is not there.

    Raises:
        ValueError: If so; it says what to do.
    """
    if name not in ESTIMATORS:
        near = difflib.get_close_matches(str(name), ESTIMATORS) or list(ESTIMATORS)
        raise ValueError(
            f"`estimator` must be one of {', '.join(ESTIMATORS)}; got {name!r}. "
            f"Did you mean {' or '.join(map(repr, near))}?"
        )
    if name in NEED_UNCONDITIONAL and not has_unconditional:
        raise ValueError(
            f"`estimator={name!r}` needs an unconditional model, and this one has none. Use 'tracking', "
            "'gap', 'elbo' or 'clones', or add the unconditional network of the pair."
        )
    if name in NEED_LABELS and not has_labels:
        raise ValueError(f"`estimator={name!r}` needs the true classes; pass `labels`.")
