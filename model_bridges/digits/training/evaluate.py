"""How good a model of digits is: generated images, memorisation, denoising loss.

*Recognition*: share of generated images that an independent classifier assigns to the class asked
for. *Memorisation*: Euclidean distance, in standardised units, from an image to its nearest
training image; a copying model has distances far below those of held-out real images. *Loss*: the
weighted squared error per pixel `lambda(sigma) |D - x_0|^2 / 64` at fixed noise levels, with
`lambda = (sigma^2 + sigma_d^2) / (sigma sigma_d)^2`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from model_bridges.denoisers.base import Unconditional
from model_bridges.digits.classifier import DigitClassifier
from model_bridges.digits.data import NUM_CLASSES, SIGMA_DATA, Digits
from model_bridges.samplers import DenoiserFunction, Method, karras_sigmas, sample

LOSS_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 80.0)
SAMPLER_STEPS = 40


@dataclass(frozen=True)
class DistanceSummary:
    """Quantiles of the distance to the nearest training image, in standardised units."""

    quantile_05: float
    median: float
    quantile_95: float


@dataclass(frozen=True)
class GeneratedQuality:
    """Judgement of generated digits beside held-out real ones."""

    num_generated: int
    classifier_held_out_accuracy: float
    recognised: float
    recognised_per_class: tuple[float, ...]
    num_classes_present: int
    generated_distance: DistanceSummary
    held_out_distance: DistanceSummary


def generate(
    denoiser: DenoiserFunction,
    shape: tuple[int, ...],
    sigma_range: tuple[float, float],
    label: Int[Tensor, " n"] | Unconditional | None,
    *,
    seed: int = 0,
    num_steps: int = SAMPLER_STEPS,
    method: Method = "ancestral",
) -> Float[Tensor, "N *event"]:
    """Sample `(N, *event)` states; arguments and errors as `samplers`'."""
    generator = torch.Generator().manual_seed(seed)
    sigmas = karras_sigmas(num_steps, *sigma_range)
    return sample(denoiser, shape, sigmas, label, generator=generator, method=method)


def nearest_distance(
    images: Float[Tensor, "n 1 8 8"], reference: Float[Tensor, "m 1 8 8"]
) -> Float[Tensor, " n"]:
    """Euclidean distance from each image to the nearest reference image."""
    return torch.cdist(images.flatten(1).double(), reference.flatten(1).double()).min(1).values


def judge(
    images: Float[Tensor, "n 1 8 8"], labels: Int[Tensor, " n"], digits: Digits
) -> GeneratedQuality:
    """Judge standardised digits that were generated for these classes, every class among them."""
    classifier = DigitClassifier(digits)
    predicted = classifier.predict(images)
    right = predicted == labels.numpy()
    per_class = [float(right[labels.numpy() == c].mean()) for c in range(NUM_CLASSES)]
    return GeneratedQuality(
        num_generated=len(labels),
        classifier_held_out_accuracy=classifier.accuracy(
            digits.held_out_images, digits.held_out_labels
        ),
        recognised=float(right.mean()),
        recognised_per_class=tuple(per_class),
        num_classes_present=len(np.unique(predicted)),
        generated_distance=_summary(nearest_distance(images, digits.train_images)),
        held_out_distance=_summary(nearest_distance(digits.held_out_images, digits.train_images)),
    )


def denoising_loss(
    network: DenoiserFunction,
    images: Float[Tensor, "N *event"],
    labels: Int[Tensor, " N"] | Unconditional | None,
    *,
    sigmas: Sequence[float] = LOSS_SIGMAS,
    sigma_data: float = SIGMA_DATA,
    seed: int = 0,
    repeats: int = 2,
) -> dict[float, float]:
    """Weighted squared error per entry at each noise level.

    Args:
        network: `network(x, sigma, labels)` is the posterior mean.
        images: Clean images.
        labels: What the network takes beside them; `None` for an unconditional network.
        sigmas: Noise levels.
        sigma_data: Standard deviation of the data, for the weight.
        seed: Of the noise.
        repeats: Noise draws an image.
    """
    generator = torch.Generator().manual_seed(seed)
    losses = {}
    with torch.no_grad():
        for sigma in sigmas:
            weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
            errors = []
            for _ in range(repeats):
                noisy = images + sigma * torch.randn(images.shape, generator=generator)
                errors.append((network(noisy, sigma, labels) - images).square().mean())
            losses[sigma] = weight * float(torch.stack(errors).mean())
    return losses


def _summary(distance: Tensor) -> DistanceSummary:
    low, median, high = (float(distance.quantile(q)) for q in (0.05, 0.5, 0.95))
    return DistanceSummary(low, median, high)
