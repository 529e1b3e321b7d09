"""Bifurcation criteria: the state of pure noise splits.

Two quantities go by this name.

*Curvature*: the critical point of `log p_t` that continues the one of pure noise, `x = alpha E[x_0 | x]`,
turns from a maximum into a saddle or vanishes. The top eigenvalue of the Hessian crosses 0 there,

    top eigenvalue of Cov[x_0 | x] alpha^2 / sigma^2 = 1.

A property of the distribution alone: no process enters. kappa = 1 for two equal classes +-m at any variance;
`s = K` for K equidistant classes without variance (in modern Hopfield networks the symmetric
state loses stability at beta_eff = K, Ramsauer et al. 2021).

*Drift stability* (Raya & Ambrogioni 2023, arXiv 2305.19693): the fixed point of the reverse drift

    -f x + g^2 s(x)          reverse SDE
    -f x + g^2 s(x) / 2      probability flow

becomes unstable. It depends on the process through its linear drift f and is the curvature point where
f = 0 (variance exploding). For +-m on the Ornstein-Uhlenbeck process, with `v = sigma^2 + alpha^2 s^2`,
the SDE turns at `kappa = 1 - v / 2` and the flow at `kappa = 1 - v`.

Only a symmetry keeps the point where a maximum can turn into a saddle. Without one the maximum of pure
noise either vanishes in a fold, which is a loss of stability too, or moves over to one of the classes
and never loses it; then there is no point and the criterion says so.
"""

import numpy as np

from gmm_speciation.checks import expect
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.reduction import EquidistantReduction, Law, ReducedMixture, means_of
from gmm_speciation.speciation.continuation import loss_of_stability
from gmm_speciation.speciation.points import SpeciationPoint

_NOISE = np.log(1e3)  # noise variance over squared radius that counts as pure noise
_DEPTH = 50.0  # log-SNR below pure noise at which float64 resolves no distance any more
_NO_NOISE = np.log(1e6)  # smallest variance over noise variance that counts as no noise


def _range(mixture: GaussianMixture, points: np.ndarray) -> tuple[float, float, str | None]:
    """Log-SNR of pure noise, of the least noise to look at, and why not of less.

    None where less noise no longer changes the distribution.
    """
    spectrum = np.asarray(mixture.covariance.eigenvalues(mixture.dim), float)
    # Noise hides the traces last: in many dimensions they tell components apart before the means do.
    traces = float(np.ptp(spectrum.sum(-1)))
    scale = float(np.max(np.sum(points**2, -1)) + spectrum.max()) + traces or 1.0
    start, smallest = -np.log(scale) - _NOISE, float(spectrum.min())
    stop = -np.log(smallest) + _NO_NOISE if smallest > 0 else np.inf
    if stop > start + _DEPTH:
        return start, start + _DEPTH, "below which float64 resolves no distance"
    return start, stop, None


def curvature_point(mixture: Law) -> SpeciationPoint:
    """Where the maximum of `log p_t` that continues pure noise stops being one, and what parts there.

    `splits` has the components on the sides of the unstable direction. None, with the reason, for a
    single component or mean, wherever that maximum never loses stability, and for reduced mixtures
    whose variances differ: their curvature is not a matter of the posterior.
    """
    expect(mixture, Law)
    if mixture.num_components == 1:
        return SpeciationPoint(None, "a single component has one maximum at every noise")
    if _one_mean(mixture):
        # Every component falls off along every ray from it, and so does their sum.
        return SpeciationPoint(
            None, "the means coincide: the maximum at their centre never loses its stability"
        )
    if isinstance(mixture, EquidistantReduction):
        # The posterior at the centre is uniform: s = K, that is sigma^2 / alpha^2 = delta^2 / 2K - v.
        noise = float(mixture.distance) ** 2 / (2 * mixture.num_components) - float(
            mixture.variance
        )
        if not noise > 0:
            return SpeciationPoint(None, "the classes overlap: their centre stays a maximum")
        note = f"all {mixture.num_components} from each other"
        return SpeciationPoint(Estimate.exact(np.asarray(-np.log(noise))), note=note)
    if isinstance(mixture, ReducedMixture):
        representative = mixture.representative()
        if representative is None:
            return SpeciationPoint(
                None, "the reduction keeps too little of these covariances; ask the full mixture"
            )
        mixture = representative
    start, stop, end = _range(mixture, np.asarray(mixture.offsets, float))
    return loss_of_stability(mixture, start, stop, end=end)


def _one_mean(mixture: Law) -> bool:
    if isinstance(mixture, EquidistantReduction):  # its classes may be too many for a matrix
        return False
    return not np.any(np.ptp(np.asarray(means_of(mixture)), axis=0))


def drift_stability(
    mixture: GaussianMixture, process: DiffusionProcess, *, flow: str = "sde"
) -> SpeciationPoint:
    """Where the fixed point of the reverse drift loses its stability (Raya & Ambrogioni 2023).

    Args:
        mixture: The clean distribution.
        process: Gives the linear drift; the fixed point is followed from its noisiest level.
        flow: "sde" for the drift of the reverse SDE, "ode" for the probability flow.

    Raises:
        ValueError: If `flow` is neither.
    """
    expect(mixture, GaussianMixture)
    if flow not in ("sde", "ode"):
        raise ValueError(f"`flow` must be 'sde' or 'ode'; got {flow!r}.")
    share = 1.0 if flow == "sde" else 0.5
    start, stop, end = _range(mixture, np.asarray(mixture.means, float))
    clean, noisy = (float(process.log_snr(end)) for end in process.time_range)

    def tilt(log_snr: float) -> float:
        # -f x + c g^2 s = 0 at x = alpha z reads s_z + h z = 0 with h = -f alpha^2 / (c g^2), and
        # g^2 = -sigma^2 dlambda/dt.
        time = process.time(log_snr)
        return float(np.exp(log_snr) * process.drift(time) / process.log_snr_slope(time)) / share

    if clean < stop:
        stop, end = clean, "the cleanest of the process"
    return loss_of_stability(mixture, max(start, noisy), stop, tilt, end)
