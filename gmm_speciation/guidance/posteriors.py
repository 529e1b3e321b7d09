"""The posterior p(c|x) along a reverse path, for guidance that depends on it.

    ExactPosterior   of a mixture, from x alone
    TrackedClasses   class against class: every class's kernel, softmax with the prior; K denoisers a step
    TrackedRatio     against the whole law, as in the papers: two denoisers a step

Tracking multiplies up the densities of the reverse kernels (see `gmm_speciation.tracking`). The result is
a functional of the path alone and stays right under guided stochastic steps, whose noise has the kernel's
variance; along a probability-flow path there is no such noise and the tracked number is a heuristic.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gmm_speciation.guidance.base import Denoise, Parameter, like, parameter
from gmm_speciation.guidance.formulae import accumulated_precision
from gmm_speciation.inference import log_class_posterior
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import DDPM
from gmm_speciation.tracking import class_against_class, log_likelihood_update, reverse_kernel


class ClassEvidence(eqx.Module):
    """What is known of a class at x, a value a point."""

    log_ratio: Float[Array, " n"]  # log P, P = p(x|c) / p(x) = p(c|x) / p(c)
    log_odds: Float[Array, " n"]  # log p(c|x) - log(1 - p(c|x))


class PosteriorSource(eqx.Module):
    """Interface: where guidance takes p(c|x) from."""

    @abc.abstractmethod
    def init(self, x: Float[Array, "n d"]) -> PyTree:
        """State before the first step."""

    @abc.abstractmethod
    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[ClassEvidence, PyTree]:
        """Evidence at `x` and the new state."""


def _log_odds(log_posterior: Float[Array, "n C"], label: int) -> Float[Array, " n"]:
    """`log p_c - log sum_{j != c} p_j`, exact where p_c is near 1."""
    others = jnp.arange(log_posterior.shape[-1]) != label
    rest = jax.nn.logsumexp(jnp.where(others[None, :], log_posterior, -jnp.inf), -1)
    return log_posterior[:, label] - rest


class ExactPosterior(PosteriorSource):
    """The posterior of a mixture: `mixture` is the clean law, `label` a class of `partition`."""

    mixture: GaussianMixture
    label: int = eqx.field(static=True)
    partition: Partition | None = None

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return ()

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[ClassEvidence, PyTree]:
        log_posterior = log_class_posterior(self.mixture.perturb(*level), x, self.partition)
        log_prior = self.mixture.log_weights[None]
        if self.partition is not None:
            log_prior = self.partition.log_sum(log_prior)
        ratio = log_posterior[:, self.label] - log_prior[0, self.label]
        return ClassEvidence(ratio, _log_odds(log_posterior, self.label)), state


class _Path(eqx.Module):
    """The step before: where it left from and what the denoisers said there."""

    x: Float[Array, "n d"]
    denoised: Float[Array, "n C d"]
    level: tuple
    known: Array  # False before the first step

    @classmethod
    def unknown(cls, x: Float[Array, "n d"], num_classes: int) -> "_Path":
        scales = (jnp.ones((), x.dtype), 2 * jnp.ones((), x.dtype))
        denoised = jnp.zeros((x.shape[0], num_classes, x.shape[1]), x.dtype)
        return cls(x, denoised, scales, jnp.asarray(False))

    def update(self, x: Float[Array, "n d"], level: tuple) -> tuple[Array, Array]:
        """Log-likelihoods `(n, C)` of the step that led here, and the kernel's variance."""
        means, variance = reverse_kernel(self.x[:, None], self.denoised, self.level, level)
        variance = jnp.where(self.known & (variance > 0), variance, 1.0)
        return log_likelihood_update(x, means, variance), variance


class TrackedClasses(PosteriorSource):
    """All K classes tracked: `softmax(log prior + log-likelihoods)`; the denoisers of all classes a step."""

    label: int = eqx.field(static=True)
    log_prior: Float[Array, " C"]

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        log_likelihood = jnp.zeros((x.shape[0], self.log_prior.shape[0]), x.dtype)
        return log_likelihood, _Path.unknown(x, self.log_prior.shape[0])

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[ClassEvidence, PyTree]:
        log_likelihood, path = state
        update, _ = path.update(x, level)
        log_likelihood = log_likelihood + jnp.where(path.known, update, 0.0)
        log_prior = self.log_prior.astype(x.dtype)
        log_posterior = class_against_class(log_prior, log_likelihood)
        denoised = jnp.stack([denoise(label) for label in range(len(log_prior))], 1)
        path = _Path(x, denoised, level, jnp.asarray(True))
        evidence = ClassEvidence(
            log_posterior[:, self.label] - log_prior[self.label],
            _log_odds(log_posterior, self.label),
        )
        return evidence, (log_likelihood, path)


class TrackedRatio(PosteriorSource):
    """The class against the whole law, as the papers track it:

        log P <- clip(log P + tau l + offset + distance_offset / (2 v), floor, ceiling)

    with l the log-ratio of the two reverse kernels, `log P = 0` at the start and `p = prior P`. `offset` is
    that of feedback guidance (arXiv 2506.06085), `distance_offset`, in squared distance, that of dynamic
    negative guidance (arXiv 2410.14398). A distance has a scale where l has none: v is the kernels' variance
    in the variance-preserving coordinates of that paper, that of x_s over `alpha_s^2 + sigma_s^2`. The sum
    of 1 / v over a path goes with the square of its number of steps: with a `schedule` the offset is that of
    a step of it, and a step of the sampler adds what the schedule's steps between its levels would.
    Its error is of order sqrt(step), and P may exceed 1 / prior: the log-odds are those of p below
    `max_posterior`.
    """

    label: int = eqx.field(static=True)
    prior: Parameter = eqx.field(converter=parameter)
    temperature: Parameter = eqx.field(converter=parameter, default=1.0)
    offset: Parameter = eqx.field(converter=parameter, default=0.0)
    distance_offset: Parameter = eqx.field(converter=parameter, default=0.0)
    floor: Parameter = eqx.field(converter=parameter, default=-jnp.inf)
    ceiling: Parameter = eqx.field(converter=parameter, default=jnp.inf)
    max_posterior: Parameter = eqx.field(converter=parameter, default=0.99)
    schedule: DDPM | None = None

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return jnp.zeros(x.shape[:1], x.dtype), _Path.unknown(x, 2)

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[ClassEvidence, PyTree]:
        log_ratio, path = state
        update, variance = path.update(x, level)
        moved = log_ratio + like(x, self.temperature) * (update[:, 0] - update[:, 1])
        moved = moved + like(x, self.offset)
        moved = moved + like(x, self.distance_offset) * self._precision(path.level, level, variance)
        moved = jnp.clip(moved, like(x, self.floor), like(x, self.ceiling))
        log_ratio = jnp.where(path.known, moved, log_ratio)
        posterior = jnp.clip(
            like(x, self.prior) * jnp.exp(log_ratio), 0.0, like(x, self.max_posterior)
        )
        denoised = jnp.stack([denoise(self.label), denoise(None)], 1)
        path = _Path(x, denoised, level, jnp.asarray(True))
        log_odds = jnp.log(posterior) - jnp.log1p(-posterior)
        return ClassEvidence(log_ratio, log_odds), (log_ratio, path)

    def _precision(self, noisy: tuple, level: tuple, variance: Array) -> Array:
        """`1 / (2 v)` of this step, or of the schedule's between its levels."""
        if self.schedule is None:
            return (level[0] ** 2 + level[1] ** 2) / (2 * variance)
        places, sums = (jnp.asarray(a) for a in accumulated_precision(self.schedule))
        at = [jnp.interp(jnp.log(sigma / alpha), places, sums) for alpha, sigma in (noisy, level)]
        return (at[0] - at[1]).astype(variance.dtype)
