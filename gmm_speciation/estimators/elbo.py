"""ELBO differences: the class posterior of a noisy state from denoising losses, without a path.

In units where the signal scale is 1 the state has noise sigma_t; more noise tau n is added,
`x' = x_t + tau n`, `sigma'^2 = sigma_t^2 + tau^2`, and the model of class c predicts
`n_c = tau (x' - D_c(x')) / sigma'^2`. With `lambda' = -log tau^2`

    log p(x_t | c) = const - (1/2) int E |n - n_c|^2 dlambda'.

True weights: this integral. Uniform weights: `-mean_t E |n - n_c|^2` over the steps of the linear DDPM
schedule, as the diffusion classifier has it (Li et al. 2023, arXiv 2303.16203); it is not calibrated.
Each noise vector is used with either sign, which takes out most of the sampling error.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Access, Estimator, Outcome, Problem
from gmm_speciation.estimators.model import Denoisers
from gmm_speciation.estimators.paths import in_batches, noisy_end
from gmm_speciation.posteriors import entropy_of
from gmm_speciation.processes import DDPM

_LEVELS = 48
_REACH = 8.0  # log-SNR beyond the levels of the problem, either way, at least


@eqx.filter_jit
def log_likelihoods(model: Denoisers, x, log_snr, added, weights, key):
    """`-(1/2) sum_j weights_j |n_j - n_c|^2`, `(n, C)`, for states with unit signal scale.

    Args:
        model: Whose denoisers.
        x: `(n, d)`, in units where the signal scale is 1.
        log_snr: Of x.
        added: `lambda'_j = -log tau_j^2`, the noise added.
        weights: Of each.
        key: Of the noise.
    """

    def add(total, inputs):
        level, weight, key = inputs
        tau2, sigma2 = jnp.exp(-level), jnp.exp(-log_snr) + jnp.exp(-level)
        signal = jax.nn.sigmoid(-jnp.log(sigma2)).astype(x.dtype)  # alpha^2 at that noise
        tau, sigma2 = jnp.sqrt(tau2).astype(x.dtype), sigma2.astype(x.dtype)
        normals = jax.random.normal(key, x.shape, x.dtype)

        def loss(n):
            noisier = x + tau * n
            denoised = model.classes(jnp.sqrt(signal) * noisier, -jnp.log(sigma2))
            predicted = tau * (noisier[:, None, :] - denoised) / sigma2
            # As a difference to the class average: no digits go to the common part.
            reference = predicted.mean(1, keepdims=True)
            return jnp.sum(
                (predicted - reference) * (predicted + reference - 2 * n[:, None, :]), -1
            )

        both = (loss(normals) + loss(-normals)) / 2
        return total - weight.astype(x.dtype) / 2 * both, None

    start = jnp.zeros((x.shape[0], model.num_classes), x.dtype)
    keys = jax.random.split(key, len(added))
    return jax.lax.scan(add, start, (added, weights, keys))[0]


class _Elbo(Estimator):
    access = Access.SCORES
    family = "denoisers"
    uniform: ClassVar[bool]

    def _rule(self, problem: Problem, log_snr: float) -> tuple[np.ndarray, np.ndarray]:
        if self.uniform:
            process = DDPM.linear()
            first, last = process.time_range
            times = np.linspace(max(first, 1.0), last, _LEVELS)
            # The loss enters with weight 1: half of it is in the sum.
            return np.asarray(process.log_snr(times)), np.full(_LEVELS, 2.0 / _LEVELS)
        # No farther apart where the noise that hides the class is far from the levels.
        span, end = log_snr - problem.log_snr[-1] + 2 * _REACH, log_snr + _REACH
        start = noisy_end(problem, _REACH)
        levels = np.linspace(start, end, int(np.ceil(_LEVELS * (end - start) / span - 1e-9)))
        weights = np.full(len(levels), levels[1] - levels[0])
        weights[[0, -1]] /= 2
        return levels, weights

    def curve(self, problem: Problem) -> Outcome:
        log_prior = jnp.log(jnp.asarray(problem.prior))
        found = []
        for level, log_snr in enumerate(problem.log_snr):
            x, _ = problem.samples(level)
            scale = float(np.sqrt(1 + np.exp(-log_snr)))  # x_t / alpha
            added, weights = (jnp.asarray(one) for one in self._rule(problem, log_snr))

            def of(
                x, index, level=level, log_snr=log_snr, added=added, weights=weights, scale=scale
            ):
                key = jax.random.fold_in(problem.key(f"level {level}"), index)
                likelihood = log_likelihoods(
                    problem.model, scale * x, jnp.asarray(log_snr), added, weights, key
                )
                joint = likelihood + log_prior.astype(x.dtype)[None, :]
                return entropy_of(jax.nn.log_softmax(joint, -1))

            found.append(in_batches(of, (x,), 6 * problem.num_classes * problem.dim))
            problem.evaluations += 2 * len(added) * len(x) * problem.num_classes
        values = np.array(found, float)
        return Outcome(Estimate.from_samples(values, 1), has_interval=True)


class ElboTrueWeights(_Elbo):
    title = "ELBO differences, true weights"
    reference = "Kong et al. 2023, arXiv 2302.03792; Li et al. 2023, arXiv 2303.16203"
    uniform = False


class ElboUniformWeights(_Elbo):
    title = "ELBO differences, uniform weights"
    reference = "Li et al. 2023, arXiv 2303.16203"
    uniform = True
