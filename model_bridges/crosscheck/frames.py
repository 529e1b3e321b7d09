"""Single images along their noise paths, to be looked at: noisy, denoised, and what class they show.

The states are those that the tracking pass was made on (its noise depends on seed, image and path alone), the
denoised image is the Bayes mixture `sum_c p(c|x) D_c` with the tracked posterior.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gmm_speciation.reporting.explorer import Frames
from model_bridges.denoisers.base import Denoiser, class_raw
from model_bridges.denoisers.devices import brought
from model_bridges.tracking.distances import bayes_output
from model_bridges.tracking.forward import forward_paths
from model_bridges.tracking.tracked import TrackedPosterior


@torch.no_grad()
def frames(
    denoiser: Denoiser,
    images: Float[Tensor, "N *event"],
    record: TrackedPosterior,
    chosen: Int[np.ndarray, " n"],
    class_names: Sequence[str],
) -> Frames | None:
    """The paths `chosen` of a tracking pass; None where the states are no pictures, as latents are.

    Args:
        denoiser: The model that was studied.
        images: The images that it was studied on, in its units.
        record: The tracking pass over them.
        chosen: Indices of its paths.
        class_names: Of the classes.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        return None
    ends, centre, spread = (images.min(), images.max()), images.mean(), images.std()
    # Noisy states are shown at the contrast of clean ones, or they would leave the range of grey.
    levels = torch.from_numpy(record.sigmas).to(images)
    fading = (spread / (spread**2 + levels**2).sqrt())[:, None, None, None]
    noisy, denoised, names = [], [], []
    for path in map(int, chosen):
        image = path // record.num_paths
        clean = brought(denoiser, images[image : image + 1]).double()
        states = forward_paths(clean, record.sigmas, record.seed, path)
        means = []
        log_posterior = torch.from_numpy(record.log_posterior[:, path]).to(clean)
        for state, sigma, log_p in zip(states, record.sigmas, log_posterior, strict=True):
            skip, out = (float(c) for c in denoiser.coefficients(float(sigma)))
            raw = class_raw(denoiser, state, float(sigma))
            means.append(skip * state + out * bayes_output(raw, log_p[None]))
        shown = states[:, 0].to(images)
        noisy.append(_pixels(centre + (shown - centre) * fading, ends))
        denoised.append(_pixels(torch.cat(means).to(images), ends))
        label = None if record.labels is None else int(record.labels[path])
        names.append(f"image {image}" if label is None else f"a {class_names[label]}")
    posteriors = np.exp(record.log_posterior[:, chosen]).transpose(1, 0, 2)
    return Frames(names, list(class_names), np.stack(noisy), np.stack(denoised), posteriors)


def _pixels(
    images: Float[Tensor, "L C H W"], ends: tuple[Tensor, Tensor]
) -> UInt8[np.ndarray, "L C H W"]:
    grey = (images - ends[0]) / (ends[1] - ends[0])
    return (255 * grey.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
