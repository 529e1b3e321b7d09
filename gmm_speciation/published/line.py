"""Four points on a line under the linear DDPM schedule: Handke et al. 2025 (arXiv 2506.10433).

Equal components at -8, -4, 6, 8. Going from noise to signal the process first decides between the sides
{-8, -4} and {6, 8}, then inside each: 6 against 8 are half as far apart as -8 against -4, so they part
last. With the sides a coarser partition,

    H(point | X) = H(side | X) + (1/2) H(-8 or -4 | X) + (1/2) H(6 or 8 | X),

the last two in the mixtures of two. Curves are exact, and lie between the steps of the schedule, where
the slope of its log-SNR is centred. Nats here; the paper and the pictures use bits.
"""

import equinox as eqx
import numpy as np

from gmm_speciation.curves import ClockedCurve, EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.families import paper_toy
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import DDPM

VARIANCE = 0.25  # narrow against the smallest distance, 2: all points are told apart without noise


class FourPoints(eqx.Module):
    """The decisions, each on the clock of the schedule: time is the step, rates are per step."""

    sides: ClockedCurve  # {-8, -4} against {6, 8}
    left: ClockedCurve  # -8 against -4, given that side
    right: ClockedCurve  # 6 against 8, given that side
    points: ClockedCurve  # all four

    def named(self) -> dict[str, ClockedCurve]:
        """The curves by what they decide."""
        return {
            "which of the four": self.points,
            "{−8, −4} or {6, 8}": self.sides,
            "−8 or −4, given that side": self.left,
            "6 or 8, given that side": self.right,
        }


def four_points(variance: float = VARIANCE, process: DDPM | None = None) -> FourPoints:
    """Entropy of each decision against the step of the schedule.

    Args:
        variance: Of every point.
        process: The schedule; the linear one of 1000 steps by default.

    Raises:
        ValueError: If the variance is negative.
    """
    clock = DDPM.linear() if process is None else process
    mixture, levels = paper_toy(variance)
    between = np.arange(clock.time_range[1]) + 0.5
    grid = np.asarray(clock.log_snr(between))

    def inside(side: int) -> EntropyCurve:
        chosen = [k for k, label in enumerate(levels[0].labels) if label == side]
        means = np.asarray(mixture.means)[chosen]
        return entropy_curve(GaussianMixture.isotropic(means, variance), grid)

    def whole(depth: int) -> EntropyCurve:
        return entropy_curve(mixture, grid, partition=levels[depth], method="exact")

    curves = whole(0), inside(0), inside(1), whole(1)
    return FourPoints(*(curve.on(clock) for curve in curves))
