"""Variance exploding against variance preserving: the width of one window on two clocks.

Measured by draws in d dimensions that know nothing of kappa: at signal scale alpha and noise sigma the state
`x = alpha (m + z_0) + sigma z` of two unit-variance classes has by its two densities the log-odds
`2 alpha m.x / (alpha^2 + sigma^2)`, for all noise levels from the same (z_0, z) and (-z_0, -z).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy.interpolate import PchipInterpolator

from gmm_speciation import asymptotics
from gmm_speciation.claims import Claim
from gmm_speciation.estimate import Estimate
from gmm_speciation.verification.rows import row

_DIMS = (32, 512)
_RUNS = 40
_MASS = 0.8


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """Widths in t / t_S and in sigma / sigma^* at two dimensions."""
    predicted = asymptotics.clock_windows(_DIMS, mass=_MASS)
    found = []
    for index, dim in enumerate(_DIMS):
        keys = jax.random.split(jax.random.fold_in(key, index), _RUNS)
        widths = np.array([_widths(one, dim, num_samples) for one in keys])
        rows = (
            ("VP window shrinks like 1 / log d: width in t/t_S", predicted.vp_width, widths[:, 0]),
            ("VE window keeps its width: in σ/σ*", predicted.ve_width, widths[:, 1]),
        )
        found += [
            row(
                f"{name}, d = {dim}",
                "Handke et al. 2026",
                f"log-odds of draws in d dimensions, {_RUNS} runs",
                width[index],
                Estimate.from_samples(seen),
            )
            for name, width, seen in rows
        ]
    return found


def _widths(key: PRNGKeyArray, dim: int, num_samples: int) -> tuple[float, float]:
    """Of the window that holds the central share, on the clock of OU and of VE."""
    levels = -np.log(dim) + np.linspace(-4.0, 3.0, 71)
    entropy = np.asarray(_entropy(key, dim, num_samples, levels))
    lost = PchipInterpolator(levels, np.maximum.accumulate(np.log(2) - entropy))
    noisy, clean = (
        lost.solve(share * np.log(2), extrapolate=False)[0]
        for share in (0.5 - _MASS / 2, 0.5 + _MASS / 2)
    )
    # e^{-2t} = sigmoid(lambda) on OU, sigma = e^{-lambda / 2} on VE; the unit is at sigma^2 = |m|^2 - 1.
    times = np.log1p(np.exp(-np.array([noisy, clean]))) / 2
    sigmas = np.exp(-np.array([noisy, clean]) / 2)
    return float(-np.diff(times)[0] / (np.log(dim) / 2)), float(
        -np.diff(sigmas)[0] / (dim - 1) ** 0.5
    )


def _entropy(key: PRNGKeyArray, dim: int, num_samples: int, levels: np.ndarray) -> jax.Array:
    clean, noise = (
        jax.random.normal(one, (num_samples // 2, dim)).sum(-1) for one in jax.random.split(key)
    )

    def at(log_snr):
        alpha, sigma = jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))
        along = alpha * clean + sigma * noise  # m = (1, ..., 1)
        odds = 2 * alpha * (alpha * dim + jnp.stack([along, -along])) / (alpha**2 + sigma**2)
        return jnp.mean(jax.nn.softplus(odds) - odds * jax.nn.sigmoid(odds))

    return jax.lax.map(at, jnp.asarray(levels))
