"""Removing a class from a mixture, where the distribution without it is known.

The target is the mixture without the class, `p(x | not c)`, whose reverse process has the score
`s_{not c} = s - p / (1 - p) (s_c - s)`. Any other guided score s^ draws another distribution; the two path
measures are apart by (Girsanov, 1960)

    KL = integral of (sigma^2 / 2) E|s^ - s_{not c}|^2 dlambda,

mean over the target's own distribution: its integrand shows at which noise a kind of guidance goes wrong.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.special import rel_entr

from gmm_speciation.checks import ArrayLike, as_axis, as_count, check_label, expect, known, require
from gmm_speciation.control.distances import sliced_wasserstein
from gmm_speciation.estimate import Estimate, Readable
from gmm_speciation.guidance import Guidance
from gmm_speciation.guidance.posteriors import check_classes
from gmm_speciation.inference import Classes, class_posterior
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.processes import DiffusionProcess, variance_preserving
from gmm_speciation.samplers import label_denoiser, observe
from gmm_speciation.shares import Share

_FLOOR_SAMPLES = 8


class Removal(Readable):
    """What is left of a class, and how near the rest is to the mixture without it."""

    states: Float[Array, "n d"]
    removed_share: Share  # of the unwanted class
    target_removed_share: Share  # of it in a sample of the target: overlap of the classes
    shares: Share  # of the kept classes among themselves, (C - 1,)
    target_shares: Float[np.ndarray, " C"]
    balance: float  # KL(shares || target shares), nats
    distance: float  # sliced Wasserstein-2 to a sample of the target
    floor: Estimate  # the same between samples of the target: mean over pairs, standard deviation as error


def restricted(
    mixture: GaussianMixture, kept: Bool[np.ndarray, " K"], what: str
) -> GaussianMixture:
    """Some components alone, weights renormalised; `what` they are, for the error.

    Raises:
        ValueError: If they have no weight, where it is known.
    """
    log_weights = jnp.where(kept, mixture.log_weights, -jnp.inf)
    log_weights = require(
        log_weights,
        (known(log_weights) > -np.inf).any(),
        f"{what} has weight 0 in this mixture: there is no such distribution. Name another class, or "
        "give it weight.",
    )
    return eqx.tree_at(lambda law: law.log_weights, mixture, jax.nn.log_softmax(log_weights))


def class_distribution(
    mixture: GaussianMixture, label: int, partition: Partition
) -> GaussianMixture:
    """`p(x | c)`: the components of one class, weights renormalised.

    Raises:
        ValueError: If there is no such class, or it has weight 0.
    """
    check_label(label, partition.num_classes)
    return restricted(mixture, np.asarray(partition.labels) == label, f"Class {label}")


def without_class(
    mixture: GaussianMixture, label: int, partition: Classes = None
) -> GaussianMixture:
    """`p(x | not c)`: the components of the other classes, weights renormalised.

    Raises:
        ValueError: If no class or no weight is left, or there is no such class.
    """
    expect(mixture, GaussianMixture)
    partition = as_partition(partition, mixture.num_components)
    check_label(label, partition.num_classes)
    if partition.num_classes < 2:
        raise ValueError("Nothing is left without the only class; `partition` needs two or more.")
    kept = np.asarray(partition.labels) != label
    return restricted(mixture, kept, f"What is left without class {label}")


def nothing_read(x, denoised, level):
    """The read-out of those who want the end states alone."""
    return ()


def remove_class(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    times: ArrayLike,
    guidance: Guidance,
    label: int,
    *,
    key: PRNGKeyArray,
    num_samples: int = 4096,
    partition: Classes = None,
    method: str = "sde",
) -> Removal:
    """Draw with `guidance` and compare with the mixture without class `label`.

    Classes of end states are those of the mixture's posterior. Arguments as `samplers.sample`.

    Raises:
        ValueError: As `samplers.sample` and `without_class`.
    """
    expect(mixture, GaussianMixture)
    partition = as_partition(partition, mixture.num_components)
    target, num_samples = (
        without_class(mixture, label, partition),
        as_count(num_samples, "num_samples", 2),
    )
    key_path, key_lines, *key_target = jax.random.split(key, 3 + _FLOOR_SAMPLES)
    final = observe(
        mixture,
        process,
        times,
        nothing_read,
        key=key_path,
        num_samples=num_samples,
        guidance=guidance,
        partition=partition,
        method=method,
    ).final
    (alpha, sigma) = (
        scale(np.asarray(times, float)[-1]) for scale in (process.alpha, process.sigma)
    )
    last = target.perturb(alpha, sigma)
    one, *others = (last.sample(k, num_samples)[0] for k in key_target)
    floors = np.array([sliced_wasserstein(other, one, key=key_lines) for other in others])
    noisy = mixture.perturb(alpha, sigma)
    winner, of_target = (
        np.asarray(class_posterior(noisy, x, partition)).argmax(-1) for x in (final, one)
    )
    indicator = np.eye(partition.num_classes)[winner]
    kept = [c for c in range(partition.num_classes) if c != label]
    weights = np.exp(np.asarray(partition.log_sum(target.log_weights[None])[0]))[kept]
    left = indicator[np.isin(winner, kept)][:, kept]
    shares = Share.counted(left.mean(0) if len(left) else np.full(len(kept), np.nan), len(left))
    return Removal(
        final,
        Share.counted(indicator[:, label].mean(), num_samples),
        Share.counted((of_target == label).mean(), num_samples),
        shares,
        weights,
        float(rel_entr(np.asarray(shares.value), weights).sum()),
        sliced_wasserstein(final, one, key=key_lines),
        # How far a single distance strays, not how well their mean is known.
        Estimate(floors.mean(), floors.std(ddof=1), float(len(floors) - 1)),
    )


@eqx.filter_jit
def _errors(mixture, target, guidance, partition, levels, key, num_samples):
    component, normals = target.sample(key, num_samples)[1], jax.random.fold_in(key, 1)
    normals = jax.random.normal(normals, (num_samples, mixture.dim), mixture.centre.dtype)

    def at(level):
        alpha, sigma = variance_preserving(level)
        noisy = target.perturb(alpha, sigma)
        y = noisy.covariance.colour(normals, noisy.offsets, component)
        x = y + noisy.centre[None, :]
        denoise = lambda label: label_denoiser(mixture, x, alpha, sigma, partition, label)  # noqa: E731
        guided, _ = guidance.step(guidance.init(x), x, (alpha, sigma), denoise)
        exact = label_denoiser(target, x, alpha, sigma, partition, None)
        return jnp.exp(level) / 2 * jnp.sum((guided - exact) ** 2, -1)

    return jax.lax.map(at, levels)


def removal_error(
    mixture: GaussianMixture,
    guidance: Guidance,
    label: int,
    log_snr: ArrayLike,
    *,
    key: PRNGKeyArray,
    num_samples: int = 2048,
    partition: Classes = None,
) -> Estimate:
    """`(sigma^2 / 2) E|s^ - s_{not c}|^2` at each log-SNR, nats of path divergence per unit of it.

    For kinds without a memory: each level is met afresh.

    Raises:
        ValueError: As `without_class`, or if the guidance tracks not all classes or its posterior has others.
    """
    expect(mixture, GaussianMixture)
    partition = as_partition(partition, mixture.num_components)
    check_classes(guidance, partition.num_classes, partition)
    target, num_samples = (
        without_class(mixture, label, partition),
        as_count(num_samples, "num_samples", 2),
    )
    levels = jnp.asarray(as_axis(log_snr, "log_snr", "be finite", np.isfinite))
    values = _errors(mixture, target, guidance, partition, levels, key, num_samples)
    return Estimate.from_samples(np.asarray(values), 1)
