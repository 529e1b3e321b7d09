"""A number with its error bar.

Every quantity that comes from sampling is an `Estimate`: a mean, its standard error and the
degrees of freedom of that standard error. Intervals use Student's t, so that a handful of batches
gives an honest interval. A deterministic number is an `Estimate` with standard error 0.

Wherever a person reads it, an estimate is `value ± half-width` of its 95 % interval.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats

from gmm_speciation import checks

RealArray = Float[Array, "..."] | Float[np.ndarray, "..."]


_SHOWN = 4  # entries of an array in a `repr`


def _as_array(x) -> RealArray:
    return (
        x if isinstance(x, jax.Array) else np.asarray(checks.as_reals(x, "value or stderr"), float)
    )


class Estimate(eqx.Module):
    """Mean, standard error (same shape and unit) and degrees of freedom.

    Arrays may be JAX or numpy: the theory produces the former, trained models the latter.
    """

    value: RealArray = eqx.field(converter=_as_array)
    stderr: RealArray = eqx.field(converter=_as_array)
    dof: float = eqx.field(static=True, default=np.inf)

    def __check_init__(self):
        if self.value.shape != self.stderr.shape:
            raise ValueError(
                "`value` and `stderr` must have one shape; got "
                f"{self.value.shape} and {self.stderr.shape}."
            )
        if checks.is_concrete(self.stderr) and (checks.known(self.stderr) < 0).any():
            raise ValueError("`stderr` must not be negative; it is the root of a variance.")
        if not self.dof > 0:
            raise ValueError(f"`dof` must be positive; got {self.dof}.")

    @classmethod
    def exact(cls, value) -> "Estimate":
        """A deterministic value: standard error 0."""
        value = _as_array(value)
        zeros = jnp.zeros_like if isinstance(value, jax.Array) else np.zeros_like
        return cls(value, zeros(value))

    @classmethod
    def from_samples(cls, samples: RealArray, axis: int = 0) -> "Estimate":
        """Mean over `axis` of independent `samples`, with `n - 1` degrees of freedom.

        Raises:
            ValueError: If there are fewer than two samples: the standard error is not defined.
        """
        num_samples = samples.shape[axis]
        if num_samples < 2:
            raise ValueError(
                f"A standard error needs at least 2 samples along axis {axis}; got {num_samples}."
            )
        mean = samples.mean(axis)
        # np/jnp by the array's own methods: `var(ddof=1)` exists in both.
        return cls(mean, (samples.var(axis, ddof=1) / num_samples) ** 0.5, float(num_samples - 1))

    @classmethod
    def jackknife(cls, value, leave_one_out: RealArray) -> "Estimate":
        """Delete-one jackknife of a statistic computed from `R` independent batches.

        Args:
            value: The statistic of all batches together.
            leave_one_out: The same statistic without batch r, shape `(R, *shape)`.

        Source: Efron, "The jackknife, the bootstrap and other resampling plans" (1982), ch. 3.

        Raises:
            ValueError: If there are fewer than two batches.
        """
        num_batches = leave_one_out.shape[0]
        if num_batches < 2:
            raise ValueError(f"The jackknife needs at least 2 batches; got {num_batches}.")
        variance = (num_batches - 1) * leave_one_out.var(0)
        return cls(
            np.asarray(value, float), np.asarray(variance**0.5, float), float(num_batches - 1)
        )

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Two-sided interval `(low, high)` at the given confidence level (runs on the host).

        Raises:
            ValueError: If `level` is not inside (0, 1).
        """
        half = self.half_width(level)
        return np.asarray(self.value - half), np.asarray(self.value + half)

    def half_width(self, level: float = 0.95) -> np.ndarray:
        """Half of the two-sided interval: Student's quantile times the standard error (on the host).

        Raises:
            ValueError: If `level` is not inside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"`level` must lie inside (0, 1); got {level}.")
        return np.asarray(stats.t.ppf(0.5 + level / 2, self.dof) * np.asarray(self.stderr))

    def map(self, function: Callable[[Any], Any]) -> "Estimate":
        """`function` of the number, elementwise, with its error to first order (the delta method).

        The slope is the secant over one standard error on either side,
        `stderr(f) = |f(v + e) - f(v - e)| / 2`: exact where f is linear, no derivative needed. The
        degrees of freedom stay.

        Args:
            function: Elementwise, and defined on `value ± stderr`: a logarithm of a share that may
                reach 0 is not.
        """
        spread = function(self.value + self.stderr) - function(self.value - self.stderr)
        return Estimate(function(self.value), abs(spread) / 2, self.dof)

    def __format__(self, spec: str) -> str:
        """`0.3563 ± 0.0012`: value and 95 % half-width.

        Without a format the half-width has two digits and the value as many places; an exact number
        has six digits, and so has one whose error is not known, NaN: `0.3563 ± unknown`. A format such as
        `.2f` is applied to both. A value that is NaN is "not defined".

        Raises:
            ValueError: If this is an array of estimates: format its entries.
        """
        if self.value.shape:
            raise ValueError(
                f"One estimate is printed at a time; got shape {self.value.shape}. Index it first."
            )
        value, half = float(self.value), float(self.half_width())
        if math.isnan(value):
            return "not defined"
        # An error at rounding size says nothing that the value's digits do not.
        if math.isnan(half):
            text = f"{value + 0.0:{spec or '.6g'}} ± unknown"
        elif half < 1e-10 * abs(value) or not half > 0 or not math.isfinite(value):
            text = format(value + 0.0, spec or ".6g")
        elif spec or not math.isfinite(half):
            text = f"{value:{spec or '.6g'}} ± {half:{spec or '.2g'}}"
        else:
            exponent = math.floor(math.log10(float(f"{half:.1e}")))
            places = max(0, 1 - exponent)
            text = f"{value:.{places}f} ± {half:.{places}f}"
            if exponent < -7:  # long runs of zeros hide the digits
                digits = max(0, math.floor(math.log10(abs(value) or half)) - exponent + 1)
                text = f"{value:.{digits}e} ± {half:.1e}"
        return text.replace("-", "−")

    def __repr__(self) -> str:
        """`Estimate(0.3563 ± 0.0012)`; of an array its shape, first entries and last one."""
        if not known(self):
            return super().__repr__()
        if not self.value.shape:
            return f"Estimate({self})"
        flat = Estimate(np.ravel(self.value), np.ravel(self.stderr), self.dof)
        size = len(flat.value)
        shown = range(size) if size <= _SHOWN else (*range(_SHOWN - 1), size - 1)
        entries = [f"{flat[index]}" for index in shown]
        if size > _SHOWN:
            entries.insert(-1, "…")
        return f"Estimate([{', '.join(entries)}], shape {self.value.shape})"

    def __sub__(self, other: "Estimate | RealArray | float") -> "Estimate":
        """The difference of independent estimates, with the smaller degrees of freedom; a number is exact.

        Raises:
            ValueError: If they have not one shape, and neither is a single number.
        """
        other = other if isinstance(other, Estimate) else Estimate.exact(other)
        if self.value.shape != other.value.shape and self.value.shape and other.value.shape:
            raise ValueError(
                "Estimates are subtracted from others of one shape, or a single one is; got shapes "
                f"{self.value.shape} and {other.value.shape}. Index or reshape one."
            )
        stderr = (self.stderr**2 + other.stderr**2) ** 0.5
        return Estimate(self.value - other.value, stderr, min(self.dof, other.dof))

    def __getitem__(self, index) -> "Estimate":
        """The estimates at `index`, for arrays of estimates."""
        return Estimate(self.value[index], self.stderr[index], self.dof)


def known(*numbers: Any) -> bool:
    """Whether all are estimates whose values can be printed here: neither traced, nor of another host."""
    return all(
        isinstance(number, Estimate)
        and all(
            isinstance(x, np.ndarray)
            or (isinstance(x, jax.Array) and checks.is_concrete(x) and x.is_fully_addressable)
            for x in (number.value, number.stderr)
        )
        for number in numbers
    )


class Readable(eqx.Module):
    """A result that prints its numbers, a field a line; arrays that are no estimates by their shape."""

    def __repr__(self) -> str:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not all(known(value) for value in fields.values() if isinstance(value, Estimate)):
            return super().__repr__()

        def shown(value: Any) -> str:
            if isinstance(value, Estimate):
                return repr(value).partition("(")[2][:-1]
            if isinstance(value, np.ndarray | jax.Array) and np.ndim(value):
                return f"shape {value.shape}"
            if isinstance(value, float | np.ndarray | jax.Array) and checks.is_concrete(value):
                return in_digits(float(value))
            return repr(value).replace("\n", "\n  ")

        lines = [f"  {name}: {shown(value)}" for name, value in fields.items()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def in_digits(number: float) -> str:
    """A plain number for a reader: four significant digits, a typographic minus."""
    return format(Estimate.exact(number), ".4g")
