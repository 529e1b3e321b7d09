"""Forward diffusion processes.

A process is its perturbation kernel `p(x_t | x_0) = N(alpha(t) x_0, sigma(t)^2 I)`. The log-SNR
`lambda(t) = log(alpha^2 / sigma^2)`, the drift `f(t) = d log alpha / dt` and the squared diffusion
coefficient `g(t)^2 = -sigma^2 d lambda / dt` follow. Class posteriors depend on the noise through
lambda alone, so a process is a *clock* on the log-SNR axis.

Convention: `t` grows from signal to noise, lambda decreases strictly. All methods act elementwise
on arrays of times and are safe under jit, vmap and grad.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, require

Times = Float[Array, "*T"]


def variance_preserving(log_snr: ArrayLike) -> tuple[Times, Times]:
    """`(alpha, sigma)` with `alpha^2 + sigma^2 = 1` at a log-SNR, exact at plus and minus infinity."""
    log_snr = jnp.asarray(log_snr, float)
    return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))


class DiffusionProcess(eqx.Module):
    """Interface of a forward process. Subclasses give `alpha`, `sigma` and `time`."""

    @property
    @abc.abstractmethod
    def time_range(self) -> tuple[float, float]:
        """Times on which the process is defined, from signal to noise."""

    @abc.abstractmethod
    def alpha(self, t: ArrayLike) -> Times:
        """Signal scale: positive, non-increasing in `t`."""

    @abc.abstractmethod
    def sigma(self, t: ArrayLike) -> Times:
        """Noise scale: non-negative, non-decreasing in `t`."""

    @abc.abstractmethod
    def _time(self, log_snr: Times) -> Times:
        """Inverse of `log_snr`, not checked."""

    def log_snr(self, t: ArrayLike) -> Times:
        """`log(alpha^2 / sigma^2)`, strictly decreasing in `t`."""
        return 2 * (jnp.log(self.alpha(t)) - jnp.log(self.sigma(t)))

    def log_snr_slope(self, t: ArrayLike) -> Times:
        """`d lambda / dt < 0`, per unit of `t`."""
        t = jnp.asarray(t, float)
        return jax.jvp(self.log_snr, (t,), (jnp.ones_like(t),))[1]

    def drift(self, t: ArrayLike) -> Times:
        """`f(t) = d log alpha / dt`: the forward SDE is `dx = f x dt + g dW`."""
        t = jnp.asarray(t, float)
        return jax.jvp(lambda u: jnp.log(self.alpha(u)), (t,), (jnp.ones_like(t),))[1]

    def diffusion_squared(self, t: ArrayLike) -> Times:
        """`g(t)^2 = -sigma^2 d lambda / dt`, the squared diffusion coefficient."""
        return -(self.sigma(t) ** 2) * self.log_snr_slope(t)

    def time(self, log_snr: ArrayLike) -> Times:
        """The time at which the process has this log-SNR.

        Raises:
            ValueError: If the process never has this log-SNR (under jit: a runtime error).
        """
        level = jnp.asarray(log_snr, float)
        with jax.ensure_compile_time_eval():
            high, low = (float(self.log_snr(t)) for t in self.time_range)
        # Rounding of the two logarithms must not turn away the end points themselves.
        slack = 1e-5 * max(1.0, *(abs(end) for end in (low, high) if np.isfinite(end)), 0.0)
        level = require(
            level,
            (level >= low - slack) & (level <= high + slack),
            f"`log_snr` must lie in [{low:.4g}, {high:.4g}], the range of "
            f"{type(self).__name__}; choose a process that reaches this noise.",
        )
        return self._time(level)


class OrnsteinUhlenbeck(DiffusionProcess):
    """`dx = -x dt + sqrt(2) dW`, the process of the speciation papers (Biroli et al. 2024).

    `alpha = e^{-t}`, `sigma^2 = 1 - e^{-2t}`, t in [0, inf).
    """

    @property
    def time_range(self) -> tuple[float, float]:
        return 0.0, np.inf

    def alpha(self, t: ArrayLike) -> Times:
        return jnp.exp(-jnp.asarray(t, float))

    def sigma(self, t: ArrayLike) -> Times:
        return jnp.sqrt(-jnp.expm1(-2 * jnp.asarray(t, float)))  # 1 - e^{-2t} loses digits near 0

    def log_snr(self, t: ArrayLike) -> Times:
        t = jnp.asarray(t, float)
        return -2 * t - jnp.log(-jnp.expm1(-2 * t))

    def _time(self, log_snr: Times) -> Times:
        return jax.nn.softplus(-log_snr) / 2


class VarianceExploding(DiffusionProcess):
    """`alpha = 1`, `sigma = t`: the noise scale itself is the clock (EDM; Karras et al. 2022)."""

    @property
    def time_range(self) -> tuple[float, float]:
        return 0.0, np.inf

    def alpha(self, t: ArrayLike) -> Times:
        return jnp.ones_like(jnp.asarray(t, float))

    def sigma(self, t: ArrayLike) -> Times:
        return jnp.asarray(t, float)

    def _time(self, log_snr: Times) -> Times:
        return jnp.exp(-log_snr / 2)


class LinearInterpolant(DiffusionProcess):
    """`alpha = 1 - t`, `sigma = t`, t in [0, 1]: flow matching (Lipman et al. 2023)."""

    @property
    def time_range(self) -> tuple[float, float]:
        return 0.0, 1.0

    def alpha(self, t: ArrayLike) -> Times:
        return 1 - jnp.asarray(t, float)

    def sigma(self, t: ArrayLike) -> Times:
        return jnp.asarray(t, float)

    def _time(self, log_snr: Times) -> Times:
        return jax.nn.sigmoid(-log_snr / 2)


class Cosine(DiffusionProcess):
    """`alpha^2 = cos^2(u(t)) / cos^2(u(0))`, `u(t) = (pi / 2) (t + 0.008) / 1.008`, t in [0, 1].

    Nichol & Dhariwal 2021, Eq. 17. Their bound `beta <= 0.999` binds in the last of 1000 steps only;
    on `[0.999, 1]` log alpha^2 is therefore the straight line that falls by log 0.001.
    """

    _offset = 0.008
    _knee = 0.999

    @property
    def time_range(self) -> tuple[float, float]:
        return 0.0, 1.0

    def _angle(self, t):
        return jnp.pi / 2 * (t + self._offset) / (1 + self._offset)

    def _log_alpha_squared(self, t):
        start = np.log(np.cos(np.pi / 2 * self._offset / (1 + self._offset)))
        body = 2 * (jnp.log(jnp.cos(self._angle(jnp.minimum(t, self._knee)))) - start)
        return body + jnp.log(1 - 0.999) * jnp.maximum(t - self._knee, 0) / (1 - self._knee)

    def alpha(self, t: ArrayLike) -> Times:
        return jnp.exp(self._log_alpha_squared(jnp.asarray(t, float)) / 2)

    def sigma(self, t: ArrayLike) -> Times:
        return jnp.sqrt(-jnp.expm1(self._log_alpha_squared(jnp.asarray(t, float))))

    def _time(self, log_snr: Times) -> Times:
        log_alpha_squared = jax.nn.log_sigmoid(log_snr)
        at_knee = self._log_alpha_squared(self._knee)
        cosine = jnp.cos(self._angle(0.0)) * jnp.exp(jnp.maximum(log_alpha_squared, at_knee) / 2)
        body = jnp.arccos(cosine) * 2 / jnp.pi * (1 + self._offset) - self._offset
        tail = jnp.minimum(log_alpha_squared - at_knee, 0) / jnp.log(1 - 0.999)
        return body + (1 - self._knee) * tail


class DDPM(DiffusionProcess):
    """Discrete betas: `alpha^2 = prod_{j <= k} (1 - beta_j)` at step k (Ho, Jain & Abbeel 2020).

    `t` is the step, 0 to N - 1 as in diffusers. Between steps the log-SNR is interpolated linearly,
    that is `log(sigma / alpha)` is, so a fractional step has one meaning everywhere.
    """

    step_log_snr: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self):
        if len(self.step_log_snr) < 2:
            raise ValueError("A DDPM schedule needs at least two steps.")
        if not np.all(np.diff(self.step_log_snr) < 0):
            raise ValueError("The log-SNR must decrease strictly with the step.")

    @classmethod
    def from_betas(cls, betas: ArrayLike) -> "DDPM":
        """The schedule of these betas.

        Raises:
            ValueError: If there are fewer than two or one is not inside (0, 1).
        """
        betas = np.asarray(betas, float)
        if betas.ndim != 1 or not np.all((betas > 0) & (betas < 1)):
            raise ValueError("`betas` must be one-dimensional with values inside (0, 1).")
        return cls.from_alphas_cumprod(np.exp(np.cumsum(np.log1p(-betas))))

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: ArrayLike) -> "DDPM":
        """The schedule with these `alpha^2` per step.

        Raises:
            ValueError: If they do not decrease strictly inside (0, 1).
        """
        alphas_cumprod = np.asarray(alphas_cumprod, float)
        if alphas_cumprod.ndim != 1 or not np.all((alphas_cumprod > 0) & (alphas_cumprod < 1)):
            raise ValueError("`alphas_cumprod` must be one-dimensional with values inside (0, 1).")
        return cls(tuple((np.log(alphas_cumprod) - np.log1p(-alphas_cumprod)).tolist()))

    @classmethod
    def linear(cls, start: float = 1e-4, end: float = 2e-2, num_steps: int = 1000) -> "DDPM":
        """Betas on a line: Ho, Jain & Abbeel 2020."""
        return cls.from_betas(np.linspace(start, end, num_steps))

    @classmethod
    def scaled_linear(
        cls, start: float = 8.5e-4, end: float = 1.2e-2, num_steps: int = 1000
    ) -> "DDPM":
        """Square roots of betas on a line: Rombach et al. 2022, Stable Diffusion."""
        return cls.from_betas(np.linspace(start**0.5, end**0.5, num_steps) ** 2)

    @property
    def time_range(self) -> tuple[float, float]:
        return 0.0, float(len(self.step_log_snr) - 1)

    def log_snr(self, t: ArrayLike) -> Times:
        steps = jnp.arange(len(self.step_log_snr), dtype=float)
        return jnp.interp(jnp.asarray(t, float), steps, jnp.asarray(self.step_log_snr))

    def log_snr_slope(self, t: ArrayLike) -> Times:
        """`d lambda / dt`: constant inside each step; at a step, the slope of the interval after it."""
        last = len(self.step_log_snr) - 2
        index = jnp.clip(jnp.floor(jnp.asarray(t, float)).astype(int), 0, last)
        return jnp.asarray(np.diff(self.step_log_snr))[index]

    def alpha(self, t: ArrayLike) -> Times:
        return variance_preserving(self.log_snr(t))[0]

    def sigma(self, t: ArrayLike) -> Times:
        return variance_preserving(self.log_snr(t))[1]

    def _time(self, log_snr: Times) -> Times:
        steps = jnp.arange(len(self.step_log_snr), dtype=float)
        return jnp.interp(-log_snr, -jnp.asarray(self.step_log_snr), steps)
