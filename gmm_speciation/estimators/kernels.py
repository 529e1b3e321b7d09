"""Kernel density plug-in: `H = -(1/n) sum_i log p(c_i | x_i)` with Gaussian kernels in every class.

Bandwidth by Scott's rule, `h_c = s_c n_c^{-1/(d+4)}` with s_c^2 the mean variance of a coordinate inside
class c (Scott 1992). Resubstitution counts a point in its own density, which makes it look certain;
leaving it out cures that (Joe 1989; Hall & Morton 1993).
"""

from typing import ClassVar

import numpy as np
from scipy.special import logsumexp

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import LevelEstimator, check_samples


class _KernelDensity(LevelEstimator):
    reference = "Joe 1989, Ann. Inst. Stat. Math. 41; Scott 1992"
    family = "density"
    leave_out: ClassVar[bool]

    def level(self, x, labels, prior, rng):
        from sklearn.metrics.pairwise import euclidean_distances

        check_samples(x, labels, len(prior), 3)
        dim, num_classes = x.shape[1], len(prior)
        square = euclidean_distances(x.astype(float), squared=True)
        log_density = np.empty((len(x), num_classes))
        for c in range(num_classes):
            own = np.flatnonzero(labels == c)
            variance = max(float(x[own].var(0).mean()), 1e-30) * len(own) ** (-2 / (dim + 4))
            exponent = -square[:, own] / (2 * variance)
            count = np.full(len(x), float(len(own)))
            if self.leave_out:
                exponent[own, np.arange(len(own))] = -np.inf
                count[own] -= 1
            log_density[:, c] = (
                logsumexp(exponent, axis=1) - np.log(count) - dim / 2 * np.log(variance)
            )
        joint = log_density + np.log(prior)
        log_p = joint - logsumexp(joint, axis=1, keepdims=True)
        own = -log_p[np.arange(len(x)), labels]
        return Estimate.exact(np.asarray(own.mean()))


class KernelResubstitution(_KernelDensity):
    title = "kernel density, resubstitution"
    leave_out = False


class KernelLeaveOneOut(_KernelDensity):
    title = "kernel density, leave-one-out"
    leave_out = True
