"""Variance exploding against variance preserving: the width of one window on two clocks.

Measured by posteriors of draws in d dimensions that know nothing of kappa, for two unit-variance classes
at +-(1, ..., 1).
"""

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.interpolate import PchipInterpolator

from gmm_speciation import asymptotics, families
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.verification.draws import averaged, axes_of, curve, normals
from gmm_speciation.verification.rows import row

_DIMS = (32, 512)
_MASS = 0.8


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """Widths in t / t_S and in sigma / sigma^* at two dimensions."""
    predicted = asymptotics.clock_windows(_DIMS, mass=_MASS)
    found = []
    for index, dim in enumerate(_DIMS):
        vp, ve = _widths(jax.random.fold_in(key, index), dim, num_samples)
        found += [
            row(
                f"{name}, d = {dim}",
                "Handke et al. 2026",
                "posteriors of draws in d dimensions",
                width[index],
                averaged(seen),
            )
            for name, width, seen in (
                ("VP window shrinks like 1 / log d: width in t/t_S", predicted.vp_width, vp),
                ("VE window keeps its width: in σ/σ*", predicted.ve_width, ve),
            )
        ]
    return found


def _widths(key: PRNGKeyArray, dim: int, num_samples: int) -> Float[np.ndarray, "2 R"]:
    """Of the window that holds the central share, on the clocks of OU and of VE, by replicate."""
    levels = -np.log(dim) + np.linspace(3.0, -4.0, 71)
    law = families.symmetric_pair(dim)
    drawn = curve(law, levels, normals(num_samples, axes_of(np.asarray(law.means))), key)
    assert drawn.batches is not None  # it was drawn
    ends = np.array([_ends(levels, entropy) for entropy in np.asarray(drawn.batches.entropy)]).T
    # e^{-2t} = sigmoid(lambda) on OU, sigma = e^{-lambda / 2} on VE; the unit is at sigma^2 = |m|^2 - 1.
    times = np.log1p(np.exp(-ends)) / 2 / (np.log(dim) / 2)
    sigmas = np.exp(-ends / 2) / (dim - 1) ** 0.5
    return np.stack([times[0] - times[1], sigmas[0] - sigmas[1]])


def _ends(levels: np.ndarray, entropy: np.ndarray) -> tuple[float, float]:
    """Log-SNR at which the lower and the upper share of log 2 have been lost: noisy and clean end."""
    lost = PchipInterpolator(levels[::-1], np.maximum.accumulate((np.log(2) - entropy)[::-1]))
    shares = 0.5 - _MASS / 2, 0.5 + _MASS / 2
    noisy, clean = (lost.solve(share * np.log(2), extrapolate=False)[0] for share in shares)
    return float(noisy), float(clean)
