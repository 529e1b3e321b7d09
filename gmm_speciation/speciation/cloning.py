"""Cloning criterion: two reverse runs from one noisy state end in the same class.

Given x_t the two runs are independent draws of the clean state, so they agree with probability
(Biroli et al. 2024, arXiv 2402.18491)

    phi(lambda) = E sum_c p(c | x_t)^2,     from sum_c pi_c^2 in pure noise to 1 at separate classes.

The criterion is the noise at which the share `(phi - sum pi^2) / (1 - sum pi^2)` of the way is gone; 0.55
by default, which for two equal classes is phi = 0.775, its value at kappa = 1.
"""

import numpy as np
from jaxtyping import PRNGKeyArray

from gmm_speciation.checks import expect
from gmm_speciation.entropy import clone_agreement
from gmm_speciation.estimate import Estimate
from gmm_speciation.inference import Classes
from gmm_speciation.partitions import as_partition
from gmm_speciation.reduction import Law
from gmm_speciation.sampling.monte_carlo import DEFAULT_NUM_SAMPLES
from gmm_speciation.speciation.grids import transition_grid
from gmm_speciation.speciation.points import SpeciationPoint
from gmm_speciation.speciation.roots import sampled_root

CLONE_SHARE = 0.55


def chance_agreement(mixture: Law, partition: Classes = None) -> float:
    """`sum_c pi_c^2`: two independent draws are of one class.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    expect(mixture, Law)
    partition = as_partition(partition, mixture.num_components)
    return float(np.sum(np.exp(2 * np.asarray(partition.log_sum(mixture.log_weights)))))


def cloning_point(
    mixture: Law,
    *,
    partition: Classes = None,
    share: float = CLONE_SHARE,
    log_snr_range: tuple[float, float] | None = None,
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> SpeciationPoint:
    """Where clones agree by `share` of the way from chance to certainty.

    Args:
        mixture: The clean distribution.
        partition: Class of each component; every component its own by default.
        share: `(phi - sum pi^2) / (1 - sum pi^2)` to reach, inside (0, 1).
        log_snr_range: Noisy and clean end of the search; those of `transition_grid` by default.
        num_samples: Draws of X where phi is sampled.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If `share` is not inside (0, 1), the range does not increase, the partition does not
            fit, the classes are the same distribution, or clones agree by more than `share` at the noisy
            end already.
    """
    expect(mixture, Law)
    if not 0 < share < 1:
        raise ValueError(f"`share` must lie inside (0, 1); got {share}.")
    partition = as_partition(partition, mixture.num_components)
    chance = chance_agreement(mixture, partition)
    if partition.num_classes == 1:
        return SpeciationPoint(None, "with a single class clones always agree")
    dtype = mixture.log_weights.dtype
    if 1 - chance < max(
        1e-12, 64 * np.finfo(dtype).eps
    ):  # nothing that is 1 less so little has digits
        return SpeciationPoint(
            None, f"by chance alone clones always agree, as far as {dtype} tells"
        )
    if log_snr_range is None:
        grid = transition_grid(mixture, partition=partition, key=key)
        log_snr_range = float(grid[-1]), float(grid[0])
    low, high = log_snr_range
    if not low < high:
        raise ValueError(
            f"`log_snr_range` must be (noisy, clean), low < high; got {log_snr_range}."
        )

    def agreement(log_snr: float) -> Estimate:
        return clone_agreement(
            mixture, np.asarray(log_snr), partition=partition, num_samples=num_samples, key=key
        )

    level = chance + share * (1 - chance)
    most = float(agreement(high).value)
    if most <= level:
        return SpeciationPoint(
            None,
            f"clones agree with probability {most:.4g} at λ = {high:.4g}, the cleanest level looked at: "
            f"{level:.4g} is needed, they never agree so often",
        )
    if float(agreement(low).value) >= level:
        raise ValueError(
            f"Clones agree with probability {level:.4g} or more at log-SNR {low:.4g} already; "
            "begin `log_snr_range` at more noise."
        )
    return SpeciationPoint(sampled_root(agreement, level, low, high))
