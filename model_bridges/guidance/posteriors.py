"""The posterior p(c|x) along a reverse path of a model, for guidance that depends on it.

    ExactPosterior   of a mixture, from x alone
    TrackedClasses   class against class: every class's kernel, softmax with the prior; K denoisers a step
    TrackedRatio     against the whole law, as in the papers: two denoisers a step

Tracking multiplies up the densities of the reverse kernels (`model_bridges.tracking.kernel`). The result is a
functional of the path alone and stays right under guided stochastic steps, whose noise has the kernel's
variance; along a probability-flow path there is no such noise and the tracked number is a heuristic.
"""

import abc
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.guidance.formulae import accumulated_precision
from gmm_speciation.inference import log_class_posterior
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import DDPM
from model_bridges.guidance.base import Class, Denoise
from model_bridges.tracking.kernel import log_likelihood_update, reverse_kernel


class ClassEvidence(NamedTuple):
    """What is known of a class at x, a value a state, float64."""

    log_ratio: Float[Tensor, " B"]  # log P, P = p(x|c) / p(x) = p(c|x) / p(c)
    log_odds: Float[Tensor, " B"]  # log p(c|x) - log(1 - p(c|x))


class PosteriorSource(abc.ABC):
    """Interface: where guidance takes p(c|x) from."""

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        """State before the first step."""
        return ()

    @abc.abstractmethod
    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[ClassEvidence, Any]:
        """Evidence at `x` and the new state."""


def _evidence(
    log_posterior: Float[Tensor, "B K"], log_prior: Float[Tensor, " K"], label: Class
) -> ClassEvidence:
    """Of one class, or one a state; the odds are exact where p is near 1."""
    place = torch.as_tensor(label).expand(len(log_posterior))[:, None]
    own = log_posterior.gather(1, place)[:, 0]
    others = log_posterior.scatter(1, place, -torch.inf)
    return ClassEvidence(own - log_prior[place[:, 0]], own - torch.logsumexp(others, 1))


@final
@dataclass(frozen=True, eq=False)
class ExactPosterior(PosteriorSource):
    """The posterior of a mixture: `mixture` is the clean law, `label` a class of `partition`."""

    mixture: GaussianMixture
    label: int
    partition: Partition | None = None

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[ClassEvidence, Any]:
        noisy = self.mixture.perturb(1.0, sigma)
        flat = jnp.asarray(x.flatten(1).double().numpy(force=True))
        log_posterior = np.asarray(log_class_posterior(noisy, flat, self.partition), float)
        log_prior = self.mixture.log_weights[None]
        if self.partition is not None:
            log_prior = self.partition.log_sum(log_prior)
        rows, prior = (torch.from_numpy(np.array(a)) for a in (log_posterior, log_prior[0]))
        return _evidence(rows, prior.double(), self.label), state


class _Path(NamedTuple):
    """The step before: where it left from and what the denoisers said there, the class axis first."""

    x: Tensor
    denoised: Float[Tensor, "C B *event"]
    sigma: float

    def update(self, x: Tensor, sigma: float) -> tuple[Float[Tensor, "C B"], float]:
        """Log-likelihoods of the step that led to x at sigma, and the kernel's variance."""
        if not 0 < sigma < self.sigma:
            raise ValueError(
                f"A tracked path goes to lower, positive noise; got a step from {self.sigma:g} to "
                f"{sigma:g}."
            )
        kernel = reverse_kernel(self.x, self.denoised, self.sigma, sigma)
        return log_likelihood_update(x.double(), *kernel), kernel[1]


@final
@dataclass(frozen=True, eq=False)
class TrackedClasses(PosteriorSource):
    """All K classes tracked: `softmax(log prior + log-likelihoods)`; the denoisers of all a step."""

    label: Class
    log_prior: Float[Tensor, " K"]

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        return self.log_prior.double().to(x.device).expand(len(x), -1), None

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[ClassEvidence, Any]:
        log_posterior, path = state
        if path is not None:
            update, _ = path.update(x, sigma)
            log_posterior = torch.log_softmax(log_posterior + update.mT, 1)
        denoised = torch.stack([denoise(label) for label in range(len(self.log_prior))])
        evidence = _evidence(log_posterior, self.log_prior.to(log_posterior), self.label)
        return evidence, (log_posterior, _Path(x.double(), denoised.double(), sigma))


@final
@dataclass(frozen=True, eq=False)
class TrackedRatio(PosteriorSource):
    """The class against the whole law, as the papers track it:

        log P <- clip(log P + tau l + offset + distance_offset / (2 v), floor, ceiling)

    with l the log-ratio of the two reverse kernels, `log P = 0` at the start and `p = prior P`. `offset` is
    that of feedback guidance (arXiv 2506.06085), `distance_offset`, in squared distance, that of dynamic
    negative guidance (arXiv 2410.14398). A distance has a scale where l has none: v is the kernels' variance
    in the variance-preserving coordinates of that paper, that of x' over `1 + sigma'^2`. The sum
    of 1 / v over a path goes with the square of its number of steps: with a `schedule` the offset is that of
    a step of it, and a step of the sampler adds what the schedule's steps between its levels would.
    Its error is of order sqrt(step), and P may exceed 1 / prior: the log-odds are those of p below
    `max_posterior`.
    """

    label: Class
    prior: float | int
    temperature: float | int = 1.0
    offset: float | int = 0.0
    distance_offset: float | int = 0.0
    floor: float | int = -math.inf
    ceiling: float | int = math.inf
    max_posterior: float | int = 0.99
    schedule: DDPM | None = None

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        return x.new_zeros(len(x), dtype=torch.float64), None

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[ClassEvidence, Any]:
        log_ratio, path = state
        if path is not None:
            update, variance = path.update(x, sigma)
            log_ratio = log_ratio + self.temperature * (update[0] - update[1])
            log_ratio = log_ratio + self.offset
            log_ratio = log_ratio + self.distance_offset * self._precision(
                path.sigma, sigma, variance
            )
            log_ratio = log_ratio.clamp(self.floor, self.ceiling)
        posterior = (self.prior * log_ratio.exp()).clamp(0.0, self.max_posterior)
        denoised = torch.stack([denoise(self.label), denoise(None)])
        log_odds = posterior.log() - torch.log1p(-posterior)
        return ClassEvidence(log_ratio, log_odds), (
            log_ratio,
            _Path(x.double(), denoised.double(), sigma),
        )

    def _precision(self, noisy: float, sigma: float, variance: float) -> float:
        """`1 / (2 v)` of this step, or of the schedule's between its levels."""
        if self.schedule is None:
            return (1 + sigma**2) / (2 * variance)
        places, sums = accumulated_precision(self.schedule)
        at = np.interp(np.log([noisy, sigma]), places, sums)
        return float(at[0] - at[1])
