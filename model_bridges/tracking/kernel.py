"""Forward paths of data and the kernel of the reverse chain, `x = x_0 + sigma eps`.

From `x` at noise t to `x'` at `t' < t`, given a posterior mean D of x_0,

    p(x' | x, D) = N(mu, s^2 I),    mu = (t'^2 / t^2) x + (1 - t'^2 / t^2) D,    s^2 = (t^2 - t'^2) t'^2 / t^2

(Ho, Jain & Abbeel 2020, Eq. 7, at signal scale 1). A forward path of an image, read backwards, is a
path of this chain with D = x_0. Pure functions; the class axis comes first.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Variance = Literal["posterior", "beta"]


def reverse_kernel(
    x: Float[Tensor, "B *event"],
    denoised: Float[Tensor, "K B *event"],
    sigma: float,
    sigma_next: float,
    variance: Variance = "posterior",
) -> tuple[Float[Tensor, "K B *event"], float]:
    """Means, class axis first, and variance of `x'` at `sigma_next < sigma` given `x` and each class.

    The variance is s^2; or, for "beta", the larger one of Ho, Jain & Abbeel 2020, Sec. 3.2, the
    forward step's `beta = (t^2 - t'^2) / (1 + t^2)` of VP coordinates, brought to these by `1 + t'^2`.
    """
    ratio, added = (sigma_next / sigma) ** 2, sigma**2 - sigma_next**2
    share = (1 + sigma_next**2) / (1 + sigma**2) if variance == "beta" else ratio
    return ratio * x + (1 - ratio) * denoised, added * share


def log_likelihood_update(
    x_next: Float[Tensor, "B *event"], means: Float[Tensor, "K B *event"], variance: float
) -> Float[Tensor, "K B"]:
    """`log N(x'; mu_c, s^2)` minus that of the average mean, nats, class axis first.

    The difference of squares is a product, `(mu_ref - mu_c) . (2 x' - mu_c - mu_ref)`: no large
    numbers are subtracted.
    """
    reference = means.mean(0)
    product = (reference - means) * (2 * x_next - means - reference)
    return -product.flatten(2).sum(-1) / (2 * variance)


def forward_paths(
    x0: Float[Tensor, "B *event"], sigmas: Float[np.ndarray, " L"], seed: int, first: int = 0
) -> Float[Tensor, "L B *event"]:
    """States of each image at increasing noise levels, by independent increments, in float64.

    The noise depends on `seed` and the index of the image alone, `first` being that of the first.
    """
    steps = np.sqrt(np.diff(sigmas**2, prepend=0.0))
    shape = (len(sigmas), *x0.shape[1:])
    noise = np.stack(
        [
            np.random.default_rng([seed, index]).standard_normal(shape)
            for index in range(first, first + len(x0))
        ],
        axis=1,
    )
    noise *= steps.reshape(-1, *(1,) * x0.ndim)
    return x0.double() + torch.from_numpy(noise.cumsum(0)).to(x0.device)
