"""Transitions of the network and of diffusion on one axis, `s = beta_eff`.

Noise (alpha, sigma) = (1, 1/sqrt(beta)) makes patterns the classes of a diffusion without variance, so
log-SNR `lambda = log beta` and `s = delta^2 e^lambda / 2 = beta_eff`. On this axis lie

    appearance, equal energy, stability     of the energy: see `potts`
    spectral          Lambda e^lambda = 1, with Lambda the top eigenvalue of the patterns' covariance
    half entropy      half of log N is left of H(I | X), the entropy of which pattern made X
    entropic peak     largest rate -dH/dlambda
    collapse          1 % of log N is left: the noisy state names its pattern

The last three are speciation of the empirical mixture, that is, the collapse onto a training set of N
points. For equidistant patterns *spectral* is *stability*, s = N, and *equal energy* tends to
the entropic edge 2 log N: the energy's own first-order transition agrees with the entropy, and its
stability limit does not.
"""

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from gmm_speciation.checks import ArrayLike
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate, Readable
from gmm_speciation.families import empirical, equidistant
from gmm_speciation.hopfield.energy import as_patterns
from gmm_speciation.hopfield.patterns import mean_squared_distance
from gmm_speciation.hopfield.potts import critical_betas
from gmm_speciation.speciation import (
    between_class_eigenvalue,
    entropic_point,
    half_entropy_point,
    spectral_point,
    transition_grid,
)

LEFT = 0.01  # share of log N that is left at the collapse
_HOTTEST = 0.02  # beta_eff at the noisy end of the curves
_POINTS = 160


class EntropicTransitions(Readable):
    """Values of beta_eff at which diffusion decides between patterns, and the curve they are read off."""

    spectral: Estimate
    half_entropy: Estimate
    peak: Estimate
    collapse: Estimate | None  # None where patterns are copies of each other
    curve: EntropyCurve  # H(I | X), on the log-SNR axis lambda = log beta_eff


def equidistant_transitions(num_patterns: int) -> EntropicTransitions:
    """Those of equidistant patterns, by a deterministic integral for any N.

    Raises:
        ValueError: If `num_patterns` is not a whole number of at least 2.
    """
    stability = critical_betas(num_patterns).stability
    # At pairwise distance sqrt(2) beta_eff is e^lambda.
    law = equidistant(num_patterns, num_patterns, np.sqrt(2), 0.0, reduced=True)
    grid = np.linspace(np.log(_coldest(num_patterns)), np.log(_HOTTEST), _POINTS)
    return _read(entropy_curve(law, grid), float(stability or np.nan))


def pattern_transitions(
    patterns: ArrayLike, *, num_samples: int = 4096, key: PRNGKeyArray | None = None
) -> EntropicTransitions:
    """Those of given patterns: speciation criteria of their empirical mixture.

    Args:
        patterns: `(N, d)`.
        num_samples: Draws of X where the entropy has to be sampled.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If the patterns are not `(N, d)` and finite, or all the same.
    """
    mixture = empirical(as_patterns(patterns))
    square = float(mean_squared_distance(patterns))
    spectral = spectral_point(between_class_eigenvalue(mixture)).log_snr
    if spectral is None or not square > 0:  # by rounding one may say so and the other not
        raise ValueError(
            f"`patterns` must not all be the same; got {mixture.num_components} copies of one."
        )
    shift = float(np.log(square / 2))
    found = transition_grid(mixture, key=key)
    coldest = max(float(found[0]) + shift, np.log(_coldest(mixture.num_components)))
    grid = np.linspace(coldest, np.log(_HOTTEST), _POINTS) - shift
    curve = entropy_curve(mixture, grid, num_samples=num_samples, key=key)
    moved = eqx.tree_at(lambda one: one.log_snr, curve, curve.log_snr + shift)
    return _read(moved, float(np.exp(float(spectral.value) + shift)))


def _coldest(num_patterns: int) -> float:
    """A beta_eff beyond every entropic transition of equidistant patterns."""
    return 4 * np.log(num_patterns) + 25


def _read(curve: EntropyCurve, spectral: float) -> EntropicTransitions:
    half, peak = half_entropy_point(curve).log_snr, entropic_point(curve).log_snr
    if half is None or peak is None:
        raise ValueError(
            "More than half of the patterns are copies of each other; drop the copies."
        )
    left = LEFT * curve.prior_entropy
    collapse = curve.crossing(left) if float(curve.entropy.value[0]) < left else None
    return EntropicTransitions(
        spectral=Estimate.exact(np.asarray(spectral)),
        half_entropy=_beta_eff(half),
        peak=_beta_eff(peak),
        collapse=None if collapse is None else _beta_eff(collapse),
        curve=curve,
    )


def _beta_eff(log_snr: Estimate) -> Estimate:
    """`exp(lambda)` with its first-order error."""
    return log_snr.map(lambda level: np.exp(np.asarray(level, float)))
