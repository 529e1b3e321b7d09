"""Where a monotone function of the noise, known by sampling, passes a level.

All evaluations use the same draws, so the sampled function is smooth and its root is well defined.
The root inherits the error of the function: `stderr(lambda) = stderr(f) / |df/dlambda|`, to first
order in it.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from gmm_speciation.estimate import Estimate

_SLOPE_STEP = 0.05  # in log-SNR: long against rounding, short against the width of a transition


def sampled_root(
    function: Callable[[float], Estimate], level: float, low: float, high: float
) -> Estimate:
    """The log-SNR in `[low, high]` at which `function` equals `level`, with its standard error.

    Args:
        function: Scalar estimate at a log-SNR; must use the same draws at every call.
        level: The value to find, in the function's unit.
        low: A log-SNR on one side of the root.
        high: A log-SNR on the other side.

    Raises:
        ValueError: If the function is on one side of the level at both ends.
    """

    def excess(log_snr: float) -> float:
        return float(function(log_snr).value) - level

    root = float(brentq(excess, low, high, xtol=1e-10))
    slope = (excess(root + _SLOPE_STEP) - excess(root - _SLOPE_STEP)) / (2 * _SLOPE_STEP)
    there = function(root)
    return Estimate(np.asarray(root), np.asarray(float(there.stderr) / abs(slope)), there.dof)
