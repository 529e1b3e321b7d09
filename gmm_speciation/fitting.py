"""Mixtures from labelled data: one Gaussian a class.

Means and covariances are the class averages, of points that may count more than once. A covariance
of d dimensions from few points is singular; it is shrunk towards the isotropic one of the same trace,

    Sigma_c(rho) = (1 - rho) S_c + rho (tr S_c / d) I     (Ledoit & Wolf 2004, linear shrinkage),

and rho is the one that gives held-out points the highest likelihood under the mixture: k-fold
cross-validation inside the data at hand. A low-rank covariance keeps the r leading directions of S_c and
the mean variance v of the rest: `U (Lambda - v I) U^T + v I`, the maximum-likelihood probabilistic
principal components (Tipping & Bishop 1999, eqs. 7 and 8).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.checks import ArrayLike, as_numpy, as_reals, check_labels, require
from gmm_speciation.covariances import Full
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.parameters import finite_means, shared_if_equal

KINDS = ("isotropic", "diagonal", "full", "low-rank")
SHRINKAGES = np.array([0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])


def fit(
    x: ArrayLike,
    labels: ArrayLike,
    covariance: str = "full",
    *,
    sample_weight: ArrayLike | None = None,
    shrinkage: float | str = 0.0,
    shared: bool = False,
    rank: int | None = None,
    seed: int = 0,
) -> GaussianMixture:
    """Mixture of one Gaussian per class, weights the class frequencies.

    Args:
        x: Points, `(n, d)`.
        labels: Class of each, integers `0 .. C-1`, shape `(n,)`.
        covariance: "isotropic", "diagonal", "full" or "low-rank" (maximum likelihood: divided by the
            count).
        sample_weight: How often each point counts, `(n,)`, not negative; only ratios matter. Whole numbers
            are that many copies of the point, 0 is none. Each point counts once by default.
        shrinkage: rho in [0, 1], not for isotropic, or "cross-validated" (see `best_shrinkage`).
        shared: One pooled within-class covariance for all classes.
        rank: Of a low-rank covariance, r < d: leading directions that keep a variance of their own.
        seed: Of the folds.

    Raises:
        ValueError: If shapes disagree, data or weights are not finite, a weight is negative, a class is empty
            or has a single point where its own covariance is asked for, it has too few for
            cross-validation, or an option is unknown.
    """
    x, labels, counts = _checked(x, labels, sample_weight)
    _check_kind(covariance, rank, x.shape[1])
    if shrinkage == "cross-validated":
        rho, _ = best_shrinkage(
            x, labels, covariance, sample_weight=counts, shared=shared, rank=rank, seed=seed
        )
    elif isinstance(shrinkage, str) or not 0 <= shrinkage <= 1:
        raise ValueError(
            f"`shrinkage` must lie in [0, 1] or be 'cross-validated'; got {shrinkage}."
        )
    else:
        rho = float(shrinkage)
    return Scatter.of(x, labels, counts, shared).mixture(covariance, rho, rank)


@dataclass(frozen=True, eq=False)
class Scatter:
    """What every fit to the same points starts from: means, weights, residuals R_c with `S_c = R_c^T R_c`.

    Each S_c is factorised once, for all shrinkages and ranks; one group of residuals is that of all classes.
    Of points with further features that vary nowhere, `dim` counts these, too: a trace is shared by all.
    """

    means: Float[np.ndarray, "C d"]
    weights: Float[np.ndarray, " C"]
    residuals: list[Float[np.ndarray, "_ d"]]
    dim: int

    @classmethod
    def of(
        cls,
        x: Float[np.ndarray, "n d"],
        labels: Int[np.ndarray, " n"],
        counts: Float[np.ndarray, " n"],
        shared: bool = False,
        dim: int | None = None,
    ) -> "Scatter":
        """Of points that count `counts` times, summed in float64. Errors as `fit`."""
        totals = np.bincount(labels, counts)
        of_class = [labels == c for c in range(len(totals))]
        means = np.stack([np.average(x[own], 0, counts[own]) for own in of_class]).astype(x.dtype)
        share = counts / (totals.sum() if shared else totals[labels])
        residuals = (x - means[labels]) * np.sqrt(share).astype(x.dtype)[:, None]
        groups = [residuals] if shared else [residuals[own] for own in of_class]
        if min(len(group) for group in groups) < 2:
            raise ValueError(
                "A class with a single point has no covariance; use `shared=True` or drop the class."
            )
        return cls(means, totals / totals.sum(), groups, dim or x.shape[1])

    @cached_property
    def _complete(self) -> list[tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]]:
        """Eigenvalues, increasing, and eigenvectors as columns."""
        return [np.linalg.eigh((r := group.astype(float)).T @ r) for group in self.residuals]

    @cached_property
    def _leading(self) -> list[tuple[Float[np.ndarray, " m"], Float[np.ndarray, "d m"]]]:
        """The same, decreasing, of those that are not 0; no d x d array where points are fewer."""
        count, dim = max(map(len, self.residuals)), self.means.shape[1]
        if count >= dim:
            return [(values[::-1].clip(0), axes[:, ::-1]) for values, axes in self._complete]
        parts = [np.linalg.svd(group, full_matrices=False) for group in self.residuals]
        return [(singular**2, axes.T) for _, singular, axes in parts]

    def mixture(
        self, covariance: str, rho: float = 0.0, rank: int | None = None
    ) -> GaussianMixture:
        """The fit of one kind, shrinkage and rank. Arguments as `fit`."""
        means, dim = self.means, self.dim

        def each(parts: Sequence[Any]) -> Any:
            stack = np.stack(parts).astype(means.dtype)
            return stack[0] if len(stack) < len(means) else stack

        if covariance == "low-rank":
            assert rank is not None  # `_check_kind`
            squares = [np.sum(group**2, dtype=float) for group in self.residuals]
            found = [
                _principal(values, axes, total, dim, rank, rho)
                for (values, axes), total in zip(self._leading, squares, strict=True)
            ]
            factors, variance = zip(*found, strict=True)
            return GaussianMixture.low_rank(means, each(factors), each(variance), self.weights)
        if covariance == "full":
            # Eigenvectors as columns, and below each its eigenvalue.
            rows = [
                np.vstack([axes, (1 - rho) * values.clip(0) + rho * values.sum() / dim])
                for values, axes in self._complete
            ]
            stack = np.asarray(shared_if_equal(np.stack(rows).astype(means.dtype)))
            family = Full(jnp.asarray(stack[:, -1]), jnp.asarray(stack[:, :-1]))
            return GaussianMixture.of(finite_means(means), self.weights, family)
        variances = [np.sum(group**2, 0, dtype=float) for group in self.residuals]
        if covariance == "isotropic":
            average = each([v.sum() / dim for v in variances])
            return GaussianMixture.isotropic(means, average, self.weights)
        shrunk = [(1 - rho) * v + rho * v.sum() / dim for v in variances]
        return GaussianMixture.diagonal(means, each(shrunk), self.weights)


def best_shrinkage(
    x: ArrayLike,
    labels: ArrayLike,
    covariance: str = "full",
    *,
    sample_weight: ArrayLike | None = None,
    shared: bool = False,
    rank: int | None = None,
    num_folds: int = 5,
    seed: int = 0,
) -> tuple[float, Float[np.ndarray, " R"]]:
    """The rho of `SHRINKAGES` with the highest held-out log-likelihood, and the mean of each in nats.

    Arguments and errors as `fit`; a point of any weight lies in one of the `num_folds` folds, at least two.
    Features that are the same for all points are left out of the likelihood: it grows there without bound as
    rho falls, and says nothing of the rest.
    """
    if num_folds < 2:
        raise ValueError(
            f"`num_folds` must be at least 2, one held out at a time; got {num_folds}."
        )
    x, labels, counts = _checked(x, labels, sample_weight)
    _check_kind(covariance, rank, x.shape[1])
    _check_folds(labels, num_folds, 1 if shared else 2)
    dim, varies = x.shape[1], np.ptp(x, axis=0) > 0
    x = x[:, varies] if np.count_nonzero(varies) > (rank or 0) else x
    fold = dealt(labels, num_folds, seed)
    scores = np.empty((num_folds, len(SHRINKAGES)))
    for f in range(num_folds):
        train, held_out = fold != f, fold == f
        scatter = Scatter.of(x[train], labels[train], counts[train], shared, dim)
        for i, rho in enumerate(SHRINKAGES):
            model = scatter.mixture(covariance, float(rho), rank)
            log_prob = np.asarray(model.log_prob(jnp.asarray(x[held_out])), float)
            scores[f, i] = log_prob @ counts[held_out] / counts.sum()
    mean = scores.sum(0)
    return float(SHRINKAGES[int(np.argmax(mean))]), mean


def dealt(labels: Int[np.ndarray, " n"], num_parts: int, seed: int = 0) -> Int[np.ndarray, " n"]:
    """A part `0 .. num_parts - 1` of every point, dealt class by class.

    A class of two points or more is not empty without one of two parts or more; one of a single point is.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    part = np.empty(len(labels), int)
    part[order] = np.arange(len(labels)) % num_parts
    return part


def _check_folds(labels: Int[np.ndarray, " n"], num_folds: int, least: int) -> None:
    """Refuse a class of which fewer than `least` points may be left outside of a fold."""
    counts = np.bincount(labels)
    left = counts - -(-counts // num_folds)
    if left.min() < least:
        fewest = int(np.argmin(left))
        raise ValueError(
            f"Cross-validation with {num_folds} folds fits every class to what is outside of a fold, "
            f"{least} or more points of it; class {fewest} has {counts[fewest]} in all. Give `shrinkage` as "
            "a number in [0, 1], or more points, or drop the class."
        )


def _principal(
    values: Float[np.ndarray, " m"],
    axes: Float[np.ndarray, "d m"],
    total: float,
    dim: int,
    rank: int,
    rho: float,
) -> tuple[Float[np.ndarray, "d r"], float]:
    """Factor and variance of `F F^T + v I` for the shrunk covariance of these eigenvalues and trace."""
    kept = min(rank, len(values))
    leading = values[:kept]
    variance = (1 - rho) * max(total - leading.sum(), 0.0) / (dim - kept) + rho * total / dim
    excess = (1 - rho) * leading + rho * total / dim - variance
    factor = np.zeros((len(axes), rank))
    factor[:, :kept] = axes[:, :kept] * np.sqrt(np.maximum(excess, 0.0))
    return factor, variance


def _check_kind(covariance: str, rank: int | None, dim: int) -> None:
    if covariance not in KINDS:
        raise ValueError(
            f"`covariance` must be 'isotropic', 'diagonal', 'full' or 'low-rank'; got {covariance!r}."
        )
    if (covariance == "low-rank") != (rank is not None):
        raise ValueError("`rank` and `covariance='low-rank'` go together; give both or neither.")
    if rank is not None and not 0 <= rank < dim:
        raise ValueError(f"`rank` must lie in 0..{dim - 1}, below the dimension; got {rank}.")


def _checked(
    x: ArrayLike, labels: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Points, labels and counts; points that count nothing are left out."""
    x, labels = as_reals(x, "x"), as_numpy(labels, "labels")
    x = x if x.dtype == np.float32 else x.astype(float)
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise ValueError(
            f"`x` must be (n, d) with one label a point; got {x.shape} and {labels.shape}."
        )
    if not np.isfinite(x).all():
        raise ValueError("`x` must be finite; drop or impute the points with NaN or infinity.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`labels` must be integers 0..C-1; got dtype {labels.dtype}.")
    counts = np.ones(len(x)) if sample_weight is None else as_reals(sample_weight, "sample_weight")
    if counts.shape != labels.shape:
        raise ValueError(
            f"`sample_weight` must be one number a point, {labels.shape}; got {counts.shape}."
        )
    counts = require(
        counts.astype(float),
        np.isfinite(counts) & (counts >= 0),
        "`sample_weight` must be finite and not negative; a point of weight 0 is left out.",
    )
    check_labels(labels, "`labels` must be 0..C-1 without gaps.")
    present = np.bincount(labels, counts > 0)
    if (present == 0).any():
        raise ValueError(
            f"Class {int(np.argmin(present))} is empty: all its points have weight 0; a point of each class "
            "must count."
        )
    used = counts > 0
    return x[used], labels[used], counts[used] / counts.max()  # their sum must not overflow
