"""The theory's mixture of a model's data: one Gaussian a class, fitted to training states.

What its covariances are is decided by what they say of data that they were not fitted to. Theory is asked at
noise, so the likelihood is that of *noised* states left out,

    score(fit) = mean over levels sigma of E log p_fit(x_0 + sigma eps),

over levels about those at which the classes part: a decade below the between-class spectral point,
`sigma^2 = Lambda_B`, to twice its sigma. Isotropic, diagonal, low-rank with isotropic noise at several ranks,
and full covariances as far as they can be held, each with shrinkages `rho` towards the isotropic one
(`gmm_speciation.fitting`). So 50 images a class in d = 16,384 are no obstacle, and a posterior does not
become certain of what it cannot know. Where a kind is named, rho is the best for clean states left out.

How sure a fit is, a jackknife says: the same kind, rank and rho without each of `NUM_PARTS` parts of x_0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.checks import ArrayLike
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.fitting import Scatter, best_shrinkage, dealt, fit
from gmm_speciation.inference import log_class_posterior
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.parameters import log_weights
from gmm_speciation.partitions import Partition
from gmm_speciation.speciation import between_class_eigenvalue
from model_bridges.denoisers.checks import class_weights
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.images.labelled import LabelledImages
from model_bridges.studied import StudiedModel

KINDS = ("isotropic", "diagonal", "low-rank", "full")
RANKS = (1, 4, 16, 64)
SHRINKAGES = (0.0, 1e-3, 0.01, 0.03, 0.1, 0.3)
NUM_LEVELS = 6
LARGEST = 30_000_000  # numbers in all full covariances together
FEWEST = 4  # states of a class that a kind of covariance can be chosen from
LEFT_OUT = 5  # every fifth state of a class
MOST_JUDGED = 1000  # states left out that likelihoods are taken of
NUM_PARTS = 8
MOST_REFITTED = 50_000_000  # numbers in all states: a factorisation of every class, eight times


@dataclass(frozen=True, eq=False)
class FittedMixture:
    """A mixture of one Gaussian a class, and why its covariances are what they are."""

    mixture: GaussianMixture
    covariance: str
    shrinkage: float
    law: str  # of what it was fitted to
    num_states: int
    rank: int | None = None
    # Mean log-likelihood of noised states left out, nats, of the best fit of each kind.
    scores: dict[str, float] = field(default_factory=dict)
    # Fits without each part of the states, made when asked for; None where that is too much.
    refits: Callable[[], Iterator[GaussianMixture]] | None = None

    def __str__(self) -> str:
        kind = self.covariance if self.rank is None else f"rank-{self.rank} plus isotropic"
        shrunk = "" if kind == "isotropic" else f", shrinkage {self.shrinkage:g}"
        noised = "noised " if self.scores else ""
        return f"one Gaussian a class with {kind} covariance{shrunk} by {noised}held-out likelihood"


def fitted_mixture(
    train: LabelledImages,
    prior: Float[np.ndarray, " C"],
    sigma_range: tuple[float, float],
    covariance: str | None = None,
) -> FittedMixture:
    """The theory's mixture of training states.

    Args:
        train: The states; some of every class.
        prior: Class weights, which the mixture has as well; the states may have other shares.
        sigma_range: Noise levels of the model.
        covariance: One of `KINDS` but "low-rank"; chosen by noised likelihood if None.

    Raises:
        ValueError: If a class has too few states, or the kind is unknown.
    """
    x = train.images.flatten(1).double().cpu().numpy()
    labels, num_classes = train.labels.cpu().numpy(), len(prior)
    counts = np.bincount(labels, minlength=num_classes)
    least = 2 if covariance is not None else FEWEST
    if len(counts) > num_classes or counts.min() < least:
        raise ValueError(
            f"The theory's mixture needs at least {least} training states of each of {num_classes} classes; "
            f"{train.law} has {counts.min()} of class {counts.argmin()} and {len(counts)} classes."
        )
    rank, rho, scores = None, 0.0, dict[str, float]()
    if covariance is None:
        covariance, rank, rho, scores = _chosen(x, labels, sigma_range)
    elif covariance != "isotropic":
        rho, _ = best_shrinkage(x, labels, covariance)

    def fit_to(kept: np.ndarray | slice) -> GaussianMixture:
        found = fit(x[kept], labels[kept], covariance, rank=rank, shrinkage=rho)
        return with_weights(found, prior)

    def refits() -> Iterator[GaussianMixture]:
        part = dealt(labels, NUM_PARTS)
        return (fit_to(part != one) for one in range(NUM_PARTS))

    again = None if counts.min() < FEWEST or x.size > MOST_REFITTED else refits
    whole = fit_to(slice(None))
    return FittedMixture(whole, covariance, rho, train.law, len(x), rank, scores, again)


def with_weights(mixture: GaussianMixture, prior: Float[np.ndarray, " K"]) -> GaussianMixture:
    """The same components with other weights."""
    return replace(mixture, log_weights=log_weights(prior, mixture.offsets))


def _chosen(
    x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], sigma_range: tuple[float, float]
) -> tuple[str, int | None, float, dict[str, float]]:
    """Kind, rank and shrinkage of the highest score, and the best score of every kind."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    rank_in_class = np.arange(len(x)) - np.repeat(np.cumsum(counts) - counts, counts)
    left_out, kept = (order[rank_in_class % LEFT_OUT == 0], order[rank_in_class % LEFT_OUT != 0])
    judged = rng.permutation(left_out)[:MOST_JUDGED]
    scatter = Scatter.of(x[kept], labels[kept], np.ones(len(kept)))
    spectral = np.sqrt(between_class_eigenvalue(scatter.mixture("isotropic")))
    low, high = np.clip([spectral / 10, 2 * spectral], *sigma_range)
    levels = np.geomspace(low, high, NUM_LEVELS) if high > low else np.array([low])
    noised = [
        (s, jnp.asarray(x[judged] + s * rng.standard_normal(x[judged].shape))) for s in levels
    ]

    def score(mixture: GaussianMixture) -> float:
        likelihoods = [float(jnp.mean(mixture.perturb(1.0, s).log_prob(y))) for s, y in noised]
        return float(np.mean(likelihoods))

    best: dict[str, tuple[float, str, int | None, float]] = {}
    for kind, rank in _kinds(
        len(counts), int(counts.min() * (LEFT_OUT - 1) / LEFT_OUT), x.shape[1]
    ):
        name = kind if rank is None else f"rank {rank}"
        for rho in SHRINKAGES if kind != "isotropic" else (0.0,):
            found = (score(scatter.mixture(kind, rho, rank)), kind, rank, rho)
            best[name] = max(best.get(name, found), found, key=lambda one: one[0])
    _, kind, rank, rho = max(best.values(), key=lambda one: one[0])
    return kind, rank, rho, {name: found[0] for name, found in best.items()}


def _kinds(num_classes: int, smallest: int, dim: int) -> Iterator[tuple[str, int | None]]:
    """Kinds of covariance that can be fitted and held."""
    yield "isotropic", None
    yield "diagonal", None
    for rank in RANKS:
        if rank < min(smallest, dim):
            yield "low-rank", rank
    if num_classes * dim**2 <= LARGEST:
        yield "full", None


def mixture_log_posterior(
    mixture: GaussianMixture, x: Float[Tensor, "N *event"], sigma: float
) -> Float[np.ndarray, "N C"]:
    """`log p(c | x)` of noised states under the mixture: a classifier that is closed form."""
    noisy = mixture.perturb(1.0, sigma)
    return np.asarray(log_class_posterior(noisy, jnp.asarray(x.flatten(1).double().numpy())))


def fit_of(model: StudiedModel, seed: int = 0, prior: ArrayLike | None = None) -> FittedMixture:
    """The mixture of a model's training states; encoders draw from the seed that follows.

    Its class weights are `prior`, by default the model's.

    Raises:
        ValueError: As `fitted_mixture`.
    """
    return fitted_mixture(
        model.states(model.fitted, seed + 1),
        class_weights(prior, model.denoiser),
        model.denoiser.sigma_range,
        model.covariance,
    )


def can_be_fitted(model: StudiedModel) -> bool:
    """Whether there is a training part with enough states of every class."""
    if model.data is None or model.data.train is None:
        return False
    counts = np.bincount(model.data.train.labels, minlength=model.denoiser.num_classes)
    return len(counts) == model.denoiser.num_classes and bool(counts.min() >= FEWEST)


def closed_form(
    model: StudiedModel, seed: int = 0
) -> Callable[[Partition, Float[np.ndarray, " L"]], EntropyCurve]:
    """The entropy curve of a partition by the mixture of a model's training states.

    Raises:
        ValueError: As `fitted_mixture`.
    """
    found = fit_of(model, seed)

    def theory(partition: Partition, log_snr: Float[np.ndarray, " L"]) -> EntropyCurve:
        return entropy_curve(
            found.mixture, log_snr, partition=partition, num_samples=2048, key=jax.random.key(seed)
        )

    return theory


def mixture_model(model: StudiedModel, seed: int = 0) -> NetworkDenoiser:
    """The mixture of a model's training states, posing as a model of the same states.

    Raises:
        ValueError: As `fitted_mixture`.
    """
    return mixture_denoiser(
        fit_of(model, seed).mixture,
        event_shape=tuple(model.denoiser.event_shape),
        sigma_range=model.denoiser.sigma_range,
    )
