"""The cross-check of a model of the digits: data, semantic variables, theory and bounds put together.

Semantic variables of a digit: which one it is; whether its usual shape has a closed loop (0, 6, 8, 9);
whether it is even. The loop and the digit form a hierarchy of two levels. All of it happens in the model's
own states, see `subject`.
"""

import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.progress import SILENT, Progress
from model_bridges.crosscheck.compare import crosscheck
from model_bridges.crosscheck.results import CrossCheck
from model_bridges.crosscheck.theory import fitted_mixture, mixture_log_posterior
from model_bridges.digits.data import NUM_CLASSES, PARTITIONS, load_digits
from model_bridges.digits.noisy_classifier import noisy_cross_entropy, train_noisy_classifier
from model_bridges.digits.subject import Subject, digits_images, digits_subject, generated_images
from model_bridges.images.labelled import LabelledImages

SHOWN = 10  # samples of each class in a report
DEFAULT_NUM_LEVELS = 40
DEFAULT_NUM_PATHS = 2


def crosscheck_digits(
    source: str = "held-out",
    *,
    subject: Subject | None = None,
    generate: int | None = None,
    num_levels: int = DEFAULT_NUM_LEVELS,
    num_paths: int = DEFAULT_NUM_PATHS,
    seed: int = 0,
    progress: Progress = SILENT,
) -> CrossCheck:
    """The cross-check of a model of the digits.

    Args:
        source: Distribution of the data, see `digits_images`; not used with `generate`.
        subject: The model; the shipped EDM2 networks by default.
        generate: Average over this many images of the model's own instead.
        num_levels: Noise levels, equally spaced in log sigma over the trained range.
        num_paths: Noise paths of each image.
        seed: Of everything random.
        progress: Told of each stage and of its parts.

    Raises:
        ValueError: If there are fewer than nine levels, or as `digits_images`, `generated_images`.
    """
    if num_levels < 9:
        raise ValueError(f"A curve needs at least 9 noise levels; got {num_levels}.")
    if subject is None:
        subject = digits_subject()
    digits, denoiser = load_digits(), subject.denoiser
    progress.step("images")
    if generate is None:
        data = subject.states(digits_images(digits, source), seed)
    else:
        data = generated_images(subject, generate, seed)
    samples = None
    if subject.decode is not None:
        samples = data if generate else generated_images(subject, SHOWN * NUM_CLASSES, seed)
    sigmas = np.geomspace(*denoiser.sigma_range, num_levels)
    progress.step("fitting the mixture")
    train = subject.states(digits_images(digits, "train"), seed + 1)
    mixture, shrinkage = fitted_mixture(train)
    progress.step("training a classifier of noisy digits")
    bounds = _bounds(subject, train, data, mixture, sigmas, seed, progress)
    progress.step("tracking every image through the noise")
    return crosscheck(
        denoiser,
        data,
        mixture,
        partitions=PARTITIONS,
        nested=("closed loop", subject.class_name),
        class_name=subject.class_name,
        bounds=bounds,
        shrinkage=shrinkage,
        sigmas=sigmas,
        num_paths=num_paths,
        seed=seed,
        reference=subject.reference,
        samples=samples,
        progress=progress,
    )


def _bounds(
    subject: Subject,
    train: LabelledImages,
    data: LabelledImages,
    mixture: GaussianMixture,
    sigmas: Float[np.ndarray, " L"],
    seed: int,
    progress: Progress,
) -> dict[str, dict[str, Estimate]]:
    """Cross-entropies of posteriors that do not know the model, by variable and name."""
    classifier = train_noisy_classifier(
        train.images,
        train.labels,
        subject.denoiser.sigma_range,
        sigma_data=subject.sigma_data,
        seed=seed,
        progress=progress,
    )

    def network_posterior(x: Tensor, sigma: float) -> np.ndarray:
        return classifier(x, torch.full((len(x),), sigma)).double().numpy()

    def theory_posterior(x: Tensor, sigma: float) -> np.ndarray:
        return mixture_log_posterior(mixture, x, sigma)

    progress.step("bounds from posteriors that do not know the model")
    bounds: dict[str, dict[str, Estimate]] = {}
    groupings = {subject.class_name: Partition.trivial(NUM_CLASSES), **PARTITIONS}
    for name, partition in groupings.items():
        labels = np.asarray(partition.labels)[data.labels.numpy()]
        bounds[name] = {}
        for posterior, who in (
            (network_posterior, "independent classifier"),
            (theory_posterior, "posterior of the fitted mixture"),
        ):

            def grouped(x, sigma, posterior=posterior, partition=partition):
                return np.asarray(partition.log_sum(jnp.asarray(posterior(x, sigma))))

            bounds[name][who] = noisy_cross_entropy(grouped, data.images, labels, sigmas, seed=seed)
    return bounds
