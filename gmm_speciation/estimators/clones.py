"""Clone agreement and its bounds: two reverse runs from one noisy state.

They end in one class with probability `phi = E sum_c p(c|x)^2` (Biroli et al. 2024, arXiv 2402.18491);
`sum_c p(c|y) p(c|y')` of their end states is unbiased for it. What phi says about the
entropy of any number of classes is in `collisions`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gmm_speciation.agreement import entropy_bounds
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Access, Estimator, Kind, Outcome, Problem
from gmm_speciation.estimators.model import Denoisers
from gmm_speciation.estimators.paths import in_batches, path_levels
from gmm_speciation.inference import class_posterior
from gmm_speciation.processes import variance_preserving
from gmm_speciation.tracking import reverse_kernel

_BEYOND = 3  # levels past the cleanest one of the problem, so that its clones part, too


@eqx.filter_jit
def run_back(model: Denoisers, x, levels, first, key):
    """States at the last level, from states at level `first`.

    The ancestral kernel, its denoiser averaged with the one where the step leads (Heun). With D(x) alone
    a step lacks the variance of x_0 given x, and clones agree too often by an error of first order in the
    step: 0.014 in phi at kappa = 1 and steps of 0.15.
    """
    alpha, sigma = (scale.astype(x.dtype) for scale in variance_preserving(levels))

    def step(index, x):
        noisy, cleaner = (alpha[index], sigma[index]), (alpha[index + 1], sigma[index + 1])
        denoised = model.overall(x, levels[index])
        mean, variance = reverse_kernel(x, denoised, noisy, cleaner)
        normals = jax.random.normal(jax.random.fold_in(key, index), x.shape, x.dtype)
        shift = jnp.sqrt(variance) * normals
        ahead = model.overall(mean + shift, levels[index + 1])
        return reverse_kernel(x, (denoised + ahead) / 2, noisy, cleaner)[0] + shift

    return jax.lax.fori_loop(first, len(levels) - 1, step, x)


def _agreement(problem: Problem) -> Estimate:
    levels, places = path_levels(problem.log_snr, problem.log_snr[-1] - 1e-9)
    spacing = levels[-1] - levels[-2]
    levels = np.append(levels, levels[-1] + spacing * np.arange(1, 4 * _BEYOND + 1))
    end = problem.mixture.perturb(*variance_preserving(levels[-1]))
    found = []
    for level, place in enumerate(places):
        x, _ = problem.samples(level)

        def pairs(x, index, level=level, place=place):
            key = jax.random.fold_in(problem.key(f"level {level}"), index)
            ends = [
                run_back(
                    problem.model,
                    x,
                    jnp.asarray(levels),
                    jnp.asarray(place),
                    jax.random.fold_in(key, c),
                )
                for c in (0, 1)
            ]
            p, q = (class_posterior(end, y, problem.partition) for y in ends)
            return jnp.sum(p * q, -1)

        found.append(in_batches(pairs, (x,), 4 * problem.dim))
        problem.evaluations += 4 * len(x) * (len(levels) - 1 - int(place))
    phi = Estimate.from_samples(np.array(found, float), 1)
    # No parting among n pairs does not say that none ever part: no error below 1 / n.
    stderr = np.maximum(np.asarray(phi.stderr), 1 / problem.num_samples)
    return Estimate(phi.value, stderr, phi.dof)


class _Clones(Estimator):
    reference = (
        "Biroli et al. 2024, arXiv 2402.18491; Harremoës & Topsøe 2001, IEEE Trans. IT 47(7)"
    )
    access = Access.MIXTURE
    family = "clones"

    def curve(self, problem: Problem) -> Outcome:
        lower, upper = entropy_bounds(_agreement(problem), problem.num_classes)
        return Outcome(lower if self.kind is Kind.LOWER else upper)


class ClonesLower(_Clones):
    title = "clone agreement, lower bound"
    kind = Kind.LOWER


class ClonesUpper(_Clones):
    title = "clone agreement, upper bound"
    kind = Kind.UPPER
