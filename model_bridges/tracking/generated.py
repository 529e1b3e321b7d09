"""Trajectories that a model generates itself, and the same tracking along them.

A trajectory starts from noise at the largest level and follows the ancestral kernel of one class, of
the unconditional model, or of another denoiser. Along it every class is tracked as along a data path.
Each step was drawn from the kernel of the tracked chain, so for trajectories of the classes themselves
the posterior is exact at any step, and nothing is extrapolated.

What is averaged over is the distribution of the model's samples, not of data. Under a guided denoiser the
read-out against the class asked for is a cross-entropy of the guided distribution, not an entropy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from gmm_speciation.checks import as_count
from gmm_speciation.guidance.intervals import warn_of_idle
from gmm_speciation.partitions import Partition
from gmm_speciation.progress import Parts, Progress
from gmm_speciation.tracking import reverse_kernel
from model_bridges.denoisers.arrays import Labels, as_labels
from model_bridges.denoisers.base import Denoiser, Sigma, Unconditional, own_mean
from model_bridges.denoisers.checks import check_levels, class_weights
from model_bridges.denoisers.devices import brought
from model_bridges.tracking.forward import track
from model_bridges.tracking.tracked import TrackedPosterior

Mean = Callable[[Tensor, Sigma, Int[Tensor, " B"] | Unconditional], Tensor]


@torch.no_grad()
def generate_paths(
    denoiser: Mean,
    labels: Int[Tensor, " N"] | Unconditional,
    sigmas: Float[np.ndarray, " L"],
    event_shape: tuple[int, ...],
    num_paths: int,
    *,
    seed: int = 0,
    first: int = 0,
    max_batch: int = 1024,
) -> tuple[Float[Tensor, "L N *event"], Float[Tensor, "N *event"]]:
    """Trajectories at increasing levels, and the posterior means at the cleanest one.

    The noise depends on `seed` and the index of the trajectory alone, `first` being that of the first.
    A guided model whose interval holds no level warns.
    """
    warn_of_idle(getattr(denoiser, "guidance", None), sigmas)
    states, ends = [], []
    for start in range(0, num_paths, as_count(max_batch, "max_batch")):
        index = range(start, min(start + max_batch, num_paths))
        generators = [np.random.default_rng([seed, 0x6E, first + i]) for i in index]
        label = labels
        if not isinstance(labels, Unconditional):
            label = brought(denoiser, labels[index.start : index.stop])

        def noise(generators=generators) -> Tensor:
            rows = [g.standard_normal(event_shape) for g in generators]
            return brought(denoiser, torch.from_numpy(np.stack(rows)))

        path = [float(sigmas[-1]) * noise()]
        for i in range(len(sigmas) - 1, 0, -1):
            sigma, cleaner = float(sigmas[i]), float(sigmas[i - 1])
            denoised = own_mean(denoiser, path[-1], sigma, label)
            mean, variance = reverse_kernel(path[-1], denoised, sigma, cleaner)
            path.append(mean + variance**0.5 * noise())
        ends.append(own_mean(denoiser, path[-1], float(sigmas[0]), label))
        states.append(torch.stack(path[::-1]))
    return torch.cat(states, 1), torch.cat(ends)


def generated_posterior(
    denoiser: Denoiser,
    num_paths: int,
    *,
    labels: Labels | Unconditional | None = None,
    generator: Mean | None = None,
    generator_name: str = "the model",
    sigmas: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    partitions: Mapping[str, Partition | Sequence[int]] | None = None,
    seed: int = 0,
    first: int = 0,
    max_batch: int = 1024,
    progress: Progress | Parts | None = None,
) -> tuple[TrackedPosterior, Float[Tensor, "N *event"]]:
    """Track the classes along trajectories of the model's own; also returns what they ended on.

    Args:
        denoiser: The model whose classes are tracked.
        num_paths: Number of trajectories.
        labels: Class of each, or `UNCONDITIONAL`; by default drawn from the prior.
        generator: What drives them, such as a guided denoiser; the model itself by default.
        generator_name: What to call it.
        sigmas: Levels, at least two; 64 by default, equally spaced in log sigma.
        prior, partitions, max_batch, progress: As in `track`.
        seed: Fixes labels and noise.
        first: Index of the first trajectory, for a part of a larger set.

    Raises:
        ValueError: If a number, the labels, the prior or a partition does not fit the model.
    """
    num_paths, seed = as_count(num_paths, "num_paths"), as_count(seed, "seed", 0)
    weights = class_weights(prior, denoiser)
    if labels is None:
        rows = [np.random.default_rng([seed, 0x6C, first + i]) for i in range(num_paths)]
        draws = [int(row.choice(len(weights), p=weights)) for row in rows]
        labels = torch.tensor(draws)
    elif not isinstance(labels, Unconditional):
        labels = as_labels(labels, num_paths, denoiser.num_classes)
    levels = check_levels(sigmas, denoiser.sigma_range)
    paths, ends = generate_paths(
        denoiser if generator is None else generator,
        labels,
        levels,
        tuple(denoiser.event_shape),
        num_paths,
        seed=seed,
        first=first,
        max_batch=max_batch,
    )
    record = track(
        denoiser,
        ends.double(),
        None if isinstance(labels, Unconditional) else labels,
        sigmas=levels,
        prior=weights,
        partitions=partitions,
        seed=seed,
        max_batch=max_batch,
        progress=progress,
        paths=paths,
    )
    kind = "unconditional" if isinstance(labels, Unconditional) else "class-conditional"
    cost = len(levels) * num_paths
    return (
        replace(
            record,
            coarse=record.fine,  # the fine chain is the one that was drawn from
            path_law=f"{kind} trajectories of {generator_name}",
            evaluations=record.evaluations + cost,
        ),
        ends,
    )
