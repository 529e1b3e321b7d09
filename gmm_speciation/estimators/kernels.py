"""Kernel density plug-in: `H = -(1/n) sum_i log p(c_i | x_i)` with Gaussian kernels in every class.

Bandwidth by Scott's rule, `h_c = s_c n_c^{-1/(d+4)}` with s_c^2 the mean variance of a coordinate inside
class c (Scott 1992). Resubstitution counts a point in its own density, which makes it look certain;
leaving it out cures that (Joe 1989; Hall & Morton 1993).
"""

from typing import ClassVar

import numpy as np
from scipy.special import logsumexp

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import CHUNK_MIB, LevelEstimator, check_samples


class _KernelDensity(LevelEstimator):
    reference = "Joe 1989, Ann. Inst. Stat. Math. 41; Scott 1992"
    family = "density"
    leave_out: ClassVar[bool]

    def level(self, x, labels, prior, rng):
        from sklearn.metrics import pairwise_distances_chunked

        check_samples(x, labels, len(prior), 3)
        order = np.argsort(labels, kind="stable")
        x, labels = x[order] - x.mean(0, dtype=float), labels[order]
        dim, counts = x.shape[1], np.bincount(labels, minlength=len(prior))
        starts = np.cumsum(counts) - counts
        variance = np.stack([np.var(x[labels == c], 0).mean() for c in range(len(prior))])
        variance = np.maximum(variance, 1e-30) * counts ** (-2 / (dim + 4))

        def log_densities(square: np.ndarray, start: int) -> np.ndarray:
            rows = np.arange(len(square))
            exponent = np.multiply(square, (-0.5 / variance)[labels], out=square)
            if self.leave_out:
                exponent[rows, start + rows] = -np.inf
            largest = np.maximum.reduceat(exponent, starts, 1)
            exponent -= np.repeat(largest, counts, 1)
            return largest + np.log(np.add.reduceat(np.exp(exponent, out=exponent), starts, 1))

        chunks = pairwise_distances_chunked(
            x,
            reduce_func=log_densities,
            metric="euclidean",
            squared=True,
            working_memory=CHUNK_MIB,
        )
        others = counts - np.eye(len(prior))[labels] * self.leave_out
        joint = np.concatenate(list(chunks)) - np.log(others) - dim / 2 * np.log(variance)
        joint += np.log(prior)
        own = logsumexp(joint, axis=1) - joint[np.arange(len(x)), labels]
        return Estimate.exact(np.asarray(own.mean()))


class KernelResubstitution(_KernelDensity):
    title = "kernel density, resubstitution"
    leave_out = False


class KernelLeaveOneOut(_KernelDensity):
    title = "kernel density, leave-one-out"
    leave_out = True
