"""The logarithmic law from trained networks: t_S = slope log d, measured from their scores alone.

For each dimension and seed a class-conditional denoiser is trained on draws of the mixture. It is told
states, labels and noise levels, the same range of them for every d, and nothing of the mixture. On paths of
draws held out its denoisers are tracked class against class, and the tracked posterior gives the rate

    -dH/dlambda = (gamma / 2) E sum_c p_c |D_c - sum_c p_c D_c|^2,     dH/dt = (-dlambda/dt) (-dH/dlambda),

whose peak on the Ornstein-Uhlenbeck clock is one speciation point, the half of the tracked entropy the
other. The peak is looked for where between 5 and 95 % of H(C) is left: beyond, where no information
is gained, gamma times the error of the network is all there is. A rate that is largest at an end of
that part has no peak there: it counts as not measured, and the slope is over the other dimensions. So does
a network that never tells half of H(C).

The law says 1/2 for separated means (Biroli et al. 2024, arXiv 2402.18491) and 1/4 for classes that differ
in variance only (Achilli et al. 2026, arXiv 2602.04404). The slope is that of least squares over all
(d, seed). Networks are independent, so its variance is that of the seeds of each dimension, and its
interval Student's with the degrees of freedom of Welch and Satterthwaite: a handful of seeds is a handful.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation import families
from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.model import Denoisers
from gmm_speciation.estimators.paths import in_batches
from gmm_speciation.estimators.tracking import entropies, track
from gmm_speciation.lookup import pick
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import OrnsteinUhlenbeck
from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reduction import Law as Reducible

LOG_SNR_RANGE = (-14.0, 4.0)
_SPACING = 0.15  # of the levels of a path
_BATCHES = 8
_VARIANCES = (0.5, 1.5)
_WINDOW = (0.05, 0.95)  # of H(C), where the peak is looked for
POINTS = ("half entropy", "entropic peak")


class Family(NamedTuple):
    """Laws of every dimension, and the slope of their law."""

    mixture: Callable[[int], GaussianMixture]
    reduced: Callable[[int], Reducible]
    slope: float


FAMILIES: dict[str, Family] = {
    "separated means": Family(
        families.symmetric_pair, lambda d: families.symmetric_pair(d, reduced=True), 0.5
    ),
    "equal means": Family(
        lambda d: families.equal_means(d, _VARIANCES),
        lambda d: families.equal_means(d, _VARIANCES, reduced=True),
        0.25,
    ),
}


class Settings(NamedTuple):
    """Of training and measurement."""

    steps: int = 2000
    width: int = 32
    samples: int = 4096  # draws to train on
    paths: int = 512


class LogLaw(NamedTuple):
    """Speciation times of one family."""

    family: str
    point: str  # of POINTS
    law: float  # the slope of the law
    dims: Float[np.ndarray, " D"]
    predicted: Float[np.ndarray, " D"]  # of the exact curve at finite d
    measured: Float[np.ndarray, "D S"]  # by dimension and seed; NaN where there is no such point
    stderr: Float[np.ndarray, "D S"]  # of the paths
    slope: float
    interval: tuple[float, float]  # 95 %
    predicted_slope: float

    @property
    def means(self) -> Estimate:
        """Over the seeds."""
        return Estimate.from_samples(self.measured, 1)

    @property
    def used(self) -> np.ndarray:
        """`(D,)`: whether the slope uses the dimension; those do where every network has the point."""
        return np.isfinite(self.measured).all(1)


def measure_log_law(
    family: str,
    dims: Sequence[int],
    seeds: Sequence[int],
    *,
    settings: Settings = Settings(),  # noqa: B008  immutable
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> list[LogLaw]:
    """Train, measure and fit; one result a point of `POINTS`.

    Args:
        family: A name of `FAMILIES`.
        dims: At least two dimensions.
        seeds: At least two.
        settings: Of training and measurement.
        cache: Where trained weights are kept.
        progress: Told of every network, and of its steps.

    Raises:
        ValueError: If the family is unknown, there are too few dimensions or seeds or one comes twice,
            training fails, or fewer than two dimensions have the point.
    """
    if min(len(dims), len(seeds)) < 2 or min(dims) < 1:
        raise ValueError(
            "A slope with an interval needs at least two dimensions and two seeds; got "
            f"{list(dims)} and {len(seeds)}."
        )
    for name, given in (("dimension", dims), ("seed", seeds)):
        if len(set(given)) < len(given):
            raise ValueError(f"A {name} that comes twice is measured once; got {list(given)}.")
    predicted, of = predictions(family, dims), FAMILIES[family]
    measured: list[list[dict[str, Estimate]]] = []
    for dim in dims:
        measured.append([])
        for seed in seeds:
            progress.step(f"{family}, d = {dim}, seed {seed}")
            measured[-1].append(measure(of.mixture(dim), seed, settings, cache, progress))
    found = []
    for point in POINTS:
        exact = np.array([float(one[point].value) for one in predicted])
        values = np.array([[float(one[point].value) for one in row] for row in measured])
        errors = np.array([[float(one[point].stderr) for one in row] for row in measured])
        used = np.isfinite(values).all(1) & np.isfinite(exact)
        if used.sum() < 2:
            raise ValueError(
                f"{family}: the {point} is inside the window at {used.sum()} of {len(dims)} dimensions; a "
                "slope needs two. Train for more steps."
            )
        log_dim = np.log(np.asarray(dims, float))
        slope = slope_of(np.asarray(dims, float)[used], values[used])
        found.append(
            LogLaw(
                family,
                point,
                of.slope,
                np.asarray(dims, float),
                exact,
                values,
                errors,
                float(slope.value),
                (float(slope.interval()[0]), float(slope.interval()[1])),
                float(np.polyfit(log_dim[used], exact[used], 1)[0]),
            )
        )
    return found


def measure(
    mixture: GaussianMixture,
    seed: int,
    settings: Settings,
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Estimate]:
    """`POINTS` of a network trained on draws of the mixture, in Ornstein-Uhlenbeck time.

    Both are NaN where the network never tells half of H(C).
    """
    return points_of(*trained(mixture, seed, settings, cache, progress), seed)


def trained(
    mixture: GaussianMixture,
    seed: int,
    settings: Settings,
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> tuple[Denoisers, jax.Array, jax.Array]:
    """A network trained on draws of the mixture, draws held out, and the log shares of the classes."""
    from gmm_speciation.learned.data import data_of
    from gmm_speciation.learned.denoising import train_denoiser
    from gmm_speciation.learned.training import Recipe

    key = jax.random.fold_in(jax.random.key(seed), 0)
    x, labels = mixture.sample(key, settings.samples + settings.paths)
    data = data_of(x[: settings.samples], labels[: settings.samples])
    model, _ = train_denoiser(
        data,
        mixture.num_components,
        LOG_SNR_RANGE,
        seed=seed,
        width=settings.width,
        recipe=Recipe(steps=settings.steps),
        cache=cache,
        progress=progress,
    )
    share = jnp.bincount(data.labels, length=mixture.num_components) / len(data.labels)
    return model, x[settings.samples :].astype(jnp.float32), jnp.log(share).astype(jnp.float32)


def points_of(
    model: Denoisers, held: Float[Array, "n d"], log_prior: Float[Array, " C"], seed: int
) -> dict[str, Estimate]:
    """`POINTS` of denoisers tracked on paths that end in clean states; NaN as `measure`."""
    low, high = LOG_SNR_RANGE
    levels = np.linspace(low, high, round((high - low) / _SPACING) + 1)
    key = jax.random.fold_in(jax.random.key(seed), 1)

    def tracked(x_0, index):
        of = jax.random.fold_in(key, index)
        states, _, rates = track(model, x_0, log_prior, jnp.asarray(levels), of, "class", False)
        start = jnp.broadcast_to(log_prior[None, None, :], (1, *states.shape[1:]))
        return jnp.concatenate([start, states]), rates

    numbers = 4 * (len(log_prior) + 1) * held.shape[1]
    states, rates = in_batches(tracked, (held,), numbers, axis=1)
    curve = _curve(levels, entropies(states.astype(float), "class"), rates.astype(float))
    if np.min(curve.entropy.value) > curve.prior_entropy / 2:
        return dict.fromkeys(POINTS, Estimate.exact(np.asarray(np.nan)))
    return read_points(curve)


def _curve(levels: np.ndarray, entropy: np.ndarray, rate: np.ndarray) -> EntropyCurve:
    """A curve from `(S, n)` of independent paths, noise first, with batches for its errors."""
    entropy, rate = entropy[::-1], rate[::-1]
    paths = entropy.shape[1] // _BATCHES * _BATCHES

    def batches(values):
        return values[:, :paths].reshape(len(values), _BATCHES, -1).mean(-1).T

    return EntropyCurve(
        levels[::-1],
        Estimate.from_samples(entropy, 1),
        Estimate.from_samples(rate, 1),
        float(entropy[-1].mean()),
        "tracking",
        Batches(batches(entropy), batches(rate)),
    )


def read_points(curve: EntropyCurve) -> dict[str, Estimate]:
    """Half-entropy point and peak of dH/dt, times of the Ornstein-Uhlenbeck process.

    The peak is NaN where the rate is largest at an end of the part that is looked at.

    Raises:
        ValueError: If the curve does not pass half of H(C), or hardly leaves one of its ends.
    """
    clock = OrnsteinUhlenbeck()
    half = curve.crossing(curve.prior_entropy / 2)
    entropy = np.asarray(curve.entropy.value) / curve.prior_entropy
    inside = np.flatnonzero((entropy > _WINDOW[0]) & (entropy < _WINDOW[1]))
    if len(inside) < 4:
        raise ValueError(f"The entropy falls within {len(inside)} levels; train for more steps.")
    clocked = curve.part(slice(inside[0], inside[-1] + 1)).on(clock)
    peak = clocked.peak(at_end=True).time
    if not clocked.times[0] < float(peak.value) < clocked.times[-1]:
        peak = Estimate.exact(np.asarray(np.nan))
    return {"half entropy": _time(half), "entropic peak": peak}


def _time(log_snr: Estimate) -> Estimate:
    """A log-SNR on the clock, with its error to first order: `t = log(1 + e^-lambda) / 2`."""
    value = np.asarray(log_snr.value)
    slope = 1 / (1 + np.exp(value)) / 2
    return Estimate(np.logaddexp(0, -value) / 2, slope * np.asarray(log_snr.stderr), log_snr.dof)


def predictions(family: str, dims: Sequence[int]) -> list[dict[str, Estimate]]:
    """`POINTS` of the exact curve at each dimension.

    Raises:
        ValueError: If the family is unknown, or a point does not exist, as in few dimensions, where not half
            of H(C) is lost.
    """
    of = pick(family, FAMILIES, "family")
    low, high = LOG_SNR_RANGE
    grid = np.linspace(high, low, round((high - low) / _SPACING) + 1)
    found = []
    for dim in dims:
        try:
            found.append(read_points(entropy_curve(of.reduced(dim), grid)))
        except ValueError as error:
            raise ValueError(
                f"{family}, d = {dim}: no speciation time; take more dimensions. {error}"
            ) from error
    return found


def slope_of(dims: Float[np.ndarray, " D"], times: Float[np.ndarray, "D S"]) -> Estimate:
    """Least-squares slope of times over log d, with the error of independent seeds.

    With weights w_d the slope is `sum_d w_d mean_s t_ds` and its variance `sum_d w_d^2 s_d^2 / S`; degrees
    of freedom by Welch 1947 and Satterthwaite 1946.
    """
    seeds = times.shape[1]
    centred = np.log(dims) - np.log(dims).mean()
    weights = centred / np.sum(centred**2)
    parts = weights**2 * times.var(1, ddof=1) / seeds
    variance = parts.sum()
    dof = (seeds - 1) * variance**2 / np.sum(parts**2) if variance > 0 else np.inf
    return Estimate(times.mean(1) @ weights, np.sqrt(variance), float(dof))
