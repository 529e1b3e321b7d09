"""Class entropy from the distance between denoisers (I-MMSE).

In EDM coordinates, with `D_c` the denoiser of class c and D that of all of them,

    dH(C|X)/dlog sigma = sigma^-2 E |D_C - D|^2,     -dH/dlambda = E |D_C - D|^2 / (2 sigma^2)

per unit log-SNR `lambda = -2 log sigma` (Guo, Shamai & Verdu 2005). For D there are two choices:

    "bayes"          the mixture `Dbar = sum_c p_c D_c` with the tracked posterior p
    "unconditional"  the unconditional model `D_u`; then sum_c p_c |D_c - D_u|^2
                     = sum_c p_c |D_c - Dbar|^2 + |Dbar - D_u|^2

equal for an exact model. For a trained one the last term, the *excess*, is disagreement of two
networks and carries no information; "labelled" is `|D_y - D_u|^2` with the true class y instead of
the average over p. The entropy is `H(C)` minus the integral from sigma_max down, of a cubic spline in
log sigma through the levels: a linear map, applied image by image, so that errors know the
correlation between levels. What x says at sigma_max already is left out, as in tracking.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from model_bridges.tracking.readouts import curve_of, tracked_curve
from model_bridges.tracking.tracked import PartitionLike, TrackedPosterior

FORMS = ("bayes", "unconditional", "labelled")


def gap(
    record: TrackedPosterior, form: str = "bayes", partition: PartitionLike = None
) -> Float[np.ndarray, "L N"]:
    """`|D_c - D|^2` of each image at each level in one of the three forms.

    Raises:
        ValueError: If the form is unknown, needs a part that the tracked posterior does not have, or the
            partition was not tracked ("labelled" knows the single classes only).
    """
    if form not in FORMS:
        raise ValueError(f"`form` must be one of {', '.join(FORMS)}; got {form!r}.")
    if form == "bayes":
        return record.group_gap(partition)
    if record.excess is None:
        raise ValueError(
            f"`form={form!r}` needs an unconditional model, and the tracked one has none. Use "
            "`form='bayes'`, or track a pair of networks."
        )
    if form == "unconditional":
        return record.group_gap(partition) + record.excess
    if record.labelled_gap is None or not record.partition(partition).is_trivial:
        raise ValueError(
            "`form='labelled'` needs true labels and the single classes as partition. Pass `labels` "
            "to `track`, or use `form='unconditional'`."
        )
    return record.labelled_gap


def integral_from_top(
    sigmas: Float[np.ndarray, " L"], rate: Float[np.ndarray, "L *N"]
) -> Float[np.ndarray, "L *N"]:
    """Integral of a rate per unit `log sigma` from the largest level down to each level."""
    position = np.log(sigmas)
    kind = "not-a-knot" if len(sigmas) > 3 else "natural"
    antiderivative = CubicSpline(position, rate, bc_type=kind).antiderivative()
    return antiderivative(position[-1]) - antiderivative(position)


def gap_curve(
    record: TrackedPosterior, form: str = "bayes", partition: PartitionLike = None
) -> EntropyCurve:
    """Entropy curve from the denoiser gap; its entropy may leave [0, H(C)] where networks disagree.

    Raises:
        ValueError: As `gap`, or if there are fewer than two images.
    """
    per_log_sigma = gap(record, form, partition) / record.sigmas[:, None] ** 2
    total = record.prior_entropy(partition)
    entropy = total - integral_from_top(record.sigmas, per_log_sigma)
    return curve_of(record, entropy, per_log_sigma / 2, total, f"denoiser gap ({form})")


@dataclass(frozen=True, eq=False)
class InformationBudget:
    """Both sides of `integral of dH = H(sigma_max) - H(sigma_min)`, nats; None where not measured.

    `integrals` holds the left side of each form that it allows; `difference` the right side
    from the tracked posterior. `mmse_bayes` and `mmse_unconditional` put `|x_0 - D|^2 - |x_0 - D_y|^2`
    in place of the denoiser gap: equal for a calibrated model, so their distance from it is a test.
    """

    integrals: dict[str, Estimate]
    difference: Estimate
    mmse_bayes: Estimate | None
    mmse_unconditional: Estimate | None
    excess: Estimate | None  # E |Dbar - D_u|^2 / (2 sigma^2) at each level, nats per unit log-SNR


def information_budget(
    record: TrackedPosterior, partition: PartitionLike = None
) -> InformationBudget:
    """Whether the information gained over the grid is the entropy lost over it, in each form.

    The mmse forms compare single classes and are None for a coarser partition.

    Raises:
        ValueError: If there are fewer than two images, or the partition was not tracked.
    """
    scale = 1 / record.sigmas[:, None] ** 2
    single = record.partition(partition).is_trivial

    def total(distances: np.ndarray) -> Estimate:
        return record.estimate(integral_from_top(record.sigmas, distances * scale)[:1])[0]

    forms = ["bayes"] if record.excess is None else ["bayes", "unconditional"]
    if single and record.labelled_gap is not None:
        forms.append("labelled")
    entropy = tracked_curve(record, partition).entropy
    # At sigma_max the posterior is the prior, so the error is that of the other end alone.
    difference = Estimate(
        np.asarray(record.prior_entropy(partition) - entropy.value[0]),
        np.asarray(entropy.stderr[0]),
        entropy.dof,
    )
    label_error = record.label_error if single else None
    free_error = record.unconditional_error
    return InformationBudget(
        {form: total(gap(record, form, partition)) for form in forms},
        difference,
        None if label_error is None else total(record.bayes_error - label_error),
        None if label_error is None or free_error is None else total(free_error - label_error),
        None if record.excess is None else record.estimate(record.excess * scale / 2),
    )
