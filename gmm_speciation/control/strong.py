"""Strong guidance on Gaussian mixtures: confidence, differential entropy, and a component that splits.

After Wu, Chen, Li, Wang & Wei 2024 (arXiv 2403.01639), of which the statements are taken and each is
measured: guidance raises the classifier's confidence in the guided class, path by path (SDE and ODE); it
lowers the differential entropy of what the ODE draws; and of three aligned components a strong guidance
splits the middle one.

Differential entropy needs no density estimate: a flow F maps the start distribution to the output, so

    h(output) = h(start) + E log |det F'|,

and two scales from one start differ by the mean of their log-determinants.

The splitting is one of finite steps: where the guided mean is far beyond the neighbours a step throws the
state across the middle and further out. In continuous time the force of the guidance points to the middle
from everywhere and only contracts; refining the steps at one scale heals the split. The paper's own text on
the third statement could not be read; what is measured here is stated in full by its parameters.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy import stats
from scipy.signal import find_peaks

from gmm_speciation.checks import ArrayLike, as_axis, as_count, as_values, expect
from gmm_speciation.control.distances import at_the_origin, quantiles
from gmm_speciation.control.removal import class_distribution, nothing_read
from gmm_speciation.estimate import Estimate, Readable
from gmm_speciation.guidance import ClassifierFree
from gmm_speciation.guidance.base import number
from gmm_speciation.inference import Classes, class_posterior
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import as_partition
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.samplers import ReverseLevels, observe, sample
from gmm_speciation.shares import Share

_FARTHEST = 7.0  # of a normal distribution, beyond which 3e-12 of it lie


class ConfidenceGain(Readable):
    """Guided against unguided paths of the same start and the same noise."""

    gain: Estimate  # E[p(c|x_0 guided) - p(c|x_0 unguided)]
    share_raised: Share  # of paths whose confidence did not fall


def confidence_gain(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    times: ArrayLike,
    label: int,
    scale: float,
    *,
    key: PRNGKeyArray,
    num_samples: int = 2048,
    method: str = "sde",
    partition: Classes = None,
) -> ConfidenceGain:
    """Confidence in class `label` with scale w against scale 1, path by path.

    Arguments as `samplers.sample`.

    Raises:
        ValueError: As there, or if the class has weight 0, or steps of this size throw paths out of all
            numbers.
    """
    expect(mixture, GaussianMixture)
    partition = as_partition(partition, mixture.num_components)
    class_distribution(mixture, label, partition)
    num_samples = as_count(num_samples, "num_samples", 2)
    scale = float(as_values(number(scale), "scale"))
    both = []
    for w in (scale, 1.0):
        final = observe(
            mixture,
            process,
            times,
            nothing_read,
            key=key,
            num_samples=num_samples,
            method=method,
            guidance=ClassifierFree(label, w),
            partition=partition,
        ).final
        lost = np.count_nonzero(~np.isfinite(final).all(1))
        if lost:
            raise ValueError(
                f"{lost} of {num_samples} paths at scale {w:g} end nowhere: they overflow. Take finer levels "
                "or a smaller scale."
            )
        both.append(np.asarray(class_posterior(mixture, final, partition))[:, label])
    # Saturated posteriors differ by rounding only.
    raised = Share.counted(np.mean(both[0] >= both[1] - 1e-12), num_samples)
    return ConfidenceGain(Estimate.from_samples(both[0] - both[1]), raised)


def output_entropies(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    times: ArrayLike,
    label: int,
    scales: ArrayLike,
    *,
    num_points: int = 4000,
) -> Float[np.ndarray, " W"]:
    """Differential entropy of what the ODE draws at each scale, nats, on the line; deterministic.

    The start distribution is that of the class at the noisiest level, on its quantiles of the probabilities
    Phi(z), z equally spaced: the trapezoidal rule in z sees the tails, where log p is not small.

    Raises:
        ValueError: If the mixture is not on the line, there is no such class or it has weight 0, there are
            fewer than 32 points, or a flow folds the line (too few steps).
    """
    mixture, num_points = at_the_origin(mixture), as_count(num_points, "num_points", 32)
    partition = as_partition(None, mixture.num_components)
    law = class_distribution(mixture, label, partition)
    law = law.perturb(*ReverseLevels.of(process, times, float).scales(0))
    z = np.linspace(-_FARTHEST, _FARTHEST, num_points)
    start, weights = quantiles(law, stats.norm.cdf(z)), stats.norm.pdf(z)
    density = np.exp(np.asarray(law.log_prob(jnp.asarray(start)[:, None])))
    entropies = []
    for w in np.atleast_1d(np.asarray(scales, float)):
        path = sample(
            mixture,
            process,
            times,
            key=jax.random.key(0),
            start=jnp.asarray(start)[:, None],
            method="ode",
            guidance=ClassifierFree(label, float(w)),
            partition=partition,
        )
        slope = np.diff(np.asarray(path.final[:, 0])) / np.diff(start)
        if not np.all(slope > 0):
            raise ValueError(f"The flow at scale {w:g} folds the line; take more steps.")
        log_slope = np.interp(start, (start[1:] + start[:-1]) / 2, np.log(slope))
        entropies.append(np.average(log_slope - np.log(density), weights=weights))
    return np.array(entropies)


def num_modes(values: ArrayLike) -> int:
    """Modes of a sample on the line: peaks of a kernel density that reach a tenth of the highest.

    Raises:
        ValueError: If they are not finite, or all the same.
    """
    values = as_axis(
        values,
        "values",
        "be finite and not all the same",
        lambda v: np.isfinite(v) & (np.ptp(v) > 0),
    )
    reach = np.quantile(values, [0.001, 0.999])
    margin = 0.2 * (reach[1] - reach[0])
    grid = np.linspace(reach[0] - margin, reach[1] + margin, 801)
    density = stats.gaussian_kde(values, bw_method=0.12)(grid)
    return len(find_peaks(density, height=density.max() / 10, prominence=density.max() / 10)[0])
