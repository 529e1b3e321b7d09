"""Tracking: the class posterior along a path of the reverse chain, and three ways to read it.

A path that ends in a data point is a path of the reverse chain: given x_t and x_0 the next state is
drawn from the same kernel with x_0 in place of the denoiser. Along it, with kernel means mu_c of each
class and mu_u of the unconditional model, and variance v (see `gmm_speciation.tracking`),

    class against class     log p_c += -|x' - mu_c|^2 / 2v, normalised; starts at the prior
    ratio to unconditional  log p_c += -(|x' - mu_c|^2 - |x' - mu_u|^2) / 2v; starts at the prior
    forced prior            p_c = sigmoid(l_c) with the same increments of l; starts at 1/2

and H = E[-sum_c p_c log p_c] with p as it is (the ratio is not normalised and may exceed 1), or the
binary entropy of p_c averaged over two classes for the forced prior. The clamped forms keep p within
[0.001, 0.8] at every step, as dynamic negative guidance does for its upper end (Koulischer et al. 2025).
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Access, Estimator, NotApplicableError, Outcome, Problem
from gmm_speciation.estimators.model import Denoisers
from gmm_speciation.estimators.paths import in_batches, noisy_end, path_levels
from gmm_speciation.processes import variance_preserving
from gmm_speciation.tracking import log_likelihood_update, reverse_kernel

CLAMP = (1e-3, 0.8)


@eqx.filter_jit
def track(model: Denoisers, x_0, log_prior, levels, key, read_out: str, clamp: bool):
    """Tracked log-probabilities (log-odds for the forced prior) after every step, `(S - 1, n, C)`, and
    the states `(n, d)` at the last level, and `(gamma / 2) sum_c p_c |D_c - sum_c p_c D_c|^2` with the
    tracked posterior at every level, `(S, n)`: the rate -dH/dlambda of the model itself. The rates are
    zero for read-outs that are no posterior.

    Args:
        model: Whose denoisers.
        x_0: Where the paths end, `(n, d)`.
        log_prior: `(C,)`.
        levels: Log-SNR from noise to signal, `(S,)`.
        key: Of the paths.
        read_out: "class", "ratio" or "forced".
        clamp: Whether p is kept within `CLAMP`.
    """
    key_start, key_path = jax.random.split(key)
    alpha, sigma = (scale.astype(x_0.dtype) for scale in variance_preserving(levels))
    x = alpha[0] * x_0 + sigma[0] * jax.random.normal(key_start, x_0.shape, x_0.dtype)
    start = jnp.zeros_like(log_prior) if read_out == "forced" else log_prior
    state = jnp.broadcast_to(start[None, :], (len(x_0), len(log_prior))).astype(x_0.dtype)
    low, high = (jnp.log(bound) for bound in CLAMP)
    if read_out == "forced":
        low, high = (jnp.log(bound) - jnp.log1p(-bound) for bound in CLAMP)

    def step(carry, index):
        x, state = carry
        noisy, cleaner = (alpha[index], sigma[index]), (alpha[index + 1], sigma[index + 1])
        denoised = model.classes(x, levels[index])
        if read_out != "class":
            overall = model.overall(x, levels[index])
            denoised = jnp.concatenate([denoised, overall[:, None, :]], 1)
        rate = bayes_gap(denoised, state, levels[index]) if read_out == "class" else 0 * state[:, 0]
        mean, variance = reverse_kernel(x, x_0, noisy, cleaner)
        normals = jax.random.normal(jax.random.fold_in(key_path, index), x.shape, x.dtype)
        x_next = mean + jnp.sqrt(variance) * normals
        means, _ = reverse_kernel(x[:, None, :], denoised, noisy, cleaner)
        update = log_likelihood_update(x_next, jnp.moveaxis(means, 1, 0), variance).T
        if read_out != "class":
            update = update[:, :-1] - update[:, -1:]
        state = state + update
        if read_out == "class":
            state = jax.nn.log_softmax(state, -1)
        if clamp:
            state = jnp.clip(state, low, high)
        return (x_next, state), (state, rate)

    (x, state), (states, rates) = jax.lax.scan(step, (x, state), jnp.arange(len(levels) - 1))
    last = 0 * state[:, 0]
    if read_out == "class":
        last = bayes_gap(model.classes(x, levels[-1]), state, levels[-1])
    return states, x, jnp.concatenate([rates, last[None]])


def bayes_gap(denoised, log_p, log_snr):
    """`(gamma / 2) sum_c p_c |D_c - sum_c p_c D_c|^2`, `(n,)`."""
    p = jnp.exp(log_p)
    mean = jnp.einsum("nc,ncd->nd", p, denoised, precision="highest")
    gap = jnp.sum(p * jnp.sum((denoised - mean[:, None, :]) ** 2, -1), -1)
    return jnp.exp(log_snr).astype(gap.dtype) / 2 * gap


def entropies(state: np.ndarray, read_out: str) -> np.ndarray:
    """Entropy of every tracked state, nats; the last axis is the class."""
    if read_out == "forced":
        log_p, log_rest = -np.logaddexp(0, -state), -np.logaddexp(0, state)
        return -(np.exp(log_p) * log_p + np.exp(log_rest) * log_rest).mean(-1)
    log_p = np.maximum(state, -700.0)
    return -np.sum(np.exp(log_p) * log_p, -1)


class _Tracking(Estimator):
    reference = "Koulischer et al. 2025, arXiv 2410.14398"
    access = Access.SCORES
    family = "tracking"
    read_out: ClassVar[str]
    clamp: ClassVar[bool] = False

    def model_of(self, problem: Problem) -> Denoisers:
        """Whose denoisers are tracked."""
        return problem.model

    def curve(self, problem: Problem) -> Outcome:
        if self.read_out == "forced" and problem.num_classes != 2:
            raise NotApplicableError(
                f"the forced prior 1/2 reads one class against the rest; there are {problem.num_classes}"
            )
        levels, places = path_levels(problem.log_snr, noisy_end(problem))
        model = self.model_of(problem)
        x_0, _ = problem.clean()
        log_prior = jnp.log(jnp.asarray(problem.prior, x_0.dtype))

        def tracked(x_0, index):
            key = jax.random.fold_in(problem.key("paths"), index)
            states, _, _ = track(
                model, x_0, log_prior, jnp.asarray(levels), key, self.read_out, self.clamp
            )
            return states[places - 1]

        numbers = 4 * (problem.num_classes + 1) * problem.dim
        states = in_batches(tracked, (x_0,), numbers, axis=1).astype(float)
        each = problem.num_classes + (self.read_out != "class")
        problem.evaluations += len(x_0) * (len(levels) - 1) * each
        values = entropies(states, self.read_out)
        return Outcome(Estimate.from_samples(values, 1), has_interval=True)


class TrackedClasses(_Tracking):
    title = "tracking, class against class"
    read_out = "class"


class TrackedRatio(_Tracking):
    title = "tracking, ratio to the unconditional"
    read_out = "ratio"


class TrackedForcedPrior(_Tracking):
    title = "tracking, forced prior 1/2"
    read_out = "forced"


class TrackedClassesClamped(_Tracking):
    title = "tracking, class against class, clamped"
    read_out, clamp = "class", True


class TrackedRatioClamped(_Tracking):
    title = "tracking, ratio to the unconditional, clamped"
    read_out, clamp = "ratio", True


class TrackedForcedPriorClamped(_Tracking):
    title = "tracking, forced prior 1/2, clamped"
    read_out, clamp = "forced", True
