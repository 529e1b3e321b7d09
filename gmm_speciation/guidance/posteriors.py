"""The posterior p(c|x) along a reverse path, for guidance that depends on it.

    ExactPosterior   of a mixture, from x alone
    TrackedClasses   class against class: every class's kernel, softmax with the prior; K denoisers a step
    TrackedRatio     against the whole law, as in the papers: two denoisers a step

Tracking multiplies up the densities of the reverse kernels (see `gmm_speciation.tracking`). The result is
a functional of the path alone and stays right under guided stochastic steps, whose noise has the kernel's
variance; along a probability-flow path there is no such noise and the tracked number is a heuristic.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from gmm_speciation.arrays import Level, either, like, namespace, scales, softmaxes, wide, zeros
from gmm_speciation.checks import check_label, is_concrete, require
from gmm_speciation.guidance.base import Denoise, Label, Parameter, States, number, plain_label
from gmm_speciation.guidance.formulae import accumulated_precision
from gmm_speciation.inference import log_class_posterior
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition, wrapped
from gmm_speciation.processes import DDPM
from gmm_speciation.tracking import log_likelihood_update, reverse_kernel


class ClassEvidence(eqx.Module):
    """What is known of a class at x, a value a point; of torch tensors in float64."""

    log_ratio: Float[Any, " n"]  # log P, P = p(x|c) / p(x) = p(c|x) / p(c)
    log_odds: Float[Any, " n"]  # log p(c|x) - log(1 - p(c|x))

    @classmethod
    def of(
        cls, log_posterior: Float[Any, " C n"], log_prior: Float[Any, " C"], label: Label
    ) -> "ClassEvidence":
        """Of one class, or of one a state; the odds are exact where p is near 1.

        Raises:
            ValueError: If the one class does not exist.
        """
        if not getattr(label, "ndim", 0):
            check_label(label, len(log_prior))
        xp, special = namespace(log_posterior), softmaxes(log_posterior)
        index = xp.ones_like(log_prior).cumsum(0) - 1  # on its device
        own = index[:, None] == label
        log_p = xp.where(own, log_posterior, 0.0).sum(0)
        rest = special.logsumexp(xp.where(own, -np.inf, log_posterior), 0)
        return cls(log_p - log_prior[label], log_p - rest)


class PosteriorSource(eqx.Module):
    """Interface: where guidance takes p(c|x) from."""

    __eq__, __hash__ = object.__eq__, object.__hash__

    def init(self, x: States) -> PyTree:
        """State before the first step."""
        return ()

    @abc.abstractmethod
    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[ClassEvidence, PyTree]:
        """Evidence at `x` and the new state."""


class ExactPosterior(PosteriorSource):
    """The posterior of a mixture: `mixture` is the clean law, `label` a class of `partition`.

    Raises:
        ValueError: If the partition does not fit the components.
    """

    mixture: GaussianMixture
    label: int = eqx.field(static=True, converter=plain_label)
    partition: Partition | None = eqx.field(
        default=None, converter=lambda given: None if given is None else wrapped(given)
    )

    def __check_init__(self):
        if self.partition is not None:
            self.partition.check(self.mixture.num_components)

    @property
    def classes(self) -> Partition:
        """The class of each component; every component its own without a partition."""
        return as_partition(self.partition, self.mixture.num_components)

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[ClassEvidence, PyTree]:
        xp, points = namespace(x), x
        if xp is not jnp:
            points = jnp.asarray(wide(x).reshape(len(x), -1).numpy(force=True))
        noisy = self.mixture.perturb(*scales(level))
        log_posterior = log_class_posterior(noisy, points, self.partition).T
        log_prior = self.mixture.log_weights[None]
        if self.partition is not None:
            log_prior = self.partition.log_sum(log_prior)
        known = log_posterior, log_prior[0]
        if xp is not jnp:
            known = tuple(xp.asarray(np.array(a, float), device=x.device) for a in known)
        return ClassEvidence.of(*known, self.label), state


class _Path(eqx.Module):
    """The step before: where it left from and what the denoisers said there, the class axis first."""

    x: States
    denoised: Float[Any, " C n *event"]
    level: tuple
    known: Array | bool  # False before the first step

    @classmethod
    def unknown(cls, x: States, num_classes: int) -> "_Path":
        nothing = namespace(x).broadcast_to(x[None], (num_classes, *x.shape))
        return cls(x, nothing, (1.0, 2.0), False)

    @classmethod
    def left(cls, x: States, level: Level, means: list[States]) -> "_Path":
        return cls(wide(x), wide(namespace(x).stack(means)), scales(level), True)

    def update(self, x: States, level: Level) -> tuple[Float[Any, " C n"], Any]:
        """Log-likelihoods of the step that led to x at a level, and the kernel's variance."""
        (alpha, sigma), (alpha_s, sigma_s) = self.level, scales(level)
        traced = namespace(x) is jnp
        if not traced and not 0 < sigma_s / alpha_s < sigma / alpha:
            raise ValueError(
                "A tracked path goes to lower, positive noise; got a step from "
                f"{sigma / alpha:g} to {sigma_s / alpha_s:g}."
            )
        means, variance = reverse_kernel(self.x[None], self.denoised, self.level, level)
        if traced:
            variance = jnp.where(self.known & (variance > 0), variance, 1.0)
        return log_likelihood_update(wide(x), means, variance), variance


class TrackedClasses(PosteriorSource):
    """All K classes tracked: `softmax(log prior + log-likelihoods)`; the denoisers of all classes a step.

    Raises:
        ValueError: If `log_prior` is not a vector, or, where it is known, its exponentials do not sum to 1.
    """

    label: Label = eqx.field(static=True, converter=plain_label)
    log_prior: Float[Any, " C"]

    def __check_init__(self):
        if np.ndim(self.log_prior) != 1:
            raise ValueError(
                f"`log_prior` must be one logarithm a class; got shape {np.shape(self.log_prior)}."
            )
        if is_concrete(self.log_prior):
            total = np.exp(np.asarray(_listed(self.log_prior), float)).sum()
            if not abs(total - 1) <= 1e-5:
                raise ValueError(
                    "`log_prior` must hold logarithms of probabilities that sum to 1; their exponentials "
                    f"sum to {total:.6g}. Take the logarithm, after dividing by the sum."
                )

    def init(self, x: States) -> PyTree:
        none = zeros(x)
        log_prior = softmaxes(x).log_softmax(like(none, self.log_prior), 0)
        return log_prior[:, None] + none[None], _Path.unknown(x, len(log_prior))

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[ClassEvidence, PyTree]:
        log_posterior, path = state
        if path.known is not False:
            joint = log_posterior + path.update(x, level)[0]
            moved = softmaxes(x).log_softmax(joint, 0)
            log_posterior = either(path.known, lambda: moved, lambda: state[0])
        path = _Path.left(x, level, [denoise(label) for label in range(len(self.log_prior))])
        log_prior = like(log_posterior, self.log_prior)
        return ClassEvidence.of(log_posterior, log_prior, self.label), (log_posterior, path)


def check_classes(guidance: Any, num_classes: int, partition: Partition | None = None) -> None:
    """Refuse a guidance whose classes are not the model's: those left out would have no mass, and a label
    would name another class here than there.

    Args:
        guidance: Any kind.
        num_classes: Of the model.
        partition: Of the model's components, where it is a mixture.

    Raises:
        ValueError: If a `TrackedClasses` has not one log-prior a class, or the classes of an
            `ExactPosterior` are others.
    """
    for source in jax.tree.leaves(guidance, is_leaf=lambda part: isinstance(part, PosteriorSource)):
        if isinstance(source, TrackedClasses) and np.shape(source.log_prior) != (num_classes,):
            raise ValueError(
                f"`TrackedClasses` needs the log-prior of all {num_classes} classes; got shape "
                f"{np.shape(source.log_prior)}."
            )
        if not isinstance(source, ExactPosterior):
            continue
        own = source.classes
        wrong = own.num_classes != num_classes
        if partition is not None and own.num_components == partition.num_components:
            wrong = own.labels != partition.labels
        if wrong:
            raise ValueError(
                f"`ExactPosterior` must have the {num_classes} classes that are drawn"
                + (f", {_of(partition)}; " if partition is not None else "; ")
                + f"its own are {own.num_classes}, {_of(own)}. Give both one partition."
            )


def check_source(label: Label, source: PosteriorSource) -> None:
    """Refuse the posterior of another class than a guidance's.

    Raises:
        ValueError: If the source has a label, and it is not `label`; of one a state, the same for each.
    """
    given, other = _listed(label), _listed(getattr(source, "label", label))
    same = given == other
    if isinstance(given, list) != isinstance(other, list):
        several, one = (given, other) if isinstance(given, list) else (other, given)
        same = all(each == one for each in several)
    if not same:
        raise ValueError(
            f"Guidance and its posterior must be of one class; got class {given} and a "
            f"`{type(source).__name__}` of class {other}."
        )


def _listed(values: Any) -> Any:
    """An array of any library and device as numbers; what is none as it is."""
    return values.tolist() if hasattr(values, "tolist") else values


def _of(partition: Partition) -> str:
    many = partition.num_components > 8
    return f"of {partition.num_components} components" if many else f"labels {partition.labels}"


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

    label: Label = eqx.field(static=True, converter=plain_label)
    prior: Parameter = eqx.field(converter=number)
    temperature: Parameter = eqx.field(converter=number, default=1.0)
    offset: Parameter = eqx.field(converter=number, default=0.0)
    distance_offset: Parameter = eqx.field(converter=number, default=0.0)
    floor: Parameter = eqx.field(converter=number, default=-np.inf)
    ceiling: Parameter = eqx.field(converter=number, default=np.inf)
    max_posterior: Parameter = eqx.field(converter=number, default=0.99)
    schedule: DDPM | None = None

    def __check_init__(self):
        p, most = self.prior, self.max_posterior
        require(
            p,
            (p >= 0) & (p <= 1) & (most > 0) & (most <= 1) & (self.floor <= self.ceiling),
            f"`prior` and `max_posterior` must be probabilities, and `floor` not above `ceiling`; got {p}, "
            f"{most}, {self.floor} and {self.ceiling}.",
        )

    def init(self, x: States) -> PyTree:
        return zeros(x), _Path.unknown(x, 2)

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[ClassEvidence, PyTree]:
        xp = namespace(x)
        log_ratio, path = state
        if path.known is not False:
            update, variance = path.update(x, level)
            moved = log_ratio + like(x, self.temperature) * (update[0] - update[1])
            moved = moved + like(x, self.offset)
            precision = self._precision(path.level, scales(level), variance)
            moved = moved + like(x, self.distance_offset) * like(x, precision)
            moved = xp.clip(moved, like(x, self.floor), like(x, self.ceiling))
            log_ratio = either(path.known, lambda: moved, lambda: state[0])
        posterior = xp.clip(
            like(x, self.prior) * xp.exp(log_ratio), 0.0, like(x, self.max_posterior)
        )
        path = _Path.left(x, level, [denoise(self.label), denoise(None)])
        log_odds = xp.log(posterior) - xp.log1p(-posterior)
        return ClassEvidence(log_ratio, log_odds), (log_ratio, path)

    def _precision(self, noisy: tuple, level: tuple, variance: Any) -> Any:
        """`1 / (2 v)` of this step, or of the schedule's between its levels."""
        if self.schedule is None:
            return (level[0] ** 2 + level[1] ** 2) / (2 * variance)
        xp: Any = np if isinstance(variance, float) else jnp
        places, sums = (xp.asarray(a) for a in accumulated_precision(self.schedule))
        at = [xp.interp(xp.log(sigma / alpha), places, sums) for alpha, sigma in (noisy, level)]
        return at[0] - at[1]
