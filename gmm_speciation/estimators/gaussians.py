"""Gaussian classes fitted to samples: LDA and QDA with shrunk covariances, and what noise makes of them.

    S_c = (1 - rho) R_c^T R_c / n_c + rho mu I,     mu = tr(R_c^T R_c) / (n_c d)

with R_c the residuals about the class mean, of all classes together where the covariance is shared, and rho
of Ledoit & Wolf 2004. In the eigenbasis V of R^T R, of at most min(n, d) directions, it is diagonal, and
rho mu off it, so d = 4096 costs O(n^2 d). Noise known to be `alpha, sigma` makes `alpha m_c` of the mean
and `alpha^2 S_c + sigma^2 I` of the covariance: one fit to clean samples serves every level.
"""

from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax

from gmm_speciation.estimators.base import Access, check_samples
from gmm_speciation.estimators.crossfit import CrossFitted
from gmm_speciation.processes import variance_preserving


class _Covariance(NamedTuple):
    basis: Float[np.ndarray, "d r"]
    values: Float[np.ndarray, " r"]
    floor: float  # of all other directions

    @classmethod
    def shrunk(cls, residuals: Float[np.ndarray, "n d"]) -> "_Covariance":
        from sklearn.covariance import ledoit_wolf_shrinkage

        number, dim = residuals.shape
        share = float(ledoit_wolf_shrinkage(residuals, assume_centered=True))
        mean = max(float(np.mean(residuals**2)), np.finfo(float).tiny)
        if number >= dim:
            squares, basis = np.linalg.eigh(residuals.T @ residuals)
        else:
            squares, left = np.linalg.eigh(residuals @ residuals.T)
            kept = squares > 1e-12 * squares[-1]
            squares = squares[kept]
            basis = residuals.T @ left[:, kept] / np.sqrt(squares)
        # Nothing is certain in a direction that the samples do not fill.
        floor = max(share * mean, 1e-12 * mean)
        return cls(basis, np.maximum((1 - share) * squares / number, 0) + floor, floor)

    def log_density(
        self, x: Float[np.ndarray, "n d"], alpha: float, sigma: float
    ) -> Float[np.ndarray, " n"]:
        """Of a centred normal, up to its power of 2 pi."""
        dim, rank = self.basis.shape
        values, floor = alpha**2 * self.values + sigma**2, alpha**2 * self.floor + sigma**2
        along = x @ self.basis
        square = np.sum(along**2 / values, 1) + np.sum(np.log(values))
        if rank < dim:
            off = np.maximum(np.sum(x**2, 1) - np.sum(along**2, 1), 0)
            square = square + off / floor + (dim - rank) * np.log(floor)
        return -square / 2


class Gaussians:
    """Classes fitted to `x`, and their posterior under more noise."""

    def __init__(
        self,
        x: Float[np.ndarray, "n d"],
        labels: Int[np.ndarray, " n"],
        prior: Float[np.ndarray, " C"],
        shared: bool,
    ):
        x = np.asarray(x, float)
        self.log_prior = np.log(prior)
        self.means = np.stack([x[labels == c].mean(0) for c in range(len(prior))])
        residuals = x - self.means[labels]
        groups = [residuals] if shared else [residuals[labels == c] for c in range(len(prior))]
        self.covariances = [_Covariance.shrunk(group) for group in groups]

    def log_posterior(
        self, x: Float[np.ndarray, "n d"], alpha: float = 1.0, sigma: float = 0.0
    ) -> Float[np.ndarray, "n C"]:
        number = len(self.means)
        covariances = self.covariances * (number if len(self.covariances) == 1 else 1)
        densities = [
            covariance.log_density(x - alpha * mean, alpha, sigma)
            for mean, covariance in zip(self.means, covariances, strict=True)
        ]
        return log_softmax(np.stack(densities, 1) + self.log_prior, 1)


class _Discriminant(CrossFitted):
    family = "plug-in"
    plug_in = True
    shared: ClassVar[bool]

    def fit(self, train, prior, rng, draws):
        return Gaussians(*train, prior, self.shared).log_posterior


class _KnownNoise(_Discriminant):
    access = Access.CLEAN

    def fitted(self, problem, fold):
        x, labels = problem.clean()
        outside = problem.folds(labels) != fold
        x, labels = np.asarray(x)[outside], labels[outside]
        check_samples(x, labels, problem.num_classes)
        classes = Gaussians(x, labels, problem.prior, self.shared)

        def values(level, x):
            scales = variance_preserving(problem.log_snr[level])
            return classes.log_posterior(x, *map(float, scales))

        return values


_SOURCE = "Fisher 1936; Ledoit & Wolf 2004, J. Multivar. Anal. 88(2)"


class LinearDiscriminant(_Discriminant):
    title, reference, shared = "LDA plug-in, shrunk", _SOURCE, True


class QuadraticDiscriminant(_Discriminant):
    title, reference, shared = "QDA plug-in, shrunk", _SOURCE, False


class LinearDiscriminantKnownNoise(_KnownNoise):
    title, reference, shared = "LDA plug-in of clean samples, noise added", _SOURCE, True


class QuadraticDiscriminantKnownNoise(_KnownNoise):
    title, reference, shared = "QDA plug-in of clean samples, noise added", _SOURCE, False
