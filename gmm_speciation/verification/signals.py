"""Orthogonal signals drawn in K dimensions: what is left open about the signal, and how often it is missed.

With `y_1 = s + sqrt(s) z` for the signal sent and `S = sum_{k>1} e^{sqrt(s) z_k}` for the others,

    H = E log(1 + S e^{-y_1}),        1 - phi = E[ S / (S + e^{y_1}) ].

The others are drawn, quasi-randomly in few dimensions, and the signal's own noise is integrated. Where
errors are rare they come from one other signal: one z_k is drawn around `sqrt(s) / 2`, and each draw weighs
`(K - 1) e^{s/8} / sum_k e^{sqrt(s) z_k / 2}`, the ratio of the densities with that signal chosen at random.
The mean weight is known, 1, and serves as a control variate.
"""

import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.interpolate import CubicSpline
from scipy.special import expit, ndtri

from gmm_speciation.verification.draws import generators, uniforms

_QUASI = 128  # others up to which a Sobol sequence is worth it
_OWN = np.arange(-9, 9.01, 0.1)  # own noise: the integrand is analytic in a strip of pi / sqrt(s)
_CHUNK = 2**22  # numbers at a time


def open_and_missed(
    num_classes: int, s: Float[np.ndarray, " T"], key: PRNGKeyArray, num_points: int
) -> tuple[Float[np.ndarray, "R T"], Float[np.ndarray, "R T"]]:
    """Replicates of `H` in nats and of `1 - phi`, one noise for all s; `num_points` draws a replicate."""
    s = np.asarray(s, float)
    rows = []
    for rng in generators(key):
        if num_classes - 1 <= _QUASI:
            log_sum, weight = _others(ndtri(uniforms(rng, num_points, num_classes - 1)), s)
        else:
            step = max(_CHUNK // num_classes, 1)
            parts = [
                _others(
                    rng.standard_normal((min(step, num_points - at), num_classes - 1), np.float32),
                    s,
                )
                for at in range(0, num_points, step)
            ]
            log_sum, weight = (np.concatenate(one, 1) for one in zip(*parts, strict=True))
        rows.append([_own(*one) for one in zip(log_sum, weight, s, strict=True)])
    return tuple(np.moveaxis(np.array(rows), -1, 0))


def _others(z, s) -> tuple[Float[np.ndarray, "T n"], Float[np.ndarray, "T n"]]:
    """`log S` of the others and the weight of each draw."""
    log_sum, weight = [], []
    for one in s:
        half = np.exp(z.dtype.type(np.sqrt(one) / 2) * z)
        half[:, 0] *= np.exp(one / 4)
        log_sum.append(np.log(np.einsum("nk,nk->n", half, half).astype(float)))
        weight.append(z.shape[1] * np.exp(one / 8) / half.sum(-1).astype(float))
    return np.array(log_sum), np.array(weight)


def _own(log_sum, weight, s: float) -> tuple[float, float]:
    """Means over the draws, each integrated over the noise of the signal sent, on a table in `log S`."""
    grid = np.linspace(log_sum.min() - 1e-9, log_sum.max() + 1e-9, 257)
    odds = grid[:, None] - (s + np.sqrt(s) * _OWN)[None, :]
    density = np.exp(-(_OWN**2) / 2)
    density /= density.sum()

    def mean(values: Float[np.ndarray, "G Z"]) -> float:
        drawn = weight * np.exp(CubicSpline(grid, np.log(values @ density))(log_sum))
        slope = np.cov(drawn, weight)[0, 1] / np.var(weight, ddof=1)
        return float(np.mean(drawn) - slope * (np.mean(weight) - 1))

    return mean(np.logaddexp(0, odds)), mean(expit(odds))
