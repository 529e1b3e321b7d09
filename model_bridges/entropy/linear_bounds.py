"""What the best linear denoiser achieves on given images: no exact posterior mean does worse.

For data of mean m and covariance C in d dimensions, `x = x_0 + sigma eps`, a linear denoiser errs by

    L(x) = m + G (x - m),    E|x_0 - L|^2 = tr (1 - G) C (1 - G) + sigma^2 tr G^2

    scalar   G = v / (v + sigma^2), v = tr C / d the mean variance:    d v sigma^2 / (v + sigma^2)
    Wiener   G = C (C + sigma^2)^-1, with the covariance shrunk towards v (Ledoit & Wolf 2004)

while the posterior mean has the least error of all functions of x. The scalar bound needs two moments.
The Wiener filter of one half of the images is tried on the other half, so that it never knows the image
that it denoises: few images make it weak, not too good. The noise is averaged in closed form. Squared
units of the data, summed over the entries of a state.
"""

import numpy as np
from jaxtyping import Float
from torch import Tensor

FEWEST_IMAGES, LARGEST_DIM = 64, 4096  # of the Wiener filter
Flat = Float[np.ndarray, "N d"]


def scalar_bound(
    mean: Float[np.ndarray, " d"],
    square: float,
    num_images: int,
    sigmas: Float[np.ndarray, " L"],
) -> Float[np.ndarray, " L"]:
    """`d v sigma^2 / (v + sigma^2)` from the images' mean and mean square norm; 0 where all are equal."""
    dim = len(mean)
    total = max(square - float(mean @ mean), 0.0) * num_images / max(num_images - 1, 1)
    noise = sigmas**2
    return total * noise / (total / dim + noise)


def wiener_errors(
    images: Float[Tensor, "N *event"], sigmas: Float[np.ndarray, " L"]
) -> Float[np.ndarray, "L N"] | None:
    """`E|x_0 - L(x)|^2` over the noise for each image, L from the half that it is not in.

    None where there are fewer than 64 images or more than 4096 dimensions.
    """
    x0 = images.detach().flatten(1).double().cpu().numpy()
    num_images, dim = x0.shape
    if num_images < FEWEST_IMAGES or dim > LARGEST_DIM:
        return None
    errors = np.zeros((len(sigmas), num_images))
    halves = np.array_split(np.random.default_rng(0).permutation(num_images), 2)
    for known, tried in (halves, halves[::-1]):
        mean = x0[known].mean(0)
        spectrum, rest, axes = _shrunk_covariance(x0[known] - mean)
        centred = x0[tried] - mean
        along = (centred @ axes) ** 2
        across = np.maximum((centred**2).sum(1) - along.sum(1), 0.0)
        for level, noise in enumerate(np.asarray(sigmas) ** 2):
            gain, other = spectrum / (spectrum + noise), rest / (rest + noise)
            left = (dim - len(spectrum)) * other**2
            errors[level, tried] = (
                along @ (1 - gain) ** 2
                + (1 - other) ** 2 * across
                + noise * ((gain**2).sum() + left)
            )
    return errors


def _shrunk_covariance(centred: Flat) -> tuple[Float[np.ndarray, " r"], float, np.ndarray]:
    """Eigenvalues along the images, the one across them, and the axes `(d, r)`."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    dim = centred.shape[1]
    axes, singular, _ = np.linalg.svd(centred.T, full_matrices=False)
    spectrum = singular**2 / len(centred)
    level = float(spectrum.sum()) / dim
    if level == 0:
        return spectrum, 0.0, axes
    shrinkage = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
    return (1 - shrinkage) * spectrum + shrinkage * level, shrinkage * level, axes
