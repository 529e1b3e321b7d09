"""Forward diffusion processes.

A process is its perturbation kernel `p(x_t | x_0) = N(alpha(t) x_0, sigma(t)^2 I)`. The log-SNR
`lambda(t) = log(alpha^2 / sigma^2)`, the drift `f(t) = d log alpha / dt` and the squared diffusion
coefficient `g(t)^2 = -sigma^2 d lambda / dt` follow. Class posteriors depend on the noise through
lambda alone, so a process is a *clock* on the log-SNR axis.

Convention: `t` grows from signal to noise, lambda decreases strictly. All methods act elementwise
on arrays of times and are safe under jit, vmap and grad.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import (
    ArrayLike,
    as_count,
    as_float_array,
    as_reals,
    is_concrete,
    known,
    require,
)

Times = Float[Array, "*T"]


def variance_preserving(log_snr: ArrayLike) -> tuple[Times, Times]:
    """`(alpha, sigma)` with `alpha^2 + sigma^2 = 1` at a log-SNR, exact at plus and minus infinity."""
    return _variance_preserving(jnp.asarray(log_snr, float))


@jax.jit
def _variance_preserving(log_snr: Times) -> tuple[Times, Times]:
    def alpha(level: Times) -> Times:
        # alpha = exp(lambda / 2) sigma: its square is out of range long before it is.
        noisy = jnp.minimum(level, 0.0)
        small = jnp.exp(noisy / 2) * jnp.sqrt(jax.nn.sigmoid(-noisy))
        return jnp.where(level < 0, small, jnp.sqrt(jax.nn.sigmoid(level)))

    return alpha(log_snr), alpha(-log_snr)


class Kernel(NamedTuple):
    """The perturbation kernel at some times: scales and log-SNR."""

    alpha: Times
    sigma: Times
    log_snr: Times


class Rates(NamedTuple):
    """What changes per unit of `t`: `f`, `g^2` and `d lambda / dt`; at an end of the range their limits."""

    drift: Times
    diffusion_squared: Times
    log_snr_slope: Times


class DiffusionProcess(eqx.Module):
    """Interface of a forward process. Subclasses give the kernel, its rates and the inverse clock.

    Every method takes times inside `time_range`, ends included, and there gives limits: the log-SNR may be
    infinite, a rate too.

    Raises:
        ValueError: By every method, if a time is NaN or outside the range (under jit: a runtime error).
    """

    @property
    @abc.abstractmethod
    def time_range(self) -> tuple[float, float]:
        """Times on which the process is defined, from signal to noise."""

    @abc.abstractmethod
    def _kernel(self, t: Times) -> Kernel:
        """Scales and log-SNR, in closed form: none may cost another its digits."""

    @abc.abstractmethod
    def _rates(self, t: Times) -> Rates:
        """Their rates in closed form: products of the scales are 0 times infinity at an end."""

    @abc.abstractmethod
    def _time(self, log_snr: Times) -> Times:
        """Inverse of `log_snr`, not checked."""

    def alpha(self, t: ArrayLike) -> Times:
        """Signal scale: positive, non-increasing in `t`."""
        return _kernel(self, self._times(t)).alpha

    def sigma(self, t: ArrayLike) -> Times:
        """Noise scale: non-negative, non-decreasing in `t`."""
        return _kernel(self, self._times(t)).sigma

    def log_snr(self, t: ArrayLike) -> Times:
        """`log(alpha^2 / sigma^2)`, strictly decreasing in `t`."""
        return _kernel(self, self._times(t)).log_snr

    def log_snr_slope(self, t: ArrayLike) -> Times:
        """`d lambda / dt < 0`, per unit of `t`; where it jumps, the value after the jump."""
        return _rates(self, self._times(t)).log_snr_slope

    def drift(self, t: ArrayLike) -> Times:
        """`f(t) = d log alpha / dt`: the forward SDE is `dx = f x dt + g dW`."""
        return _rates(self, self._times(t)).drift

    def diffusion_squared(self, t: ArrayLike) -> Times:
        """`g(t)^2 = -sigma^2 d lambda / dt`, the squared diffusion coefficient."""
        return _rates(self, self._times(t)).diffusion_squared

    def time(self, log_snr: ArrayLike) -> Times:
        """The time at which the process has this log-SNR.

        A level beyond an end by no more than 1e-5 of it is that end: levels come rounded.

        Raises:
            ValueError: If the process never has this log-SNR, or it is NaN (under jit: a runtime error).
        """
        first, last = self.time_range
        with jax.ensure_compile_time_eval():
            ends = (_kernel(self, jnp.asarray(t, float)).log_snr for t in (first, last))
            high, low = map(float, ends)
        slack = 1e-5 * max(1.0, *(abs(end) for end in (low, high) if np.isfinite(end)), 0.0)
        remedy = "choose a process that reaches this noise"
        level = self._inside(log_snr, "log_snr", (low, high), slack, remedy)
        return _time(self, level, first, last)

    def _times(self, t: ArrayLike) -> Times:
        return self._inside(t, "t", self.time_range, 0.0, "`time` gives the time of a log-SNR")

    def _inside(
        self, x: ArrayLike, name: str, ends: tuple[float, float], slack: float, remedy: str
    ) -> Times:
        x = as_float_array(x, name, copy=False).astype(float)
        low, high = ends
        message = (
            f"`{name}` must lie in [{low:.6g}, {high:.6g}], the range of {type(self).__name__}"
        )
        seen = known(x)
        if is_concrete(x) and x.size:
            message += f"; got {float(np.min(seen)):.6g} to {float(np.max(seen)):.6g}"
        return require(x, (seen >= low - slack) & (seen <= high + slack), f"{message}; {remedy}.")


# One program a process and shape, not one an operation.


@eqx.filter_jit
def _kernel(process: DiffusionProcess, t: Times) -> Kernel:
    return process._kernel(t)


@eqx.filter_jit
def _rates(process: DiffusionProcess, t: Times) -> Rates:
    return process._rates(t)


@eqx.filter_jit
def _time(process: DiffusionProcess, log_snr: Times, first: float, last: float) -> Times:
    t = process._time(log_snr)
    return jnp.where(t < first, first, jnp.where(t > last, last, t))


def _constant(value: float, t: Times) -> Times:
    """A value that needs `t`: compiled code drops what nothing needs, and its check with it."""
    return jnp.where(t >= 0, value, jnp.nan)


class OrnsteinUhlenbeck(DiffusionProcess):
    """`dx = -x dt + sqrt(2) dW`, the process of the speciation papers (Biroli et al. 2024).

    `alpha = e^{-t}`, `sigma^2 = 1 - e^{-2t}`, t in [0, inf).
    """

    time_range = (0.0, np.inf)

    def _kernel(self, t: Times) -> Kernel:
        variance = -jnp.expm1(-2 * t)  # 1 - e^{-2t} loses digits near 0
        return Kernel(jnp.exp(-t), jnp.sqrt(variance), -2 * t - jnp.log(variance))

    def _rates(self, t: Times) -> Rates:
        return Rates(_constant(-1.0, t), _constant(2.0, t), 2 / jnp.expm1(-2 * t))

    def _time(self, log_snr: Times) -> Times:
        return jax.nn.softplus(-log_snr) / 2


class VarianceExploding(DiffusionProcess):
    """`alpha = 1`, `sigma = t`: the noise scale itself is the clock (EDM; Karras et al. 2022)."""

    time_range = (0.0, np.inf)

    def _kernel(self, t: Times) -> Kernel:
        return Kernel(_constant(1.0, t), t, -2 * jnp.log(t))

    def _rates(self, t: Times) -> Rates:
        return Rates(_constant(0.0, t), 2 * t, -2 / t)

    def _time(self, log_snr: Times) -> Times:
        return jnp.exp(-log_snr / 2)


class LinearInterpolant(DiffusionProcess):
    """`alpha = 1 - t`, `sigma = t`, t in [0, 1]: flow matching (Lipman et al. 2023).

    At t = 1 the drift is minus infinity and `g^2` infinite.
    """

    time_range = (0.0, 1.0)

    def _kernel(self, t: Times) -> Kernel:
        return Kernel(1 - t, t, 2 * (jnp.log1p(-t) - jnp.log(t)))

    def _rates(self, t: Times) -> Rates:
        return Rates(-1 / (1 - t), 2 * t / (1 - t), -2 / (t * (1 - t)))

    def _time(self, log_snr: Times) -> Times:
        return jax.nn.sigmoid(-log_snr / 2)


class Cosine(DiffusionProcess):
    """`alpha^2 = cos^2(u(t)) / cos^2(u(0))`, `u(t) = (pi / 2) (t + 0.008) / 1.008`, t in [0, 1].

    Nichol & Dhariwal 2021, Eq. 17. Their bound `beta <= 0.999` binds in the last of 1000 steps only: on
    `[0.999, 1]` log alpha^2 is therefore the straight line that falls by log 1000, and the log-SNR ends
    at -19.836 where the unbounded schedule would fall to minus infinity.

    With `d = u(t) - u(0)` and `v = pi / 2 - u(t)`, which lose no digits at the two ends,

        alpha = sin v / cos u(0),       sigma^2 = sin d sin(2 u(0) + d) / cos^2 u(0),
        tan d = sigma^2 cos u(0) / (sin u(0) + alpha sqrt(sin^2 u(0) + sigma^2 cos^2 u(0))).
    """

    _speed = np.pi / 2 / 1.008  # du/dt
    _start = 0.008 * _speed  # u(0)
    _knee = 0.999

    time_range = (0.0, 1.0)

    def _kernel(self, t: Times) -> Kernel:
        body, last = jnp.minimum(t, self._knee), jnp.maximum(t - self._knee, 0)
        cosine, turned = np.cos(self._start), self._speed * body
        alpha = jnp.sin(self._speed * (1 - body)) / cosine
        variance = jnp.sin(turned) * jnp.sin(2 * self._start + turned) / cosine**2
        alpha = alpha * jnp.exp(-self._fall * last)
        variance = jnp.where(t < self._knee, variance, 1 - alpha**2)
        return Kernel(alpha, jnp.sqrt(variance), 2 * jnp.log(alpha) - jnp.log(variance))

    def _rates(self, t: Times) -> Rates:
        body = -self._speed / jnp.tan(self._speed * (1 - jnp.minimum(t, self._knee)))
        drift = jnp.where(t < self._knee, body, -self._fall)
        return Rates(drift, -2 * drift, 2 * drift / self._kernel(t).sigma ** 2)

    def _time(self, log_snr: Times) -> Times:
        alpha, sigma = variance_preserving(log_snr)
        sine, cosine = np.sin(self._start), np.cos(self._start)
        root = jnp.sqrt(sine**2 + (sigma * cosine) ** 2)
        body = jnp.arctan(sigma**2 * cosine / (sine + alpha * root)) / self._speed
        at_knee = np.log(np.sin(self._speed * (1 - self._knee)) / cosine)
        last = (at_knee - jax.nn.log_sigmoid(log_snr) / 2) / self._fall
        return jnp.where(last < 0, body, self._knee + last)

    @property
    def _fall(self) -> float:
        """`-d log alpha / dt` in the last step, `log(1000) / 2` over its length."""
        return np.log(1000) / 2 / (1 - self._knee)


class DDPM(DiffusionProcess):
    """Discrete betas: `alpha^2 = prod_{j <= k} (1 - beta_j)` at step k (Ho, Jain & Abbeel 2020).

    `t` is the step, 0 to N - 1 as in diffusers. Between steps the log-SNR is interpolated linearly,
    that is `log(sigma / alpha)` is, so a fractional step has one meaning everywhere.
    """

    step_log_snr: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self):
        if len(self.step_log_snr) < 2:
            raise ValueError("A DDPM schedule needs at least two steps.")
        levels = np.asarray(self.step_log_snr, float)
        if not (np.all(np.isfinite(levels)) and np.all(np.diff(levels) < 0)):
            raise ValueError(
                "The log-SNR must be finite and decrease strictly with the step; got "
                f"{levels[0]:.6g} to {levels[-1]:.6g}. `from_betas` and `from_alphas_cumprod` find it."
            )

    @classmethod
    def from_betas(cls, betas: ArrayLike) -> "DDPM":
        """The schedule of these betas.

        Raises:
            ValueError: If there are fewer than two or one is not inside (0, 1).
        """
        betas = _inside_unit(betas, "betas")
        return cls._of(np.cumsum(np.log1p(-betas)))

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: ArrayLike) -> "DDPM":
        """The schedule with these `alpha^2` per step.

        Raises:
            ValueError: If they do not decrease strictly inside (0, 1).
        """
        squares = _inside_unit(alphas_cumprod, "alphas_cumprod")
        if not np.all(np.diff(squares) < 0):
            raise ValueError(
                "`alphas_cumprod` must decrease strictly with the step, from signal to noise; got "
                f"{squares[0]:.6g} to {squares[-1]:.6g}."
            )
        return cls._of(np.log(squares))

    @classmethod
    def _of(cls, log_alpha_squared: Float[np.ndarray, " N"]) -> "DDPM":
        log_snr = log_alpha_squared - np.log(-np.expm1(log_alpha_squared))
        return cls(tuple(log_snr.tolist()))

    @classmethod
    def linear(cls, start: float = 1e-4, end: float = 2e-2, num_steps: int = 1000) -> "DDPM":
        """Betas on a line: Ho, Jain & Abbeel 2020."""
        return cls.from_betas(np.linspace(start, end, as_count(num_steps, "num_steps", 2)))

    @classmethod
    def scaled_linear(
        cls, start: float = 8.5e-4, end: float = 1.2e-2, num_steps: int = 1000
    ) -> "DDPM":
        """Square roots of betas on a line: Rombach et al. 2022, Stable Diffusion."""
        count = as_count(num_steps, "num_steps", 2)
        return cls.from_betas(np.linspace(start**0.5, end**0.5, count) ** 2)

    @property
    def time_range(self) -> tuple[float, float]:
        return 0.0, float(len(self.step_log_snr) - 1)

    def _kernel(self, t: Times) -> Kernel:
        log_snr = jnp.interp(t, self._steps, jnp.asarray(self.step_log_snr))
        return Kernel(*variance_preserving(log_snr), log_snr)

    def _rates(self, t: Times) -> Rates:
        # Constant inside each step; at a step, that of the interval after it.
        index = jnp.clip(jnp.floor(t).astype(int), 0, len(self.step_log_snr) - 2)
        slope = jnp.asarray(np.diff(self.step_log_snr))[index]
        diffusion_squared = -(self._kernel(t).sigma ** 2) * slope
        return Rates(-diffusion_squared / 2, diffusion_squared, slope)

    def _time(self, log_snr: Times) -> Times:
        return jnp.interp(-log_snr, -jnp.asarray(self.step_log_snr), self._steps)

    @property
    def _steps(self) -> Times:
        return jnp.arange(len(self.step_log_snr), dtype=float)


def _inside_unit(values: ArrayLike, name: str) -> Float[np.ndarray, " N"]:
    array = as_reals(values, name).astype(float)
    inside = (array.ndim == 1) & (array > 0) & (array < 1)
    return require(array, inside, f"`{name}` must be one-dimensional with values inside (0, 1).")
