"""Bounds on H(C|X) from the Bayes error `e = E[1 - max_c p(c|X)]`, by the closed-form posterior.

    Fano (Cover & Thomas 2006, Theorem 2.10.1):   H <= h(e) + e log(C - 1)
    Hellman & Raviv 1970 (Eq. 20):                H >= 2 e log 2,  H / 2 in bits >= e

The error is sampled; bounds of a sampled error carry its standard error to first order.
"""

import jax.numpy as jnp
import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Access, Estimator, Kind, Outcome, Problem
from gmm_speciation.inference import log_class_posterior
from gmm_speciation.processes import variance_preserving


def _bayes_error(problem: Problem) -> Estimate:
    errors = []
    for level, log_snr in enumerate(problem.log_snr):
        x, _ = problem.samples(level)
        noisy = problem.mixture.perturb(*variance_preserving(log_snr))
        log_p = log_class_posterior(noisy, x, problem.partition)
        problem.evaluations += log_p.size
        errors.append(1 - np.exp(np.asarray(jnp.max(log_p, -1), float)))
    return Estimate.from_samples(np.array(errors), 1)


class Fano(Estimator):
    title = "Fano, from the Bayes error"
    reference = "Cover & Thomas 2006, Theorem 2.10.1"
    access = Access.MIXTURE
    kind = Kind.UPPER
    family = "bounds"

    def curve(self, problem: Problem) -> Outcome:
        error = _bayes_error(problem)
        e = np.clip(np.asarray(error.value), 1e-300, 1 - 1e-15)
        others = np.log(max(problem.num_classes - 1, 1))
        value = -e * np.log(e) - (1 - e) * np.log1p(-e) + e * others
        slope = np.abs(np.log1p(-e) - np.log(e) + others)
        return Outcome(Estimate(value, slope * np.asarray(error.stderr), error.dof))


class HellmanRaviv(Estimator):
    title = "Hellman-Raviv, from the Bayes error"
    reference = "Hellman & Raviv 1970, IEEE Trans. Inf. Theory 16(4)"
    access = Access.MIXTURE
    kind = Kind.LOWER
    family = "bounds"

    def curve(self, problem: Problem) -> Outcome:
        error = _bayes_error(problem)
        scale = 2 * np.log(2)
        return Outcome(
            Estimate(scale * np.asarray(error.value), scale * np.asarray(error.stderr), error.dof)
        )
