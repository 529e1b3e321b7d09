"""Two equal classes as d -> infinity: one law around t_S, whatever the dimension.

In many dimensions the log-odds of the classes become Gaussian and all the noise does is to set their
signal-to-noise ratio kappa (`exact.binary`). On the Ornstein-Uhlenbeck clock, with `tau = t - t_S`,

    separated means +-m, |m|^2 = d mu^2        kappa = e^{-2 tau},    t_S = (1/2) log(d mu^2)
    equal means, variances v_1 and v_2         kappa = e^{-4 tau},    t_S = (1/4) log(d (v_1 - v_2)^2 / 8)

(Biroli et al. 2024, arXiv 2402.18491; Achilli et al. 2026, arXiv 2602.04404). So for kappa = e^{-p tau}

    H = H(kappa),    dH/dt = (p / 2) kappa mmse(kappa),    -dH/dlambda = (p / 4) kappa mmse(kappa),

the last because noise is large there: lambda = -2 t up to e^{-2t}. The transition keeps its width in t
and in lambda while t_S grows like log d. Corrections are of relative order e^{-2 t_S}: 1/d for separated
means and d^{-1/2} for equal means; for the latter 1/d in t (not in lambda) where the mean variance is 1.

Offsets of the log-SNR are taken from `lambda_S = -2 t_S`. Nats.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize_scalar

from gmm_speciation import exact
from gmm_speciation.checks import ArrayLike, as_axis, as_float_array, as_values, positive

_SEARCH = (-12.0, 8.0)  # of log kappa: the rate is below 1e-5 of its peak outside


class LimitCurve(eqx.Module):
    """The law at a grid of offsets from the speciation time."""

    offset: Float[Array, " T"]  # tau = t - t_S, time of the Ornstein-Uhlenbeck process
    kappa: Float[Array, " T"]
    entropy: Float[Array, " T"]  # H(C|X)
    rate: Float[Array, " T"]  # dH/dt
    agreement: Float[Array, " T"]  # of clones, phi = E sum_c p(c|X)^2

    @property
    def log_snr_offset(self) -> Float[Array, " T"]:
        """`lambda - lambda_S = -2 tau`."""
        return -2 * self.offset

    @property
    def log_snr_rate(self) -> Float[Array, " T"]:
        """`-dH/dlambda = (dH/dt) / 2`."""
        return self.rate / 2


class LimitWindow(eqx.Module):
    """An interval of offsets in time; its mirror image, twice as wide, is that in log-SNR."""

    early: float  # towards the signal
    late: float

    @property
    def width(self) -> float:
        """In units of t."""
        return self.late - self.early

    @property
    def log_snr(self) -> tuple[float, float]:
        """Noisy and clean end as offsets `lambda - lambda_S`."""
        return -2 * self.late, -2 * self.early

    @property
    def log_snr_width(self) -> float:
        """In units of lambda."""
        return 2 * self.width


class TwoClassLaw(eqx.Module):
    """Interface: a law gives its exponent and its speciation time."""

    @property
    @abc.abstractmethod
    def exponent(self) -> float:
        """p of `kappa = e^{-p tau}`; t_S grows like `(1/p) log d`."""

    @abc.abstractmethod
    def speciation_time(self, dim: ArrayLike) -> Float[np.ndarray, "*shape"]:
        """t_S on the Ornstein-Uhlenbeck clock: where kappa = 1."""

    def kappa(self, offset: ArrayLike) -> Float[Array, "*shape"]:
        """`e^{-p tau}` at offsets `tau = t - t_S`."""
        return jnp.exp(-self.exponent * as_float_array(offset, "offset"))

    def curve(self, offset: ArrayLike) -> LimitCurve:
        """Entropy, rate and agreement at offsets `(T,)`."""
        tau = jnp.atleast_1d(as_float_array(offset, "offset"))
        kappa = self.kappa(tau)
        return LimitCurve(
            tau,
            kappa,
            exact.binary_entropy(kappa),
            self.exponent / 2 * kappa * exact.binary_mmse(kappa),
            exact.clone_agreement(kappa),
        )

    def peak(self) -> float:
        """Offset at which the rate is largest, in t and (times -2) in lambda alike."""
        return -_peak() / self.exponent

    def half_maximum(self) -> LimitWindow:
        """Where the rate is more than half of its largest value."""
        top = _peak()
        half = float(_rate(np.asarray(top))) / 2
        ends = [
            brentq(lambda x: float(_rate(np.asarray(x))) - half, top, end, xtol=1e-12)
            for end in _SEARCH
        ]
        return LimitWindow(-ends[1] / self.exponent, -ends[0] / self.exponent)

    def window(self, mass: float = 0.8) -> LimitWindow:
        """Where the central share `mass` of the information is gained, equal tails outside.

        Raises:
            ValueError: If `mass` is not inside (0, 1).
        """
        if not 0 < mass < 1:
            raise ValueError(f"`mass` must lie inside (0, 1); got {mass}.")

        def place(left: float) -> float:
            # The search ends hold all but 1e-5 of the information; a larger share needs wider ones.
            low, high = 4 * _SEARCH[0], 2 * _SEARCH[1]
            level = left * np.log(2)
            excess = lambda x: float(_entropy(np.asarray(x))) - level  # noqa: E731
            return float(brentq(excess, low, high, xtol=1e-12))

        clean, noisy = place((1 - mass) / 2), place((1 + mass) / 2)
        return LimitWindow(-clean / self.exponent, -noisy / self.exponent)


class SeparatedMeans(TwoClassLaw):
    """Classes at +-m with `|m|^2 = d separation^2` and one covariance that is bounded as d grows."""

    separation: float = 1.0

    def __check_init__(self):
        if not (np.isfinite(self.separation) and self.separation > 0):
            raise ValueError(f"`separation` must be positive and finite; got {self.separation}.")

    exponent = 2.0

    def speciation_time(self, dim: ArrayLike) -> Float[np.ndarray, "*shape"]:
        return np.asarray(_log_dim(dim) / 2 + np.log(self.separation))


class EqualMeans(TwoClassLaw):
    """Classes `N(0, v_c I)`."""

    variances: tuple[float, float] = (0.5, 1.5)

    def __check_init__(self):
        v = np.asarray(self.variances)
        if v.shape != (2,) or not np.all((v >= 0) & np.isfinite(v)) or v[0] == v[1]:
            raise ValueError(
                "`variances` must be two different finite numbers of at least 0; got "
                f"{self.variances}."
            )

    exponent = 4.0

    def speciation_time(self, dim: ArrayLike) -> Float[np.ndarray, "*shape"]:
        gap = float(np.ptp(self.variances))
        return np.asarray(_log_dim(dim) / 4 + np.log(gap**2 / 8) / 4)


def _log_dim(dim: ArrayLike) -> Float[np.ndarray, "*shape"]:
    return np.asarray(np.log(as_values(dim, "dim", "be positive and finite", positive)))


def full_width(position: ArrayLike, rate: ArrayLike) -> float:
    """Full width at half maximum of a measured rate, by a cubic spline through its points.

    Args:
        position: Times or log-SNR, `(T,)`, strictly monotone.
        rate: Rate per unit of it.

    Raises:
        ValueError: If they are not two finite vectors of one length, a position comes twice, or the rate
            does not fall to half of its maximum on both sides.
    """
    x = as_axis(position, "position", "be finite", np.isfinite)
    y = as_axis(rate, "rate", "be finite", np.isfinite)
    if len(x) != len(y) or len(np.unique(x)) < max(len(x), 2):
        raise ValueError(
            f"There must be a rate at each of two different positions or more; got {len(y)} rates at "
            f"{len(x)} positions, {len(np.unique(x))} of them different."
        )
    order = np.argsort(x)
    x, y = x[order], y[order]
    spline = CubicSpline(x, y)
    stationary = spline.derivative().roots(extrapolate=False)
    places = np.append(stationary, x)
    top = float(places[int(np.argmax(spline(places)))])
    crossings = spline.solve(float(spline(top)) / 2, extrapolate=False)
    before, after = crossings[crossings < top], crossings[crossings > top]
    if not (len(before) and len(after)):
        raise ValueError(
            "The rate must fall to half of its maximum on both sides of it; widen the grid "
            f"beyond [{x[0]:.4g}, {x[-1]:.4g}]."
        )
    return float(after.min() - before.max())


@eqx.filter_jit
def _rate(log_kappa: ArrayLike) -> Float[Array, ""]:
    """`kappa mmse(kappa)`."""
    kappa = jnp.exp(jnp.asarray(log_kappa, float))
    return kappa * exact.binary_mmse(kappa)


@eqx.filter_jit
def _entropy(log_kappa: ArrayLike) -> Float[Array, ""]:
    return exact.binary_entropy(jnp.exp(jnp.asarray(log_kappa, float)))


def _peak() -> float:
    """log kappa at which `kappa mmse(kappa)` is largest."""
    found = minimize_scalar(
        lambda x: -float(_rate(np.asarray(x))),
        bounds=(-2.0, 2.0),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.x)
