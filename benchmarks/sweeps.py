"""Whole curves: from given samples, from the reduced statistic, from exact integrals; variances."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from cases import Row, Sizes, data, dtypes, isotropic
from timing import Measured, alone, paired

import gmm_speciation as gs

SECTION = "curves"
VARIANCE = "variance"
_LARGEST_ERROR = 1e-3  # standard error that a reduced curve must reach, nats


def _grid(num_points: int) -> np.ndarray:
    """Noise levels over the transition of the mixtures of `cases`: signal to noise."""
    return np.linspace(6.0, -6.0, num_points)


def _reduced(dim: int):
    """Ten components, two groups of five, never built in d dimensions; no integral is known."""
    mixture, _ = gs.families.hierarchy([2, 5], [6.0, 3.0], dim, reduced=True)
    return mixture


def _enough_samples(mixture, grid) -> tuple[int, float]:
    """The smallest power of two that reaches `_LARGEST_ERROR` on the whole grid, and its error."""
    for exponent in range(11, 21):
        curve = gs.entropy_curve(mixture, grid, num_samples=2**exponent)
        worst = max(float(jnp.max(e.stderr)) for e in (curve.entropy, curve.rate))
        if worst < _LARGEST_ERROR:
            return 2**exponent, worst
    raise ValueError(f"The standard error is {worst:.1e} at {2**exponent} samples.")


def rows(sizes: Sizes) -> Iterator[Row]:
    """The rows of this subject."""
    effort = sizes.effort

    def from_samples(dtype: type) -> Measured:
        x = data(sizes.num_samples, sizes.large_dim, dtype)
        mixture = isotropic(10, sizes.large_dim, dtype)
        grid: np.ndarray = _grid(64).astype(dtype)
        curve = lambda: gs.entropy_curve(mixture, grid, samples=x).entropy.value  # noqa: E731
        return paired(curve, lambda: mixture.posterior(x), effort)

    def reduced_curve(dim: int):
        mixture, grid = _reduced(dim), _grid(128)
        num_samples, error = _enough_samples(mixture, grid)
        detail = f"{num_samples} samples, largest standard error {error:.1e}"
        return lambda: gs.entropy_curve(mixture, grid, num_samples=num_samples), detail

    def reduced(dim: int) -> Measured:
        curve, detail = reduced_curve(dim)
        return replace(alone(curve, effort), detail=detail)

    def both_dimensions() -> Measured:
        return paired(reduced_curve(10**12)[0], reduced_curve(10**6)[0], effort)

    def equidistant() -> Measured:
        s = jnp.geomspace(0.1, 4 * np.log(sizes.num_classes), 256)
        entropy = jax.jit(lambda s: gs.exact.equidistant_entropy(sizes.num_classes, s))
        return alone(lambda: entropy(s), effort)

    def variance_ratio(num_classes: int) -> Measured:
        mixture = gs.families.equidistant(num_classes, num_classes - 1, 3.0)
        laws: dict[str, gs.GaussianMixture | gs.ReducedMixture] = {
            "monte-carlo": mixture,
            "quasi-monte-carlo": gs.reduce(mixture),
        }
        grid = np.linspace(3.0, -4.0, 9)
        values = {
            method: np.array(
                [
                    gs.entropy_curve(
                        law,
                        grid,
                        method=method,
                        num_samples=sizes.num_samples,
                        key=jax.random.key(seed),
                    ).entropy.value
                    for seed in range(sizes.seeds)
                ]
            )
            for method, law in laws.items()
        }
        share = values["quasi-monte-carlo"].mean(0) / np.log(num_classes)
        within = (share > 0.1) & (share < 0.9)  # outside there is little left to average
        plain, quasi = (v[:, within].var(0, ddof=1) for v in values.values())
        detail = f"{within.sum()} noise levels, {sizes.seeds} seeds each"
        return Measured.of(plain / quasi, detail=detail)

    for dtype in dtypes():
        yield Row(
            SECTION,
            f"64-point curve from n given samples, d = {sizes.large_dim}, {dtype.__name__}",
            "K = 10",
            partial(from_samples, dtype),
            against="posterior at one noise level",
            target=2.0,
        )
    work = "128-point curve with rate, reduced, standard error < 1e-3, K = 10"
    for power in (6, 12):
        yield Row(
            SECTION, work, f"d = 1e{power}", partial(reduced, 10**power), target=1.0, unit="s"
        )
    yield Row(
        SECTION,
        work,
        "d = 1e12",
        both_dimensions,
        against="d = 1e6",
        target=1.15,
    )
    yield Row(
        SECTION,
        "equidistant classes, 256 points, exact",
        f"K = {sizes.num_classes:.0e}".replace("e+0", "e"),
        equidistant,
        target=1.0,
        unit="s",
    )
    for k in (2, 4, 10):
        yield Row(
            VARIANCE,
            f"variance of the entropy, n = {sizes.num_samples} draws a curve",
            f"K = {k}",
            partial(variance_ratio, k),
            against="plain Monte Carlo over quasi-Monte Carlo",
            target=10.0,
            at_least=True,
            reason="a sixteenth of the draws in each scramble is few for K - 1 dimensions; the ratio "
            "grows with n",
        )
