"""A log-SNR grid that spans the loss of the class entropy, whatever its scale.

The transition may lie at any noise: `lambda ~ -log d` for means of norm `sqrt(d)`. It is found by a
scan of all noise levels in units of the mixture's own variance, and a finer scan of either end.
"""

from typing import NoReturn

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from gmm_speciation.checks import as_count, expect
from gmm_speciation.entropy import class_entropy, entropy_rate, prior_entropy
from gmm_speciation.inference import Classes
from gmm_speciation.partitions import as_partition
from gmm_speciation.programs import refuse_traced
from gmm_speciation.reduction import Law, mean_square_spread

_SCAN_POINTS = 40  # of each of the two scans for the transition


def transition_grid(
    mixture: Law,
    *,
    partition: Classes = None,
    num_points: int = 96,
    tail: float = 1e-3,
    key: PRNGKeyArray | None = None,
) -> Float[np.ndarray, " T"]:
    """A log-SNR grid, from signal to noise, that spans the loss of the class entropy.

    It starts where the entropy comes within `tail` of its value without noise and ends within `tail`
    of the prior entropy, both as shares of their difference; found by a coarse scan of all noise
    levels and a finer one of either end.

    Raises:
        ValueError: If the partition does not fit, the classes are the same distribution, or too much alike
            for the difference of their entropies to have digits, `tail` is not inside (0, 1/2), or there are
            fewer than two points.
    """
    refuse_traced("The levels of a transition are found", expect(mixture, Law))
    num_points = as_count(num_points, "num_points", 2)
    if not 0 < tail < 0.5:
        raise ValueError(
            f"`tail` must lie inside (0, 1/2), a share of the loss at either end; got {tail}."
        )
    partition = as_partition(partition, mixture.num_components)
    total = float(prior_entropy(mixture, partition))
    scale = max(mean_square_spread(mixture), 1e-300)
    centre = -np.log(scale)

    def entropy_at(log_snr: np.ndarray) -> np.ndarray:
        estimate = class_entropy(mixture, log_snr, partition=partition, num_samples=1024, key=key)
        return np.asarray(estimate.value)

    scan = centre + np.linspace(60, -60, _SCAN_POINTS)
    entropy = entropy_at(scan)
    floor = entropy[0]
    # A share of H(C), which a rare class makes small, beyond what rounds.
    rounds = max(1e-12, 64 * float(np.finfo(entropy.dtype).eps))
    if not total - floor > rounds * total:
        rate = entropy_rate(mixture, scan, partition=partition, num_samples=1024, key=key)
        _refuse(float(-np.trapezoid(rate.value, scan)), total, rounds * total, entropy.dtype)

    def bracket(grid: np.ndarray, entropy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Neighbouring grid points around the clean and the noisy end of the transition."""
        margin = tail * (total - floor)
        first = int(np.argmax(entropy > floor + margin))
        last = len(grid) - 1 - int(np.argmax(entropy[::-1] < total - margin))
        return grid[[max(first - 1, 0), first]], grid[[last, min(last + 1, len(grid) - 1)]]

    clean, noisy = bracket(scan, entropy)
    # Both ends again, each on a finer scan of its bracket.
    half = _SCAN_POINTS // 2
    fine = np.union1d(np.linspace(clean[0], clean[1], half), np.linspace(noisy[0], noisy[1], half))[
        ::-1
    ]
    clean, noisy = bracket(fine, entropy_at(fine))
    return np.linspace(clean[0], noisy[1], num_points)


def _refuse(information: float, total: float, least: float, dtype: np.dtype) -> NoReturn:
    """Say why there is no transition; the information is the integral of the rate, which does not cancel."""
    if not information > 1e-30 * total:
        raise ValueError(
            "Noise takes nothing from these classes: their distributions are equal, or one class has it all."
        )
    remedy = "use float64, or move" if dtype == np.float32 else "move"
    raise ValueError(
        f"Noise takes about {information:.1g} of the {total:.3g} nats of these classes, and {dtype} tells no "
        f"differences below {least:.1g} of them: they are too much alike for a transition; {remedy} their "
        "means or variances further apart."
    )
