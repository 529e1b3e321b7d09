"""Guided reverse sampling in all dimensions of a mixture: its information and what it ends in.

Along reverse trajectories with any guided score s^ the posterior of a class obeys, in the log-SNR lambda,

    d log p_c = sigma^2 (s_c - s) . [s^ - s - (s_c - s) / 2] dlambda + sigma (s_c - s) . dW,

so `-dCE/dlambda = gamma E[(D_c - D) . (D^ - D - (D_c - D) / 2)]` with posterior means D and gamma the
SNR; classifier-free guidance with scale w has `(2w - 1) (gamma / 2) E|D_c - D|^2`. Stochastic steps only.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gmm_speciation.checks import ArrayLike, as_count, as_points, expect
from gmm_speciation.control.removal import class_distribution
from gmm_speciation.covariances import product
from gmm_speciation.estimate import Estimate, Readable
from gmm_speciation.guidance import Guidance, GuidedCurve
from gmm_speciation.inference import Classes, class_posterior, denoiser, log_class_posterior
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.samplers import label_denoiser, observe
from gmm_speciation.shares import Share, bounded_mean


class ClassReadout(eqx.Module):
    """`-log p(c|x)` and the integrand of its rate, a value a trajectory."""

    mixture: GaussianMixture
    partition: Partition
    label: int = eqx.field(static=True)

    def __call__(self, x: Array, denoised: Array, level: tuple) -> tuple[Array, Array]:
        alpha, sigma = level
        log_p = log_class_posterior(self.mixture.perturb(alpha, sigma), x, self.partition)
        whole = denoiser(self.mixture, x, alpha, sigma)
        gap = label_denoiser(self.mixture, x, alpha, sigma, self.partition, self.label) - whole
        rate = (alpha / sigma) ** 2 * jnp.sum(gap * (denoised - whole - gap / 2), -1)
        return -log_p[:, self.label], rate


class Outcome(Readable):
    """Where guided trajectories end."""

    states: Float[Array, "n d"]
    shares: Share  # of the classes, (C,), by the posterior of the clean mixture
    confidence: Estimate  # E p(c|x) of the guided class
    # Variance of the states over that of the class, traces of covariances; not defined of a point.
    diversity: Estimate
    precision: Share  # share inside the densest region that holds 95 % of the class
    recall: Share  # share of the class whose log-odds lie among the central 95 % of the states'


class GuidedRun(Readable):
    """The curve of the guided class along the trajectories, and their ends."""

    curve: GuidedCurve
    outcome: Outcome


def guided_run(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    times: ArrayLike,
    guidance: Guidance,
    label: int,
    *,
    key: PRNGKeyArray,
    num_samples: int = 4096,
    partition: Classes = None,
) -> GuidedRun:
    """Draw guided trajectories by ancestral steps and read the class `label` along them.

    Args:
        mixture: The clean distribution.
        process: The clock.
        times: Strictly decreasing, from noise to signal.
        guidance: Any kind.
        label: The class read.
        key: Random key.
        num_samples: Trajectories.
        partition: Class of each component; every component its own by default.

    Raises:
        ValueError: As `samplers.sample`, or if the class has weight 0.
    """
    expect(mixture, GaussianMixture)
    partition = as_partition(partition, mixture.num_components)
    class_distribution(mixture, label, partition)  # before anything is drawn
    num_samples, label = as_count(num_samples, "num_samples", 2), int(label)
    seen = observe(
        mixture,
        process,
        times,
        ClassReadout(mixture, partition, label),
        key=key,
        num_samples=num_samples,
        guidance=guidance,
        partition=partition,
    )
    losses, rates = (np.asarray(part) for part in seen.readings)
    curve = GuidedCurve.of_trajectories(
        np.asarray(seen.log_snr),
        losses,
        rates,
        float(-partition.log_sum(mixture.log_weights[None])[0, label]),
        f"{num_samples} trajectories, {len(losses)} steps",
    )
    last = np.asarray(times, float)[-1]
    noisy = mixture.perturb(process.alpha(last), process.sigma(last))
    # Of no path: these have the keys 0 and 1 that a split of `key` gives.
    own = jax.random.fold_in(key, 2)
    return GuidedRun(curve, outcome(noisy, seen.final, label, partition, key=own))


def outcome(
    mixture: GaussianMixture,
    states: ArrayLike,
    label: int,
    partition: Classes = None,
    *,
    key: PRNGKeyArray,
) -> Outcome:
    """What end states are beside the distribution of their class.

    Precision and recall are those of Kynkaanniemi et al. 2019 (arXiv 1904.06991) where distributions are
    known: the class's support is its densest 95 %, and that of the states, along which guidance moves them,
    is the central 95 % of their log-odds. Draws of the class have 0.95 of both.

    Args:
        mixture: Distribution of all classes at the noise of the states.
        states: Drawn for class `label`, `(n, d)`.
        label: The class.
        partition: Class of each component; every component its own by default.
        key: Of as many draws of the class.

    Raises:
        ValueError: If there is no such class, it has weight 0, or the states are not two or more finite
            rows.
    """
    expect(mixture, GaussianMixture)
    partition = as_partition(partition, mixture.num_components)
    of_class = class_distribution(mixture, label, partition)
    states = as_points(states, "states")
    own = of_class.sample(key, len(states))[0]
    posterior = np.asarray(class_posterior(mixture, states, partition))
    winner = np.eye(partition.num_classes)[posterior.argmax(-1)]
    density, odds = (
        [np.asarray(of(x)) for x in (own, states)]
        for of in (of_class.log_prob, lambda x: _log_odds(mixture, x, label, partition))
    )
    squares = np.sum((np.asarray(states) - np.asarray(states).mean(0)) ** 2, -1)
    squares = squares * len(squares) / (len(squares) - 1)
    variance = _variance(of_class)
    spread = Estimate.from_samples(squares / (variance if variance > 0 else np.nan))
    return Outcome(
        states,
        Share.counted(winner.mean(0), len(states)),
        bounded_mean(posterior[:, label]),
        spread,
        _between(density[1], density[0], 0.05, 1.0),
        _between(odds[0], odds[1], 0.025, 0.975),
    )


def _between(values: np.ndarray, others: np.ndarray, low: float, high: float) -> Share:
    """Share of n values between two quantiles of as many others, whose own errors it carries."""

    def share(low: float, high: float) -> float:
        ends = np.quantile(others, np.clip([low, high], 0, 1))
        return float(((values >= ends[0]) & ((values <= ends[1]) | (high >= 1))).mean())

    n = len(values)
    one, other = (np.sqrt(q * (1 - q) / n) for q in (low, high))
    found = Share.counted(share(low, high), n)
    by_low = (share(low - one, high) - share(low + one, high)) / 2
    by_high = (share(low, high + other) - share(low, high - other)) / 2
    stderr = np.sqrt(found.stderr**2 + by_low**2 + by_high**2)
    return Share.of(Estimate(found.value, stderr), n)


def _log_odds(mixture: GaussianMixture, x: Array, label: int, partition: Partition) -> np.ndarray:
    log_p = np.array(log_class_posterior(mixture, x, partition))
    own = log_p[:, label].copy()
    log_p[:, label] = -np.inf
    # Points are infinitely sure of their class; quantiles need numbers.
    most = np.finfo(own.dtype).max / 4
    return np.clip(own - np.logaddexp.reduce(log_p, axis=1), -most, most)


def _variance(law: GaussianMixture) -> float:
    """Trace of the covariance."""
    within = law.covariance.eigenvalues(law.dim).sum(-1)
    centre = product(law.weights, law.offsets)
    between = jnp.sum((law.offsets - centre[None, :]) ** 2, -1)
    return float(jnp.sum(law.weights * (within + between)))
