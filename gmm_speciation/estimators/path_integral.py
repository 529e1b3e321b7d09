"""I-MMSE path integral: `H(C | X_lambda) = H(C) - int_{-inf}^lambda (-dH/dlambda') dlambda'`.

Two forms of the rate, both `(gamma / 2) E |D_C - D|^2` at log-SNR `lambda = log gamma`:

    posterior variance   sum_c p(c|x) |D_c - D|^2, the mean over the class given x: needs the posterior
    sampled class        |D_C - D|^2 with the class that made x: needs both denoisers and the label

Guo, Shamai & Verdu 2005; Kong et al. 2023 (arXiv 2302.03792). One noise vector serves all levels of a
sample, so each sample has an integral of its own, and their mean an honest standard error; the
trapezoid over steps of the path leaves the bias.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Access, Estimator, Outcome, Problem
from gmm_speciation.estimators.model import Denoisers
from gmm_speciation.estimators.paths import in_batches, noisy_end, path_levels
from gmm_speciation.inference import score_spread
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import variance_preserving


@eqx.filter_jit
def posterior_rates(mixture: GaussianMixture, partition: Partition, x_0, noise, levels):
    """`(S, n)`: `(sigma^2 / 2) sum_c p(c|x) |s_c - s|^2`, which is the posterior-variance form."""

    def at(log_snr):
        alpha, sigma = (scale.astype(x_0.dtype) for scale in variance_preserving(log_snr))
        noisy = mixture.perturb(alpha, sigma)
        return sigma**2 / 2 * score_spread(noisy, alpha * x_0 + sigma * noise, partition)

    return jax.lax.map(at, levels)


@eqx.filter_jit
def sampled_class_rates(model: Denoisers, x_0, labels, noise, levels):
    """`(S, n)`: `(gamma / 2) |D_C - D|^2` with the class C of each sample."""

    def at(log_snr):
        alpha, sigma = (scale.astype(x_0.dtype) for scale in variance_preserving(log_snr))
        x = alpha * x_0 + sigma * noise
        gap = model.own(x, log_snr, labels) - model.overall(x, log_snr)
        return jnp.exp(log_snr).astype(x.dtype) / 2 * jnp.sum(gap**2, -1)

    return jax.lax.map(at, levels)


def integrate(rates: np.ndarray, levels: np.ndarray, places, prior_entropy: float) -> Outcome:
    """The curve from rates `(S, n)` of every sample on a path from noise to signal."""
    steps = np.diff(levels)[:, None] * (rates[1:] + rates[:-1]) / 2
    # Beyond the noisy end the rate falls like e^lambda, whose integral is its last value.
    gained = np.concatenate([0 * rates[:1], np.cumsum(steps, 0)]) + rates[:1]
    entropy = prior_entropy - gained[places]
    return Outcome(Estimate.from_samples(entropy, 1), Estimate.from_samples(rates[places], 1), True)


class PosteriorVariance(Estimator):
    title = "I-MMSE path integral, posterior variance"
    reference = "Guo, Shamai & Verdú 2005, IEEE Trans. Inf. Theory 51(4)"
    access = Access.MIXTURE
    family = "denoisers"

    def curve(self, problem: Problem) -> Outcome:
        levels, places = path_levels(problem.log_snr, noisy_end(problem))
        x_0, _ = problem.clean()
        noise = jax.random.normal(problem.key("noise"), x_0.shape, x_0.dtype)

        def rates(x_0, noise, index):
            return posterior_rates(
                problem.mixture, problem.partition, x_0, noise, jnp.asarray(levels)
            )

        found = in_batches(rates, (x_0, noise), 4 * problem.dim, axis=1)
        problem.evaluations += found.size * (problem.num_classes + 1)
        return integrate(found.astype(float), levels, places, problem.prior_entropy)


class SampledClass(Estimator):
    title = "I-MMSE path integral, sampled class"
    reference = "Guo, Shamai & Verdú 2005; Kong et al. 2024, arXiv 2310.07972"
    access = Access.SCORES
    family = "denoisers"

    def curve(self, problem: Problem) -> Outcome:
        levels, places = path_levels(problem.log_snr, noisy_end(problem))
        x_0, labels = problem.clean()
        noise = jax.random.normal(problem.key("noise"), x_0.shape, x_0.dtype)

        def rates(x_0, labels, noise, index):
            return sampled_class_rates(problem.model, x_0, labels, noise, jnp.asarray(levels))

        found = in_batches(rates, (x_0, jnp.asarray(labels), noise), 6 * problem.dim, axis=1)
        problem.evaluations += 2 * found.size
        return integrate(found.astype(float), levels, places, problem.prior_entropy)
