"""Every pair of classes at once, from the tracked posteriors of one pass.

With the tracked log-posteriors `l_k` of all classes, the posterior between two of them alone is

    p_ab(x) = e^(l_a) / (e^(l_a) + e^(l_b)),
    H_ab = (pi_a E_a h(p_ab) + pi_b E_b h(p_ab)) / (pi_a + pi_b)

with h the binary entropy and E_k the mean over images of class k: no evaluation of the model beyond the
pass. The pair's *half-entropy point* is the log-SNR at which H_ab is half of what it is in pure noise. Three
accounts of it stand side by side: that of the model; that of a mixture, from draws of its own; and the
spectral law of two Gaussians of the same shape (Biroli et al. 2024, arXiv 2402.18491, for a pair),

    lambda = -log(|m_a - m_b|^2 / 4).

Pairs share classes and images, so no two are independent: errors are those of images, left out group by
group from every pair at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import PchipInterpolator
from scipy.special import entr, expit

from gmm_speciation.estimate import Estimate
from gmm_speciation.inference import noised_log_posterior
from gmm_speciation.mixtures import GaussianMixture
from model_bridges.tracking.tracked import TrackedPosterior

NUM_BATCHES = 16
MOST_CLASSES = 100  # 4950 pairs
NUM_DRAWS = 256  # of each component of a mixture
_FINE = 32  # points between two levels where a crossing is looked for

_SAME_POINT = 1e-6  # spread of log-SNR that is rounding
_FIT = ("slope", "residual", "correlation")

Points = Float[np.ndarray, "R P"]


@dataclass(frozen=True, eq=False)
class PairEntropies:
    """Binary entropies of images between their own class and every other one.

    `values[i]` holds those of class `classes[i]`, one a level, other class and image `(n_i, C, L)`.
    """

    log_snr: Float[np.ndarray, " L"]  # strictly decreasing
    classes: Int[np.ndarray, " C"]
    prior: Float[np.ndarray, " C"]
    values: list[Float[np.ndarray, "_ C L"]]

    @property
    def pairs(self) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Places in `classes` of the first and the second class of every pair."""
        return np.triu_indices(len(self.classes), 1)

    def points(self, weights: list[Float[np.ndarray, "R _"]]) -> Points:
        """Half-entropy points of all pairs, with the images of class i weighed by each row of `weights[i]`.

        Where a pair keeps more than half of its entropy at every level there is none: NaN.
        """
        first, second = self.pairs
        means = [
            np.einsum("rn,ncl->rcl", w / w.sum(1, keepdims=True), v)
            for w, v in zip(weights, self.values, strict=True)
        ]
        share = self.prior[first] / (self.prior[first] + self.prior[second])
        found = np.empty((len(weights[0]), len(first)))
        for place, (a, b) in enumerate(zip(first, second, strict=True)):
            entropy = share[place] * means[a][:, b] + (1 - share[place]) * means[b][:, a]
            whole = entr(share[place]) + entr(1 - share[place])
            found[:, place] = _crossings(self.log_snr, entropy, whole / 2)
        return found

    def estimate(self) -> tuple[Float[np.ndarray, " P"], Points]:
        """Half-entropy points of all images, and without each group of them."""
        sizes = [len(v) for v in self.values]
        groups = [np.arange(size) % NUM_BATCHES for size in sizes]
        whole = self.points([np.ones((1, size)) for size in sizes])[0]
        num_batches = min(NUM_BATCHES, max(sizes))
        without = [
            np.stack([(group != r).astype(float) for r in range(num_batches)]) for group in groups
        ]
        return whole, self.points(without)

    def resampled(self, num: int, seed: int = 0) -> Points:
        """Half-entropy points of `num` bootstrap samples of the images, class by class."""
        rng = np.random.default_rng(seed)
        sizes = [len(v) for v in self.values]
        return self.points(
            [rng.multinomial(n, np.full(n, 1 / n), num).astype(float) for n in sizes]
        )


def classes_with_images(record: TrackedPosterior) -> Int[np.ndarray, " C"]:
    """The classes of two images or more.

    Raises:
        ValueError: If it was tracked without labels.
    """
    labels = record.group_labels(None)[:: record.num_paths]
    return np.flatnonzero(np.bincount(labels, minlength=len(record.prior)) >= 2)


def tracked_pairs(record: TrackedPosterior) -> PairEntropies:
    """Pairs of the classes that have two images or more.

    Raises:
        ValueError: If it was tracked without labels, or fewer than two or too many classes have two images.
    """
    labels, classes = record.group_labels(None)[:: record.num_paths], classes_with_images(record)
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise ValueError(
            f"Pairs are those of 2 to {MOST_CLASSES} classes of two images or more; got {len(classes)}."
        )

    def entropies(own: int) -> Float[np.ndarray, "n C L"]:
        images = record.images(np.flatnonzero(labels == own))

        def between(log_posterior: Float[np.ndarray, "L N K"]) -> Float[np.ndarray, "L N C"]:
            chosen = log_posterior[..., classes]
            return _binary(chosen - log_posterior[..., own, None])

        # Extrapolated in the step, as every average over tracked posteriors.
        value = 2 * between(images.fine.log_posterior) - between(images.coarse.log_posterior)
        by_image = value.reshape(len(value), images.num_images, record.num_paths, -1).mean(2)
        return np.transpose(by_image, (1, 2, 0))

    values = [entropies(int(own)) for own in classes]
    return PairEntropies(record.log_snr, classes, record.prior[classes], values)


def mixture_pairs(
    mixture: GaussianMixture,
    log_snr: Float[np.ndarray, " L"],
    classes: Int[np.ndarray, " C"],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> PairEntropies:
    """The same of draws of a mixture, one component a class."""
    key_clean, key_noise = jax.random.split(jax.random.key(seed))
    component = jnp.repeat(jnp.asarray(classes), num_draws)
    clean = mixture.covariance.sample(key_clean, mixture.offsets, component)
    clean = clean + mixture.centre[None, :]
    noise = jax.random.normal(key_noise, clean.shape, clean.dtype)
    sigmas = jnp.exp(-jnp.asarray(log_snr, clean.dtype) / 2)
    posterior = np.asarray(noised_log_posterior(mixture, clean, noise, sigmas))
    own = posterior[:, np.arange(len(component)), np.asarray(component)]
    stack = np.moveaxis(_binary(posterior[..., classes] - own[..., None]), 0, -1)  # (n, C, L)
    prior = np.asarray(mixture.weights, float)[classes]
    return PairEntropies(np.asarray(log_snr), classes, prior, np.split(stack, len(classes)))


def pairwise_spectral(
    mixture: GaussianMixture, first: Int[np.ndarray, " P"], second: Int[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """`-log(|m_a - m_b|^2 / 4)` of the class means."""
    means = np.asarray(mixture.offsets, float)
    return -np.log(((means[first] - means[second]) ** 2).sum(-1) / 4)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Half-entropy points of every pair of classes `(a, b)`, log-SNR; NaN where there is none.

    `slope` is that of the measured points on the predicted ones (least squares), `residual` the root mean
    square of measured minus predicted, `correlation` theirs; the same of the spectral law.
    """

    a: Int[np.ndarray, " P"]
    b: Int[np.ndarray, " P"]
    measured: Estimate
    predicted: Estimate
    spectral: Float[np.ndarray, " P"]
    slope: Estimate
    residual: Estimate
    correlation: Estimate
    spectral_slope: Estimate
    spectral_residual: Estimate
    spectral_correlation: Estimate

    def __repr__(self) -> str:
        found = np.flatnonzero(np.isfinite(self.measured.value))
        order = found[np.argsort(np.asarray(self.measured.value)[found])]
        ends = (
            f"λ from {self.measured[order[0]]} to {self.measured[order[-1]]}"
            if len(found)
            else "none"
        )
        fits = (self.slope, self.residual, self.correlation)
        spectral = (self.spectral_slope, self.spectral_residual, self.spectral_correlation)
        lines = [
            ", ".join(f"{name} {one}" for name, one in zip(_FIT, of, strict=True))
            for of in (fits, spectral)
        ]
        return (
            f"Pairs({len(self.a)} pairs of {len({*self.a, *self.b})} classes, {len(found)} with a "
            f"half-entropy point, {ends}; on the mixture's: {lines[0]}; on the spectral law's: {lines[1]})"
        )

    def plot(self, class_names: Sequence[str] | None = None) -> list[Any]:
        """Measured points against the mixture's and the spectral law's; returns the matplotlib axes.

        Args:
            class_names: Of all classes of the model; their numbers by default.
        """
        plotting = import_module("model_bridges.crosscheck.plotting")  # lies above this module
        names = class_names or [str(k) for k in range(max(*self.a, *self.b) + 1)]
        return plotting.plot_pairs(self, list(names)).axes


def compare_pairs(
    measured: PairEntropies, expected: PairEntropies, mixture: GaussianMixture
) -> Pairs:
    """Measured half-entropy points beside those of a mixture with one component a class.

    Slopes, residuals and correlations are NaN where fewer than three pairs have both points, slopes and
    correlations where all predicted points are one, as those of equidistant classes are.

    Args:
        measured: Of tracked posteriors.
        expected: Of draws of the mixture, with the same classes.
        mixture: For the spectral law.
    """
    first, second = measured.pairs
    found, found_without = measured.estimate()
    theory, theory_without = expected.estimate()
    a, b = measured.classes[first], measured.classes[second]
    spectral = pairwise_spectral(mixture, a, b)
    both = np.isfinite(found) & np.isfinite(theory) & np.isfinite(found_without).all(0)

    def lines(of: np.ndarray) -> tuple[Estimate, ...]:
        rows = [_line(of[both], points[both]) for points in (found, *found_without)]
        return tuple(
            Estimate.jackknife(np.asarray(one[0]), np.asarray(one[1:]))
            for one in np.transpose(rows)
        )

    return Pairs(
        a,
        b,
        Estimate.jackknife(found, found_without),
        Estimate.jackknife(theory, theory_without),
        spectral,
        *lines(theory),
        *lines(spectral),
    )


def _line(x: Float[np.ndarray, " P"], y: Float[np.ndarray, " P"]) -> tuple[float, float, float]:
    """Slope of y on x, root mean square of y - x, correlation."""
    if len(x) < 3:
        return np.nan, np.nan, np.nan
    covariance = np.cov(x, y)
    deviations = np.sqrt(np.diag(covariance))
    residual = float(np.sqrt(np.mean((y - x) ** 2)))
    if np.ptp(x) < _SAME_POINT:
        return np.nan, residual, np.nan
    return covariance[0, 1] / covariance[0, 0], residual, covariance[0, 1] / np.prod(deviations)


def _binary(logit: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """Entropy of `sigmoid(logit)`, nats."""
    return entr(expit(logit)) + entr(expit(-logit))


def _crossings(
    log_snr: Float[np.ndarray, " L"], entropy: Float[np.ndarray, "R L"], level: float
) -> Float[np.ndarray, " R"]:
    """Log-SNR at which each entropy, coming from the noise, has first fallen to `level`; NaN if never."""
    x = log_snr[::-1]
    # Sampling noise may bend a monotone function; its running minimum is the nearest we know.
    y = np.minimum.accumulate(entropy[:, ::-1], 1)
    inside = np.linspace(0, 1, _FINE, endpoint=False)
    fine = np.r_[(x[:-1, None] + np.diff(x)[:, None] * inside).ravel(), x[-1]]
    values = PchipInterpolator(x, y, axis=1)(fine)
    below = values <= level
    after = np.maximum(below.argmax(1), 1)
    rows = np.arange(len(values))
    high, low = values[rows, after - 1], values[rows, after]
    step = np.where(high > low, (high - level) / np.where(high > low, high - low, 1.0), 0.0)
    found = fine[after - 1] + step * (fine[after] - fine[after - 1])
    return np.where(below.any(1), found, np.nan)
