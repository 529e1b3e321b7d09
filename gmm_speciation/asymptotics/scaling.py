"""How speciation times grow with the dimension: `t_S = slope log d + intercept`, with intervals.

Slope 1/2 for separated means, 1/4 for equal means, on the Ornstein-Uhlenbeck clock (`two_classes`).
A fit takes measured points of any criterion. Sampled points are weighted by their standard errors, which
become those of the line; where the points scatter by more than they say, chi^2 > n - 2, the errors grow by
the root of that ratio (Birge 1932) and have n - 2 degrees of freedom. Exact points have no errors of their
own: ordinary least squares with n - 2 degrees of freedom, whose residuals are what finite d leaves of
the law. Intervals use Student's t.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from gmm_speciation.checks import ArrayLike, as_axis, as_values, positive
from gmm_speciation.estimate import Estimate, Readable
from gmm_speciation.processes import DiffusionProcess, OrnsteinUhlenbeck
from gmm_speciation.reduction import Law
from gmm_speciation.sampling.monte_carlo import DEFAULT_NUM_SAMPLES
from gmm_speciation.speciation import speciation_times


class ScalingFit(Readable):
    """A straight line through speciation times against log d."""

    log_dim: Float[np.ndarray, " N"]
    times: Estimate  # (N,)
    slope: Estimate
    intercept: Estimate

    def __call__(self, dim: ArrayLike) -> Float[np.ndarray, "*shape"]:
        """The line at dimension `dim`."""
        log_dim = np.log(as_values(dim, "dim", "be positive and finite", positive))
        return np.asarray(float(self.slope.value) * log_dim + float(self.intercept.value))

    @property
    def residuals(self) -> Float[np.ndarray, " N"]:
        """Times minus the line."""
        return np.asarray(self.times.value) - self(np.exp(self.log_dim))


def fit_scaling(dims: ArrayLike, times: Estimate | ArrayLike) -> ScalingFit:
    """The line through speciation times at these dimensions.

    Args:
        dims: `(N,)`, at least three, not all equal.
        times: `(N,)`, with standard errors (all positive), or exact.

    Raises:
        ValueError: If there are fewer than three points, shapes disagree, a dimension is not positive, a
            time not finite, or only some of the points have an error.
    """
    log_dim = np.log(as_axis(dims, "dims", "be positive and finite", positive))
    points = times if isinstance(times, Estimate) else Estimate.exact(as_values(times, "times"))
    value, stderr = np.asarray(points.value, float), np.asarray(points.stderr, float)
    if len(log_dim) < 3 or np.ptp(log_dim) == 0:
        raise ValueError(
            "A line with an interval needs at least three points at different dimensions; got "
            f"{dims}."
        )
    if value.shape != log_dim.shape or not np.isfinite(value).all():
        raise ValueError(
            f"`times` must be finite, one a dimension; got shape {value.shape} for "
            f"{len(log_dim)} dimensions."
        )
    dof = float(len(log_dim) - 2)
    if not stderr.any():
        line, covariance = np.polyfit(log_dim, value, 1, cov=True)
    elif (stderr > 0).all():
        line, covariance = np.polyfit(log_dim, value, 1, w=1 / stderr, cov="unscaled")
        misfit = np.sum(((value - np.polyval(line, log_dim)) / stderr) ** 2)
        if misfit > dof:
            covariance, dof = covariance * misfit / dof, min(dof, points.dof)
        else:
            dof = points.dof
    else:
        raise ValueError("Either all of the times have a standard error, or none has.")
    errors = np.sqrt(np.diag(covariance))
    slope, intercept = (
        Estimate(np.asarray(v), np.asarray(e), dof) for v, e in zip(line, errors, strict=True)
    )
    return ScalingFit(log_dim, Estimate(value, stderr, points.dof), slope, intercept)


def speciation_scaling(
    family: Callable[[int], Law],
    dims: Sequence[int],
    *,
    process: DiffusionProcess | None = None,
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> dict[str, ScalingFit]:
    """The fit of every criterion that has a point at each of the dimensions.

    Args:
        family: The law in d dimensions, for example
            `lambda d: families.symmetric_pair(d, reduced=True)`.
        dims: Dimensions, at least three.
        process: The clock; Ornstein-Uhlenbeck by default.
        num_samples: Draws of X where a curve is sampled.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: As `speciation_times` and `fit_scaling`, or if the process never reaches a point.
    """
    clock = OrnsteinUhlenbeck() if process is None else process
    rows = [
        {
            name: point.on(clock)
            for name, point in speciation_times(family(dim), num_samples=num_samples, key=key)
            .points()
            .items()
        }
        for dim in dims
    ]
    fits = {}
    for name in rows[0]:
        points = [row[name] for row in rows]
        known = [point for point in points if point is not None]
        if len(known) == len(points):
            fits[name] = fit_scaling(
                np.asarray(dims, float),
                Estimate(
                    np.array([float(point.value) for point in known]),
                    np.array([float(point.stderr) for point in known]),
                    min(point.dof for point in known),
                ),
            )
    return fits
