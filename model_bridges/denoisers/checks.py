"""What a denoiser is measured with, checked against it: noise levels, class weights, images and labels."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.checks import expect
from model_bridges.denoisers.arrays import as_labels, as_levels, as_states
from model_bridges.denoisers.base import Denoiser

DEFAULT_NUM_LEVELS = 64


def check_levels(sigmas: Any, sigma_range: tuple[float, float]) -> Float[np.ndarray, " L"]:
    """Noise levels in increasing order; by default 64, equally spaced in log sigma over the range.

    Raises:
        ValueError: If they are not at least two positive numbers in strict order.
    """
    if sigmas is None:
        return np.geomspace(*sigma_range, DEFAULT_NUM_LEVELS)
    levels = as_levels(sigmas, "`sigmas`").detach().cpu().numpy()
    steps = np.diff(np.atleast_1d(levels))
    if not (
        levels.ndim == 1
        and len(levels) > 1
        and np.all(np.isfinite(levels) & (levels > 0))
        and (np.all(steps > 0) or np.all(steps < 0))
    ):
        raise ValueError(
            "`sigmas` must be at least two positive, finite noise levels, strictly monotone; got "
            f"{levels!r}. Use e.g. `numpy.geomspace(0.02, 80, 64)`."
        )
    return np.sort(levels)


def check_denoiser(denoiser: Any) -> None:
    """Refuse what is no `Denoiser`.

    Raises:
        TypeError: If it is none; it says how to make one.
    """
    expect(
        denoiser,
        Denoiser,
        "Wrap what your network predicts, by `mb.from_epsilon`, `mb.from_velocity`, `mb.from_x0` or "
        "`mb.from_flow`, or take a model's `.denoiser`.",
    )


def check_made(values: Float[Tensor, "*shape"], name: str) -> Float[Tensor, "*shape"]:
    """What an autoencoder made, if all of it is finite.

    Raises:
        ValueError: If not; it names the dtype.
    """
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"the autoencoder's {name} must be finite; got NaN or infinity in "
            f"{str(values.dtype).removeprefix('torch.')}. float16 ends at 65504: `vae.to(torch.float32)`. "
            "In float32 check what it was given, and its weights."
        )
    return values


def check_named(partitions: Any) -> None:
    """Refuse groupings of the classes that have no names.

    Raises:
        TypeError: If they have none.
    """
    expect(partitions, Mapping, "`partitions` are groupings by name, as {'animals': [0, 0, 1]}.")


def class_weights(prior: Any, denoiser: Denoiser) -> Float[np.ndarray, " K"]:
    """Weights of the classes: those given, else the model's `class_prior`, else equal ones.

    Raises:
        ValueError: If they are not K non-negative numbers that sum to 1.
        TypeError: As `check_denoiser`.
    """
    check_denoiser(denoiser)
    num_classes = denoiser.num_classes
    if prior is None:
        default = getattr(denoiser, "class_prior", None)
        prior = np.full(num_classes, 1 / num_classes) if default is None else default
    weights = as_levels(prior, "`prior`").detach().cpu().numpy()
    if weights.shape != (num_classes,) or not (
        np.all(weights >= 0) and abs(weights.sum() - 1) < 1e-5
    ):
        raise ValueError(
            f"`prior` must be {num_classes} non-negative weights that sum to 1; got shape "
            f"{weights.shape}, smallest {weights.min(initial=np.inf):.6g}, sum {weights.sum():.6g}. "
            "Divide by their sum."
        )
    return weights / weights.sum()


def check_weighed(labels: Int[Tensor, " N"] | None, weights: Float[np.ndarray, " K"]) -> None:
    """Refuse images of classes that cannot be.

    Raises:
        ValueError: If a class with an image has no weight.
    """
    counts = np.zeros(0, int) if labels is None else np.bincount(labels.cpu().numpy())
    absent = np.flatnonzero((counts > 0) & (weights[: len(counts)] == 0))
    if len(absent):
        raise ValueError(
            f"Class {absent[0]} has weight 0 in `prior`, and {counts[absent[0]]} of the images are of it. "
            "Give it a weight, or leave its images out."
        )


def in_turn(weights: Float[np.ndarray, " K"], num: int) -> Int[Tensor, " num"]:
    """Classes in turn, each as often as its weight says, at every length."""
    counts, labels = np.zeros(len(weights)), np.empty(num, np.int64)
    for i in range(num):
        labels[i] = np.argmax(weights * (i + 1) - counts)  # the one that is most behind
        counts[labels[i]] += 1
    return torch.from_numpy(labels)


def check_data(
    denoiser: Denoiser, x0: Any, labels: Any, name: str = "`x0`"
) -> tuple[Float[Tensor, "N *event"], Int[Tensor, " N"] | None]:
    """Data and labels of numpy or torch as tensors, if they fit a model.

    Raises:
        ValueError: If a shape, a dtype, a value or a label does not fit.
        TypeError: As `check_denoiser`.
    """
    check_denoiser(denoiser)
    x0 = as_states(x0, name)
    if x0.ndim == 0 or len(x0) == 0 or tuple(x0.shape[1:]) != tuple(denoiser.event_shape):
        raise ValueError(
            f"{name} must have shape (N, {', '.join(map(str, denoiser.event_shape))}) with N >= 1; "
            f"got {tuple(x0.shape)}. Reshape the data to the model's states."
        )
    if not bool(torch.isfinite(x0).all()):
        raise ValueError(f"{name} must be finite; it contains NaN or infinity. Drop such images.")
    if labels is None:
        return x0, None
    return x0, as_labels(labels, len(x0), denoiser.num_classes)
