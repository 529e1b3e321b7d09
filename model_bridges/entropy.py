"""H(C|X) of a trained model against the noise level, by the estimator of one's choice.

    tracking           entropy of the class posterior tracked along forward-noised data
    gap                denoiser gap against the Bayes mixture, with the tracked posterior
    gap-unconditional  denoiser gap against the unconditional model

All three read the same pass over the model; use `trace` and the read-outs to get them from one.
Nats; log-SNR `-2 log sigma`.
"""

import difflib
from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.partitions import Partition
from model_bridges.denoiser import Denoiser
from model_bridges.gap import gap_curve
from model_bridges.readouts import tracked_curve
from model_bridges.traces import PartitionLike, Trace
from model_bridges.tracking import trace

ESTIMATORS: dict[str, Callable[[Trace, PartitionLike], EntropyCurve]] = {
    "tracking": tracked_curve,
    "gap": lambda record, partition: gap_curve(record, "bayes", partition),
    "gap-unconditional": lambda record, partition: gap_curve(record, "unconditional", partition),
}


def entropy_curve(
    denoiser: Denoiser,
    x0: Float[Tensor, "N *event"],
    labels: Int[Tensor, " N"] | None = None,
    *,
    estimator: str = "tracking",
    partition: Partition | Sequence[int] | None = None,
    seed: int = 0,
    sigmas: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    max_batch: int = 1024,
    progress: Callable[[int, int], object] | None = None,
) -> EntropyCurve:
    """Class entropy and its rate on data, averaged over images.

    Args:
        denoiser: The model.
        x0: Clean data.
        labels: True classes; not needed by these estimators.
        estimator: "tracking", "gap" or "gap-unconditional".
        partition: Groups of classes; every class its own by default.
        seed: Fixes the noise.
        sigmas, prior, max_batch, progress: As in `trace`.

    Raises:
        ValueError: If the estimator is unknown or needs an unconditional model that is not there,
            there are fewer than two images, and as `trace`.
    """
    if estimator not in ESTIMATORS:
        near = difflib.get_close_matches(estimator, ESTIMATORS) or list(ESTIMATORS)
        raise ValueError(
            f"`estimator` must be one of {', '.join(ESTIMATORS)}; got {estimator!r}. "
            f"Did you mean {' or '.join(map(repr, near))}?"
        )
    if estimator == "gap-unconditional" and not denoiser.has_unconditional:
        raise ValueError(
            "`estimator='gap-unconditional'` needs an unconditional model, and this one has none. "
            "Use `estimator='gap'`, or add the unconditional network of the pair."
        )
    if len(x0) < 2:
        raise ValueError(f"An error bar needs at least two images in `x0`; got {len(x0)}.")
    record = trace(
        denoiser,
        x0,
        labels,
        sigmas=sigmas,
        prior=prior,
        partitions={} if partition is None else {"partition": partition},
        seed=seed,
        max_batch=max_batch,
        progress=progress,
    )
    return ESTIMATORS[estimator](record, partition)
