"""One protocol for estimators of the class entropy H(C | X_t), in nats.

An estimator gets a `Problem`: the noise levels, the class probabilities, and as much of the distribution as
it says it needs,

    NOISY     labelled draws (x_t, c) at every noise level, one a state
    CLEAN     besides, the clean x_0 behind them, to which noise can be added again and again
    SCORES    besides, the posterior means D(x_t) and D(x_t | c) of a perfectly trained diffusion model
    MIXTURE   besides, the means, covariances and weights of the distribution themselves

and no more: asking for what was not declared is an error, so that a ranking compares like with like.
It returns an `Outcome`: the entropy at every level and, where it has them, the rate and standard
errors. A lower or an upper bound says so and is judged as one. The number is raw: [0, H(C)], where every
entropy lies, is applied to all alike by who reads it.

The noisy state is `x_t = alpha x_0 + sigma eps` with `alpha^2 + sigma^2 = 1`. All levels share the
draws of (x_0, c); the noise of each level is independent. Draws are keyed by the name of the problem and the
seed, so two problems of equal shape share none, and all estimators of one problem share all.

What is fitted is judged on states that did not fit it: `FOLDS` folds, every class dealt over them, change
places. With clean samples a state comes in `DRAWS` independent noises, to fit on and to be judged by.

A new estimator is one small class: subclass `LevelEstimator` where each noise level is a problem of its
own, `crossfit.CrossFitted` where a posterior is fitted, otherwise `Estimator`.
"""

import abc
from enum import StrEnum
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gmm_speciation.checks import decreasing_grid, expect
from gmm_speciation.entropy import prior_entropy
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.model import Denoisers, ExactDenoisers
from gmm_speciation.inference import Classes
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.processes import variance_preserving

FOLDS = 2
DRAWS = 4  # noises of a clean state
CHUNK_MIB = 32  # of distances between samples at a time, near the processor and few of n * n
_SINGLE_PRECISION = 2048  # dimensions from which the state is kept in float32


class Access(StrEnum):
    """What an estimator is told; each includes the ones before."""

    NOISY = "noisy"
    CLEAN = "clean"
    SCORES = "scores"
    MIXTURE = "mixture"


class Kind(StrEnum):
    """What the number is."""

    ESTIMATE = "estimate"
    LOWER = "lower bound"
    UPPER = "upper bound"


class NotApplicableError(ValueError):
    """The estimator is not defined for this problem; no failure of either."""


class Samples(NamedTuple):
    """Noisy states and their classes."""

    x: Float[Array, "n d"]
    labels: Int[np.ndarray, " n"]


class Part(NamedTuple):
    """Some of them, on the host."""

    x: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]


class Outcome(eqx.Module):
    """What an estimator says: one entry a noise level."""

    entropy: Estimate
    rate: Estimate | None = None  # -dH/dlambda; the slope of the entropy is taken where it is None
    has_interval: bool = eqx.field(static=True, default=False)


class Problem:
    """What an estimator may use. Made by `problem_of`.

    Attributes:
        log_snr: `(T,)`, strictly decreasing.
        prior: `(C,)` class probabilities.
        num_samples: n.
        evaluations: Denoiser or posterior calls so far, one a state and class.
    """

    def __init__(
        self,
        mixture: GaussianMixture,
        partition: Partition,
        log_snr,
        num_samples,
        seed,
        access,
        name: str = "",
    ):
        self.log_snr = np.asarray(decreasing_grid(log_snr), float)
        self.num_samples, self.dim = int(num_samples), mixture.dim
        self.prior = np.exp(np.asarray(partition.log_sum(mixture.log_weights), float))
        self.prior.setflags(write=False)
        self.prior_entropy = float(prior_entropy(mixture, partition))
        self.evaluations = 0
        dtype = jnp.float32 if mixture.dim > _SINGLE_PRECISION else mixture.centre.dtype
        self._mixture = jax.tree.map(lambda leaf: leaf.astype(dtype), mixture)
        self._partition, self._access = partition, access
        self._key = jax.random.fold_in(jax.random.key(seed), hash_of(name))
        self._clean: tuple[Array, np.ndarray] | None = None

    @property
    def num_classes(self) -> int:
        return len(self.prior)

    def key(self, name: str) -> PRNGKeyArray:
        """Randomness of the estimator's own, apart from that of the samples."""
        return jax.random.fold_in(self._key, hash_of(name))

    def rng(self, name: str) -> np.random.Generator:
        """The same for numpy."""
        return np.random.default_rng(np.asarray(jax.random.key_data(self.key(name))).ravel())

    @property
    def draws(self) -> int:
        """Independent noises of a state at a level."""
        return 1 if self._access is Access.NOISY else DRAWS

    def clean(self) -> Samples:
        """The clean states behind the samples.

        Raises:
            ValueError: If the estimator did not declare `Access.CLEAN`.
        """
        self._require(Access.CLEAN, "clean samples")
        return self._drawn()

    def _drawn(self) -> Samples:
        if self._clean is None:
            x, component = self._mixture.sample(jax.random.fold_in(self._key, 0), self.num_samples)
            labels = np.asarray(self._partition.labels)[np.asarray(component)]
            labels.setflags(write=False)  # all levels share them
            self._clean = x, labels
        return Samples(*self._clean)

    def samples(self, level: int, draw: int = 0) -> Samples:
        """Labelled draws at noise level `level` (an index into `log_snr`), the `draw`-th of `draws`."""
        x_0, labels = self._drawn()
        key = jax.random.fold_in(jax.random.fold_in(self._key, 1 + level), draw)
        return Samples(self.noised(x_0, level, key), labels)

    def folds(self, labels: np.ndarray) -> np.ndarray:
        """The fold of every state, of `FOLDS`."""
        return deal(labels, FOLDS, self.rng("folds"))

    def split(self, level: int, fold: int) -> tuple[Part, Part]:
        """Noisy states outside of a fold, to fit on, and in it; all draws, one after the other."""
        draws = [self.samples(level, draw) for draw in range(self.draws)]
        inside = self.folds(draws[0].labels) == fold

        def joined(chosen: np.ndarray) -> Part:
            x = np.concatenate([np.asarray(x)[chosen] for x, _ in draws])
            return Part(x, np.tile(draws[0].labels[chosen], len(draws)))

        return joined(~inside), joined(inside)

    def noised(self, x_0: Array, level: int, key: PRNGKeyArray) -> Array:
        """`alpha x_0 + sigma eps`."""
        alpha, sigma = (s.astype(x_0.dtype) for s in variance_preserving(self.log_snr[level]))
        return alpha * x_0 + sigma * jax.random.normal(key, x_0.shape, x_0.dtype)

    @property
    def model(self) -> Denoisers:
        """The posterior means of a perfectly trained model.

        Raises:
            ValueError: If the estimator did not declare `Access.SCORES`.
        """
        self._require(Access.SCORES, "scores")
        return ExactDenoisers(self._mixture, self._partition)

    @property
    def mixture(self) -> GaussianMixture:
        """The clean distribution.

        Raises:
            ValueError: If the estimator did not declare `Access.MIXTURE`.
        """
        self._require(Access.MIXTURE, "the mixture")
        return self._mixture

    @property
    def partition(self) -> Partition:
        """Class of each component; as `mixture`."""
        self._require(Access.MIXTURE, "the mixture")
        return self._partition

    def _require(self, needed: Access, what: str) -> None:
        if list(Access).index(self._access) < list(Access).index(needed):
            raise ValueError(
                f"The estimator declares `access = {self._access.value!r}` and asks for {what}; "
                f"declare `Access.{needed.name}`."
            )


def deal(labels: np.ndarray, number: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """A fold for every sample, dealt class by class so that none is missing in training."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), int)
    fold[order] = np.arange(len(labels)) % number
    return fold


def hash_of(text: str) -> int:
    """A 31-bit number of a text, the same in every process."""
    value = 0
    for byte in text.encode():
        value = (value * 131 + byte) % (2**31 - 1)
    return value


class Estimator(abc.ABC):
    """Interface: say what it is, and give the curve."""

    title: ClassVar[str]
    reference: ClassVar[str]
    access: ClassVar[Access] = Access.NOISY
    kind: ClassVar[Kind] = Kind.ESTIMATE
    family: ClassVar[str] = "other"

    @classmethod
    def boards(cls) -> tuple[Access, ...]:
        """The accesses at which it competes."""
        return (cls.access,)

    @abc.abstractmethod
    def curve(self, problem: Problem) -> Outcome:
        """Entropy at every noise level of the problem.

        Raises:
            NotApplicableError: If the method is not defined for the problem.
            ValueError: If the samples do not suffice.
        """


class Renoised(Estimator):
    """What takes noisy samples and has more of them where clean ones are known."""

    @classmethod
    def boards(cls) -> tuple[Access, ...]:
        return (Access.NOISY, Access.CLEAN) if cls.access is Access.NOISY else (cls.access,)


class LevelEstimator(Renoised):
    """An estimator that sees the labelled samples of one noise level at a time, all of them.

    With clean samples it is the mean over their noises.
    """

    has_interval: ClassVar[bool] = False
    per_class: ClassVar[int] = 2  # samples that it needs

    @abc.abstractmethod
    def level(
        self, x: np.ndarray, labels: np.ndarray, prior: np.ndarray, rng: np.random.Generator
    ) -> Estimate:
        """H(C|X) in nats from samples `(n, d)` with labels `(n,)`; standard error 0 if it has none.

        The arrays are read-only; copy what is to be changed.
        """

    def curve(self, problem: Problem) -> Outcome:
        found = []
        for level in range(len(problem.log_snr)):
            rng = problem.rng(f"level {level}")
            each = []
            for draw in range(problem.draws):
                x, labels = problem.samples(level, draw)
                states = check_samples(x, labels, problem.num_classes, self.per_class)
                own = self.level(states, labels, problem.prior, rng)
                if np.shape(expect(own, Estimate, "`level` returns H(C|X).").value):
                    raise ValueError(f"`level` returns one number; got shape {own.value.shape}.")
                each.append(own)
            found.append([(float(one.value), float(one.stderr)) for one in each])
        # Noises of one state are not independent of each other: their errors are averaged as they are.
        values, stderr = np.mean(found, 1).T
        return Outcome(Estimate(values, stderr, each[0].dof), has_interval=self.has_interval)


def check_samples(x, labels: np.ndarray, num_classes: int, per_class: int = 2) -> np.ndarray:
    """The states as numpy, if they are enough.

    Raises:
        ValueError: If a state is not finite, there are fewer than two, or a class has fewer than
            `per_class` samples.
    """
    states = np.asarray(x)
    if len(states) < 2:
        raise ValueError(f"At least two samples are needed; got {len(states)}.")
    if not np.isfinite(states).all():
        raise ValueError("The samples must be finite; some are NaN or infinite.")
    counts = np.bincount(labels, minlength=num_classes)
    if counts.min() < per_class:
        poor = int(np.argmin(counts))
        raise ValueError(
            f"Every class needs at least {per_class} samples; class {poor} has {counts[poor]} of "
            f"{len(labels)}. Take more samples."
        )
    return states


def problem_of(
    mixture: GaussianMixture,
    log_snr,
    num_samples: int,
    *,
    partition: Classes = None,
    seed: int = 0,
    access: Access = Access.MIXTURE,
    name: str = "",
) -> Problem:
    """A problem on a mixture; problems of another name or seed have other draws.

    Raises:
        ValueError: If there are fewer than two samples, or grid or partition do not fit.
    """
    if num_samples < 2:
        raise ValueError(f"`num_samples` must be at least 2; got {num_samples}.")
    classes = as_partition(partition, mixture.num_components)
    return Problem(mixture, classes, log_snr, num_samples, seed, access, name)
