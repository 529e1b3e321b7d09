"""The cross-check of a model with its data: semantic variables, theory and bounds put together.

All of it happens in the model's own states. The theory's mixture and a classifier of noisy states are fitted
to the training part of the data, averages run over the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.progress import SILENT, Progress
from model_bridges.crosscheck.compare import compare
from model_bridges.crosscheck.noisy_classifier import noisy_cross_entropy, train_noisy_classifier
from model_bridges.crosscheck.results import CrossCheck
from model_bridges.crosscheck.theory import fitted_mixture, mixture_log_posterior
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.checks import class_weights
from model_bridges.entropy.own_samples import on_own_samples
from model_bridges.images.labelled import LabelledImages
from model_bridges.studied import StudiedModel

SHOWN, MOST_SHOWN = 10, 200  # samples of each class in a report, and of all
DEFAULT_NUM_LEVELS = 40
DEFAULT_NUM_PATHS = 2
CLASSIFIER_STEPS = 3000


def crosscheck(
    model: Denoiser | StudiedModel,
    data: LabelledImages | None = None,
    mixture: GaussianMixture | None = None,
    **options: Any,
) -> CrossCheck:
    """Measure a model by every estimator and put the theory of a mixture beside it.

    Args:
        model: A `StudiedModel`, which brings its data and has its mixture fitted; or a denoiser.
        data, mixture: Of a denoiser: what `compare` takes.
        **options: Of `crosscheck_model` or of `compare`.

    Raises:
        ValueError: As these; if a denoiser comes without data or mixture, or a `StudiedModel` with them.
    """
    if isinstance(model, StudiedModel):
        if data is not None or mixture is not None:
            raise ValueError(
                "A StudiedModel brings its data, and its mixture is fitted to them; give it others by "
                "`with_data`, or the denoiser alone with `data` and `mixture`."
            )
        return crosscheck_model(model, **options)
    if data is None or mixture is None:
        raise ValueError(
            "A denoiser alone has no data: give `data` and a `mixture` fitted to such data, or a model "
            "with its data, `mb.study(name, data=..., split=True)`."
        )
    return compare(model, data, mixture, **options)


@dataclass(frozen=True)
class Settings:
    """How closely a cross-check looks.

    Args:
        num_levels: Noise levels, equally spaced in log sigma over the trained range.
        num_paths: Noise paths of each image.
        covariance: Of the theory's mixture; that which the model names, else chosen by likelihood.
        seed: Of everything random.
    """

    num_levels: int = DEFAULT_NUM_LEVELS
    num_paths: int = DEFAULT_NUM_PATHS
    covariance: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_levels < 9:
            raise ValueError(f"A curve needs at least 9 noise levels; got {self.num_levels}.")


def crosscheck_model(
    model: StudiedModel,
    *,
    partitions: Mapping[str, Partition] | None = None,
    settings: Settings = Settings(),
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> CrossCheck:
    """The cross-check of a model on its data.

    Args:
        model: The model.
        partitions: Groupings of its classes besides the classes themselves; those it knows by default.
            The first one that is coarser forms a hierarchy with them.
        settings: How closely to look.
        folder: Of the tracking pass, which continues there.
        progress: Told of each stage and of its parts.

    Raises:
        ValueError: If there is nothing to average over or to fit, or as `fitted_mixture`, `compare`.
    """
    denoiser, seed = model.denoiser, settings.seed
    progress.step("images")
    data = model.states(model.averaged, seed)
    samples = _shown(model, data, seed)
    sigmas = np.geomspace(*denoiser.sigma_range, settings.num_levels)
    progress.step("fitting the mixture")
    train = model.states(model.fitted, seed + 1)
    kind = settings.covariance or model.covariance
    fit = fitted_mixture(train, class_weights(None, denoiser), denoiser.sigma_range, kind)
    groupings = dict(model.partitions if partitions is None else partitions)
    groupings.pop(model.class_name, None)
    every = {model.class_name: Partition.trivial(denoiser.num_classes), **groupings}
    bounds = _bounds(model, train, data, fit.mixture, every, sigmas, seed, progress)
    coarser = [
        n for n, grouping in groupings.items() if grouping.num_classes < len(model.class_names)
    ]
    progress.step("tracking every image through the noise")
    return compare(
        denoiser,
        data,
        fit.mixture,
        partitions=groupings,
        nested=(coarser[0], model.class_name) if coarser else None,
        class_name=model.class_name,
        bounds=bounds,
        fit=fit,
        sigmas=sigmas,
        num_paths=settings.num_paths,
        seed=seed,
        reference=model.unconditional,
        samples=samples,
        progress=progress,
        folder=None if folder is None else folder / "tracked",
    )


def _shown(model: StudiedModel, data: LabelledImages, seed: int) -> LabelledImages | None:
    """Samples of a model whose states cannot be looked at."""
    if model.decode is None or model.denoiser.num_classes * SHOWN > MOST_SHOWN:
        return None
    if model.averaged.kind == "states":
        return data
    drawn = on_own_samples(model, SHOWN * model.denoiser.num_classes, seed=seed)
    return drawn.states(drawn.averaged)


def _bounds(
    model: StudiedModel,
    train: LabelledImages,
    data: LabelledImages,
    mixture: GaussianMixture,
    groupings: Mapping[str, Partition],
    sigmas: np.ndarray,
    seed: int,
    progress: Progress,
) -> dict[str, dict[str, Estimate]]:
    """Cross-entropies of posteriors that do not know the model, by variable and name."""
    progress.step("training a classifier of noisy images")
    classifier = train_noisy_classifier(
        train.images,
        train.labels,
        model.denoiser.sigma_range,
        prior=class_weights(None, model.denoiser),
        sigma_data=model.sigma_data or float(train.images.std()),
        num_steps=CLASSIFIER_STEPS,
        seed=seed,
        progress=progress,
    )

    def network_posterior(x: Tensor, sigma: float) -> np.ndarray:
        return classifier(x, torch.full((len(x),), sigma)).double().numpy()

    def theory_posterior(x: Tensor, sigma: float) -> np.ndarray:
        return mixture_log_posterior(mixture, x, sigma)

    progress.step("bounds from posteriors that do not know the model")
    bounds: dict[str, dict[str, Estimate]] = {}
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
