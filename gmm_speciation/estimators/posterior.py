"""Estimators that know the posterior: the reference for all others.

entropy form   mean of -sum_c p(c|x) log p(c|x):   the conditional expectation given X
plug-in form   mean of -log p(c_i|x_i):            unbiased too, of larger variance
reduction      quasi-Monte Carlo on the statistic that the posterior depends on
"""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from gmm_speciation.entropy import level_statistics
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Access, Estimator, NotApplicableError, Outcome, Problem
from gmm_speciation.inference import log_class_posterior, score_spread
from gmm_speciation.posteriors import entropy_of
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reduction import NotReducibleError, reduce
from gmm_speciation.sampling.quasi_monte_carlo import MAX_NORMALS, NUM_SCRAMBLES


class _Posterior(Estimator):
    access = Access.MIXTURE
    family = "closed form"
    by_label: ClassVar[bool]

    def curve(self, problem: Problem) -> Outcome:
        entropies, rates = [], []
        for level, log_snr in enumerate(problem.log_snr):
            x, labels = problem.samples(level)
            alpha, sigma = variance_preserving(log_snr)
            noisy = problem.mixture.perturb(alpha, sigma)
            log_p = log_class_posterior(noisy, x, problem.partition)
            problem.evaluations += log_p.size
            if self.by_label:
                own = jnp.take_along_axis(log_p, jnp.asarray(labels)[:, None], 1)[:, 0]
                entropies.append(-np.asarray(own, float))
                continue
            entropies.append(np.asarray(entropy_of(log_p), float))
            spread = score_spread(noisy, x, problem.partition)
            rates.append(float(sigma) ** 2 / 2 * np.asarray(spread, float))
        rate = Estimate.from_samples(np.array(rates), 1) if rates else None
        return Outcome(Estimate.from_samples(np.array(entropies), 1), rate, has_interval=True)


class PosteriorEntropy(_Posterior):
    title = "closed-form posterior, entropy form"
    reference = "definition"
    by_label = False


class PosteriorPlugIn(_Posterior):
    title = "closed-form posterior, plug-in form"
    reference = "definition"
    by_label = True


class QuasiMonteCarlo(Estimator):
    title = "quasi-Monte Carlo on the reduction"
    reference = "Owen 1998, ACM TOMACS 8(1)"
    access = Access.MIXTURE
    family = "closed form"

    def curve(self, problem: Problem) -> Outcome:
        try:
            reduced = reduce(problem.mixture)
        except NotReducibleError as error:
            raise NotApplicableError(str(error)) from error
        if reduced.num_normals > MAX_NORMALS:
            raise NotApplicableError(
                f"the statistic has {reduced.num_normals} dimensions, Sobol points at most {MAX_NORMALS}"
            )
        number = max(problem.num_samples, 2 * NUM_SCRAMBLES)
        levels, _ = level_statistics(
            reduced,
            jnp.asarray(problem.log_snr),
            partition=problem.partition,
            method="quasi-monte-carlo",
            num_samples=number,
            key=problem.key("scrambles"),
        )
        problem.evaluations += number * problem.num_classes * len(problem.log_snr)
        return Outcome(levels.estimate("entropy"), levels.estimate("rate"), has_interval=True)
