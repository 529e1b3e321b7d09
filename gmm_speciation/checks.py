"""The border: arrays of any library come in, and one rule checks concrete and traced values.

Data may be JAX or numpy arrays, nested sequences, or arrays of another library that speaks DLPack,
such as torch tensors; those are read where they lie, without a copy where JAX and their strides allow,
and follow JAX's rule of precision (float64 becomes float32 unless x64 is on).

A concrete bad value raises `ValueError` at once. Under `jit`, where no value is known yet, the check travels
with the computation (`equinox.error_if`); its message reads well under `equinox.filter_jit`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    TypeVar,
    get_args,
    runtime_checkable,
)

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_CPU = 1  # DLPack's number of the host
_Owner, _Result, _Rest = TypeVar("_Owner"), TypeVar("_Result"), ParamSpec("_Rest")
_Function = TypeVar("_Function", bound=Callable[..., Any])


@runtime_checkable
class SupportsDLPack(Protocol):
    """An array of another library, such as a torch tensor."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> Any: ...


# What a user may hand over as numbers; numpy's own alias cannot be checked at run time.
ArrayLike = jax.Array | np.ndarray | np.number | float | int | Sequence[Any] | SupportsDLPack


def is_concrete(x: Any) -> bool:
    """Whether the values of `x` are known now, outside any trace."""
    return not isinstance(x, jax.core.Tracer)


def known(x: Any) -> Any:
    """`x` in numpy where its values are known and lie on the host, so that a check compiles nothing."""
    if isinstance(x, np.ndarray) or not is_concrete(x):
        return x
    on_host = x.is_fully_addressable and all(device.platform == "cpu" for device in x.devices())
    return np.asarray(x) if on_host else x


def require(x: Any, condition: Any, message: str) -> Any:
    """Return `x` if `condition` holds everywhere, else raise `ValueError(message)`.

    A NaN fails every condition on a range; the error then says that NaN came before it says the range.

    Args:
        x: Any array; returned unchanged, so that a traced check stays in the computation.
        condition: Boolean array computed from `x`.
        message: What was expected and what to do; values that came and are known are added.

    Raises:
        ValueError: If `condition` is concrete and false somewhere.
    """
    if is_concrete(condition) and np.all(np.asarray(condition)):
        return x
    nan = jnp.any(jnp.isnan(x)) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else False
    about_nan = f"Got NaN. {message}"
    if is_concrete(condition):
        if isinstance(seen := known(x), np.ndarray) and "got" not in message:
            message = f"{message} Got {_short(seen)}."
        raise ValueError(about_nan if nan else message)
    failed = jnp.logical_not(jnp.all(condition))
    return eqx.error_if(eqx.error_if(x, failed & nan, about_nan), failed, message)


def _readable(x: Any, name: str) -> Any:
    """`x` as JAX or numpy reads it: arrays of other libraries by DLPack, without a copy."""
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(
            f"`{name}` must have a number in every place; got a masked array. Drop what is masked, or "
            "fill it with `filled`."
        )
    if isinstance(x, jax.Array | np.ndarray | np.generic) or not hasattr(x, "__dlpack__"):
        return x
    try:
        if x.__dlpack_device__()[0] == _CPU:
            try:
                return np.from_dlpack(x)  # takes any strides
            except (RuntimeError, BufferError):  # before numpy 2.5, and since
                # A dtype that numpy lacks, such as bfloat16. As JAX's own it would be bound to the host.
                return np.asarray(jnp.from_dlpack(x))
        return jnp.from_dlpack(x)
    except Exception as error:  # exporters raise what they like
        raise ValueError(
            f"`{name}`, a {type(x).__module__}.{type(x).__qualname__}, cannot be read by DLPack: "
            f"{error}. Hand over a dense real array without gradients, on a device that JAX uses "
            f"({jax.default_backend()}); for a torch tensor `{name}.detach().cpu()`."
        ) from error


def _as_floating(x: Any, name: str, copy: bool) -> Float[Array, "..."]:
    if not isinstance(x, jax.Array):
        x = _readable(x, name)
        try:
            if isinstance(x, np.ndarray):  # `jnp.asarray` would compile a program for its shape
                x = jax.device_put(np.array(x) if copy else x)
            elif copy or not isinstance(x, jax.Array):
                x = jnp.array(x)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` must be numeric; {error}.") from error
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    if not (jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
        raise ValueError(f"`{name}` must be real numbers; got dtype {x.dtype}.")
    return x.astype(jnp.result_type(float))


def as_float_array(x: Any, name: str, *, copy: bool = True) -> Float[Array, "..."]:
    """`x` as a floating JAX array without NaN.

    Args:
        x: Numbers.
        name: What errors call it.
        copy: Whether the result has memory of its own, which no change of the original reaches.

    Raises:
        ValueError: If an entry is NaN, or `x` cannot be read as numbers.
    """
    x = _as_floating(x, name, copy)
    seen = known(x)
    return require(
        x, (seen == seen).all(), f"`{name}` must not contain NaN; drop or impute such entries."
    )


def as_numpy(x: Any, name: str) -> np.ndarray:
    """`x` as a numpy array of its own dtype.

    Raises:
        ValueError: If it is masked, ragged, or an array of another library that DLPack cannot hand over.
    """
    x = _readable(x, name)
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"`{name}` must have rows of one length; got {x!r}.") from None


def as_reals(x: Any, name: str, *, flags: bool = True) -> np.ndarray:
    """`x` as a numpy array of its own dtype, where `astype(float)` would drop imaginary parts or read text.

    Raises:
        ValueError: As `as_numpy`, or if it is complex, text or objects, or booleans where `flags` are none.
    """
    array = as_numpy(x, name)
    if array.dtype.kind in "cOSUmM" + "b" * (not flags):
        raise ValueError(f"`{name}` must be real numbers; got dtype {array.dtype}.")
    return array


def as_values(
    x: Any,
    name: str,
    expected: str = "be finite",
    allowed: Callable[[np.ndarray], Any] = np.isfinite,
) -> Float[np.ndarray, "*shape"]:
    """`x` in numpy and float64, where `allowed` holds everywhere: for what is computed outside JAX.

    Raises:
        ValueError: As `as_reals`; or that `name` must do what is `expected`, and what came instead.
    """
    values = np.asarray(as_reals(x, name, flags=False), float)
    if not np.all(allowed(values)):
        raise ValueError(f"`{name}` must {expected}; got {_short(values)}.")
    return values


def as_axis(
    x: Any, name: str, expected: str, allowed: Callable[[np.ndarray], Any]
) -> Float[np.ndarray, " T"]:
    """As `as_values`, for a number or a vector, of which `allowed` is asked for the whole.

    Raises:
        ValueError: As there, or if it has more axes or is empty.
    """
    values = np.atleast_1d(np.asarray(as_reals(x, name, flags=False), float))
    if values.ndim != 1 or not len(values):
        raise ValueError(f"`{name}` must be a number or a vector; got {_short(values)}.")
    return as_values(values, name, expected, allowed)


def positive(values: np.ndarray) -> np.ndarray:
    """Which of them are positive and finite."""
    return np.asarray((values > 0) & np.isfinite(values))


def as_rising(x: Any, name: str, least: int = 1) -> Float[np.ndarray, " T"]:
    """As `as_axis`, positive, finite and strictly increasing."""
    return as_axis(
        x,
        name,
        "be positive, finite and strictly increasing" + f", {least} or more" * (least > 1),
        lambda v: len(v) >= least and np.all(positive(v)) and np.all(np.diff(v) > 0),
    )


def _short(values: np.ndarray) -> str:
    if values.size < 6:
        return str(values.tolist()) if values.size else f"shape {values.shape}"
    return f"shape {values.shape}, from {float(values.min()):.6g} to {float(values.max()):.6g}"


def as_count(x: Any, name: str, least: int = 1) -> int:
    """A whole number, of at least `least`; a float may hold it.

    Raises:
        ValueError: If it is not one.
    """
    try:
        number = np.nan if np.asarray(x).dtype.kind in "bSU" else float(x)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not (number >= least and number % 1 == 0):  # inf % 1 is NaN
        raise ValueError(f"`{name}` must be a whole number of at least {least}; got {x!r}.")
    return int(x)


def expect(x: Any, kind: Any, remedy: str = "") -> Any:
    """`x`, if it is of this kind, a class or a union of some; `remedy` ends the error.

    Raises:
        TypeError: If it is of another.
    """
    if not isinstance(x, kind):
        names = " or ".join(f"`{one.__name__}`" for one in get_args(kind) or (kind,))
        raise TypeError(f"Expected a {names}; got a {type(x).__name__}. {remedy}".strip())
    return x


def as_key(key: Any) -> Any:
    """A key of JAX's random numbers, typed or raw.

    Raises:
        TypeError: If it is another object, such as a seed.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == np.uint32):
        raise TypeError(
            "`key` must be a JAX random key, such as `jax.random.key(0)`; got "
            f"{type(key).__name__} {key!r:.40}."
        )
    return key


def check_labels(labels: Int[np.ndarray, " n"], message: str) -> None:
    """Refuse labels that are not 0..C-1 without gaps, before anything is as large as a label says.

    Raises:
        ValueError: If there is none, one is negative, or a class below the largest has none; `message` first.
    """
    present = np.unique(labels)
    if not len(present) or present[0] < 0:
        raise ValueError(f"{message} Got {f'label {present[0]}' if len(present) else 'none'}.")
    if present[-1] >= len(present):
        absent = int(np.argmax(present != np.arange(len(present))))
        raise ValueError(f"{message} Class {absent} is empty, class {present[-1]} is not.")


def check_label(label: Any, num_classes: int) -> None:
    """Refuse what is no class, where an index would be clamped or counted from the end.

    Raises:
        ValueError: If it is not in 0..C-1.
    """
    if isinstance(label, bool | np.bool_ | float) or label not in range(num_classes):
        raise ValueError(f"`label` must be a class, 0 to {num_classes - 1}; got {label!r}.")


def as_level(alpha: Any, sigma: Any, dtype: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Scales of one noise level as arrays: a new level is new data to compiled code, not a new program.

    Raises:
        ValueError: If one is not a single number, which would be taken for one a component or coordinate,
            or, where it is known, not finite and at least 0.
    """
    level = jnp.asarray(alpha, dtype), jnp.asarray(sigma, dtype)
    if any(scale.ndim for scale in level):
        raise ValueError(
            f"`alpha` and `sigma` must be numbers; got shapes {level[0].shape} and {level[1].shape}. Take "
            "one level at a time, or `jax.vmap` over them."
        )
    for name, scale in zip(("alpha", "sigma"), map(known, level), strict=True):
        if is_concrete(scale) and not 0 <= float(scale) < np.inf:
            raise ValueError(
                f"`{name}` must be a scale, finite and not negative; got {float(scale):.6g}."
            )
    return level


def as_states(x: Any, dim: int, name: str = "x") -> Float[Array, "*batch d"]:
    """Points `(*batch, d)` as a floating JAX array; values are not looked at.

    Raises:
        ValueError: If `x` cannot be read as numbers, or its last axis is not `dim`.
    """
    x = _as_floating(x, name, copy=False)
    if x.ndim == 0 or x.shape[-1] != dim:
        raise ValueError(f"`{name}` must have shape (*batch, {dim}); got {x.shape}.")
    return x


def as_points(x: Any, name: str) -> Float[Array, "n d"]:
    """Two points or more, a point a row, as a floating JAX array.

    Raises:
        ValueError: As `as_float_array`, or if they are fewer, not rows, or not finite.
    """
    points = as_float_array(x, name, copy=False)
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(
            f"`{name}` must be two points or more, (n, d), a point a row; got shape {points.shape}. Flatten "
            "images with `x.reshape(len(x), -1)`."
        )
    return require(points, (abs(known(points)) < np.inf).all(), f"`{name}` must be finite.")


def takes_states(
    function: Callable[Concatenate[_Owner, Array, _Rest], _Result],
) -> Callable[Concatenate[_Owner, ArrayLike, _Rest], _Result]:
    """Let `function(mixture, x, ...)` take points x of any array library; `mixture.centre` has shape `(d,)`.

    Goes outside `equinox.filter_jit`: a tensor of another library is no traced argument.
    """

    @functools.wraps(function)
    def call(mixture: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        centre = getattr(mixture, "centre", None)
        if centre is None:
            raise TypeError(f"Expected a `GaussianMixture`; got a {type(mixture).__name__}.")
        return function(mixture, as_states(x, centre.shape[-1]), *args, **kwargs)

    return call


if TYPE_CHECKING:

    def light(function: _Function) -> _Function: ...
    def state_method(function: _Function) -> _Function: ...

else:

    class light(functools.partialmethod):
        """Let a method cost a call little; outermost of the decorators in a module of equinox.

        What is bound is a pytree, as of every such method, but JAX's own `Partial`: it is made in a
        microsecond, where equinox's takes as long as the posterior of a few states.
        """

        def __get__(self, owner: Any, kind: Any = None) -> Any:
            if owner is None:
                return self.func
            bound = jax.tree_util.Partial(self.func, owner)
            bound.__doc__ = self.func.__doc__
            return bound

    def state_method(function: Any) -> light:
        """A method of points x, compiled, that takes them from any array library at little cost."""
        return light(takes_states(jax.jit(function)))


def decreasing_grid(log_snr: Any) -> Float[Array, " T"]:
    """A strictly decreasing, finite, one-dimensional log-SNR grid: from signal to noise.

    Raises:
        ValueError: If the grid is not one-dimensional, finite and strictly decreasing.
    """
    grid = as_float_array(log_snr, "log_snr")
    if grid.ndim != 1 or grid.shape[0] < 2:
        raise ValueError(
            f"`log_snr` must be one-dimensional with at least two points; got shape {grid.shape}."
        )
    seen = known(grid)
    finite = (abs(seen) < np.inf).all()
    grid = require(grid, finite, "`log_snr` must be finite on a curve's grid.")
    return require(
        grid,
        (seen[1:] < seen[:-1]).all(),
        "`log_snr` must decrease strictly, from signal to noise; sort it with `np.sort(...)[::-1]` "
        "and drop repeated points.",
    )
