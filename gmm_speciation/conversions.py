"""Mixtures from and to a fitted `sklearn.mixture.GaussianMixture`.

    isotropic, own or shared      spherical, one variance a component
    diagonal, own or shared       diag, one row a component
    full or low-rank, own         full
    full or low-rank, shared      tied

Both sides describe one law: `predict_proba` is the posterior, `score_samples` the log-density in nats.
scikit-learn keeps variances a component, never shared ones, and d x d arrays for low-rank covariances.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

from gmm_speciation.covariances import Diagonal, Isotropic
from gmm_speciation.mixtures import GaussianMixture

_MAX_ENTRIES = 2**27  # of dense covariances: 1 GB


def from_scikit_learn(model: Any) -> GaussianMixture:
    """The mixture of a fitted `sklearn.mixture.GaussianMixture`, of any covariance type.

    Raises:
        ValueError: If the model is not fitted.
    """
    if not hasattr(model, "covariances_"):
        raise ValueError("The scikit-learn mixture is not fitted; call its `fit` first.")
    means, weights, covariances = model.means_, model.weights_, model.covariances_
    weights = weights / weights.sum()
    if model.covariance_type == "spherical":
        return GaussianMixture.isotropic(means, covariances, weights)
    if model.covariance_type == "diag":
        return GaussianMixture.diagonal(means, covariances, weights)
    return GaussianMixture.full(means, covariances, weights)


def to_scikit_learn(mixture: GaussianMixture, *, random_state: int | None = None) -> Any:
    """The mixture as a fitted `sklearn.mixture.GaussianMixture`, in float64.

    The model predicts, scores and samples at once. Its `fit` starts anew, as always.

    Args:
        mixture: Of positive definite covariances.
        random_state: Of the model's `sample`.

    Raises:
        ValueError: If a covariance is singular, which scikit-learn cannot hold, or dense matrices of
            more than 1 GB would be formed.
        ModuleNotFoundError: If scikit-learn (the `bridge` extra) is missing.
    """
    from sklearn.mixture import GaussianMixture as Model

    kind, covariances = _covariances(mixture)
    model = Model(mixture.num_components, covariance_type=kind, random_state=random_state)
    weights = np.exp(np.asarray(mixture.log_weights, float))
    model.weights_ = weights / weights.sum()
    model.means_ = np.asarray(mixture.centre, float) + np.asarray(mixture.offsets, float)
    model.covariances_ = covariances
    model.precisions_cholesky_ = _precision_factors(covariances, kind)
    factors = model.precisions_cholesky_
    model.precisions_ = factors**2 if kind in ("spherical", "diag") else factors @ factors.mT
    model.n_features_in_ = mixture.dim
    # What a fit records of itself: there was none.
    model.converged_, model.n_iter_, model.lower_bound_ = True, 0, np.nan
    return model


def _covariances(mixture: GaussianMixture) -> tuple[str, Float[np.ndarray, "..."]]:
    """The covariance type that holds them, and the array it keeps."""
    covariance, number, dim = mixture.covariance, mixture.num_components, mixture.dim
    if isinstance(covariance, Isotropic):
        return "spherical", np.array(np.broadcast_to(covariance.variance, (number,)), float)
    if isinstance(covariance, Diagonal):
        return "diag", np.array(np.broadcast_to(covariance.variances, (number, dim)), float)
    if covariance.num_matrices * dim**2 > _MAX_ENTRIES:
        raise ValueError(
            f"scikit-learn keeps dense covariances, {covariance.num_matrices} x {dim} x {dim} entries "
            "here: too many. Convert a projection, or a diagonal approximation."
        )
    dense = np.asarray(covariance.matrices(dim), float)
    dense = (dense + dense.mT) / 2
    return ("tied", dense[0]) if covariance.shared else ("full", dense)


def _precision_factors(
    covariances: Float[np.ndarray, "..."], kind: str
) -> Float[np.ndarray, "..."]:
    """`C` with precision `C C^T`: upper triangular where dense, square roots otherwise."""
    remedy = (
        "scikit-learn needs positive definite covariances, and one here is singular; add noise by "
        "`mixture.perturb(1.0, sigma)` first."
    )
    if kind in ("spherical", "diag"):
        if not covariances.min() > 0:
            raise ValueError(remedy)
        return 1 / np.sqrt(covariances)
    try:
        roots = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError as error:
        raise ValueError(remedy) from error
    identity = np.eye(covariances.shape[-1])
    stack = roots.reshape(-1, *identity.shape)
    inverse = np.stack([solve_triangular(root, identity, lower=True).T for root in stack])
    return inverse.reshape(covariances.shape)
