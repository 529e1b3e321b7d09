"""The theory's mixture of a model's data: one Gaussian a class, full covariances, fitted to training states.

Their shrinkage is the one that gives left-out training states the highest likelihood.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.fitting import best_shrinkage, fit
from gmm_speciation.inference import log_class_posterior
from gmm_speciation.mixtures import GaussianMixture
from model_bridges.images.labelled import LabelledImages


def fitted_mixture(train: LabelledImages) -> tuple[GaussianMixture, float]:
    """The theory's mixture of the training states and the shrinkage of its covariances."""
    x = train.images.flatten(1).double().numpy()
    labels = train.labels.numpy()
    shrinkage, _ = best_shrinkage(x, labels, "full")
    return fit(x, labels, "full", shrinkage=shrinkage), shrinkage


def mixture_log_posterior(
    mixture: GaussianMixture, x: Float[Tensor, "N *event"], sigma: float
) -> Float[np.ndarray, "N C"]:
    """`log p(c | x)` of noised images under the mixture: a classifier that is closed form."""
    noisy = mixture.perturb(1.0, sigma)
    return np.asarray(log_class_posterior(noisy, jnp.asarray(x.flatten(1).double().numpy())))
