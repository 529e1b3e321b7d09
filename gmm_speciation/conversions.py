"""Mixtures from and to fitted models of scikit-learn; a `sklearn.mixture.GaussianMixture` keeps

    isotropic, own or shared      spherical, one variance a component
    diagonal, own or shared       diag, one row a component
    full or low-rank, own         full
    full or low-rank, shared      tied

Both sides describe one distribution: `predict_proba` is the posterior, `score_samples` the log-density
in nats. Classifiers that are such a posterior convert too, and nothing else does.
scikit-learn keeps variances a component, never shared ones, and d x d arrays for low-rank covariances.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

from gmm_speciation.checks import expect
from gmm_speciation.covariances import Diagonal, Isotropic
from gmm_speciation.mixtures import GaussianMixture

_MAX_ENTRIES = 2**27  # of dense covariances: 1 GB


def from_scikit_learn(model: Any) -> GaussianMixture:
    """The mixture whose posterior is the `predict_proba` of a fitted scikit-learn model.

    `GaussianMixture` of any covariance type, `GaussianNB` (diagonal), `QuadraticDiscriminantAnalysis`
    (full) and `LinearDiscriminantAnalysis` (full, shared; of the solver "svd" with
    `store_covariance=True`). Exactly these classes: a subclass may predict something else.

    Raises:
        ValueError: If the model is of another class, is not fitted, or its `predict_proba` is no posterior of
            a Gaussian mixture: covariances that are singular or not those that it predicts by.
        ModuleNotFoundError: If scikit-learn (the `bridge` extra) is missing.
    """
    from sklearn.discriminant_analysis import (
        LinearDiscriminantAnalysis,
        QuadraticDiscriminantAnalysis,
    )
    from sklearn.mixture import BayesianGaussianMixture
    from sklearn.mixture import GaussianMixture as Model
    from sklearn.naive_bayes import GaussianNB

    known = {
        Model: _of_mixture,
        GaussianNB: lambda model: GaussianMixture.diagonal(
            model.theta_, model.var_, _normalised(model.class_prior_)
        ),
        QuadraticDiscriminantAnalysis: _of_quadratic,
        LinearDiscriminantAnalysis: _of_linear,
    }
    name, convert = type(model).__name__, known.get(type(model))
    if isinstance(model, BayesianGaussianMixture):
        raise ValueError(
            f"The `predict_proba` of a {name} averages over its parameters and is the posterior of no "
            "Gaussian mixture. Fit a sklearn.mixture.GaussianMixture, or build one of its averages, "
            "such as `GaussianMixture.full(model.means_, model.covariances_, model.weights_)`."
        )
    if convert is None:
        raise ValueError(
            f"A {type(model).__module__}.{name} is not known to predict the posterior of a Gaussian "
            f"mixture; {', '.join(kind.__name__ for kind in known)} are. Build the mixture from its "
            "means, covariances and weights, or fit one by `gmm_speciation.fit`."
        )
    if not (hasattr(model, "means_") or hasattr(model, "theta_")):
        raise ValueError(f"The {name} is not fitted; call its `fit` first.")
    return convert(model)


def _normalised(weights: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    return weights / weights.sum()


def _of_mixture(model: Any) -> GaussianMixture:
    makers = {"spherical": GaussianMixture.isotropic, "diag": GaussianMixture.diagonal}
    make = makers.get(model.covariance_type, GaussianMixture.full)
    # What predicts are the factors of the precisions: `C^T Sigma C = 1`, up to rounding.
    factors, covariances = model.precisions_cholesky_, model.covariances_
    rounding = 10 * np.finfo(factors.dtype).eps
    if model.covariance_type in makers:
        product, one = factors**2 * covariances, np.ones(covariances.shape)
    else:
        # scikit-learn factors the lower triangle; far from 0, rounding of the squared means parts the two.
        covariances = np.tril(covariances) + np.tril(covariances, -1).mT
        product, one = factors.mT @ covariances @ factors, np.eye(covariances.shape[-1])
        rounding *= np.max(np.linalg.cond(factors)) ** 2
    if not np.allclose(product, one, atol=1e-6 + rounding):
        raise ValueError(
            "The GaussianMixture predicts by `precisions_cholesky_`, which are not those of its "
            "`covariances_`: one was changed without the other. Fit it again, or build the mixture of the "
            "covariances by `GaussianMixture.full(model.means_, model.covariances_, model.weights_)`."
        )
    return make(model.means_, covariances, _normalised(model.weights_))


def _of_quadratic(model: Any) -> GaussianMixture:
    dim = model.means_.shape[1]
    if any(rotation.shape != (dim, dim) for rotation in model.rotations_) or not all(
        np.all(scaling > 0) for scaling in model.scalings_
    ):
        raise ValueError(
            "The QuadraticDiscriminantAnalysis has a singular covariance, so that its `predict_proba` is "
            "the posterior of no Gaussian mixture; fit it with a `reg_param` above 0."
        )
    pairs = zip(model.rotations_, model.scalings_, strict=True)
    covariances = np.stack([(rotation * scaling) @ rotation.T for rotation, scaling in pairs])
    symmetric = (covariances + covariances.mT) / 2
    return GaussianMixture.full(model.means_, symmetric, _normalised(model.priors_))


def _of_linear(model: Any) -> GaussianMixture:
    """Accepted if `Sigma (w_k - w_0) = mu_k - mu_0` for the discriminants' weights, and so the offsets."""
    covariance = getattr(model, "covariance_", None)
    if covariance is None:
        raise ValueError(
            "The LinearDiscriminantAnalysis kept no covariance; fit it with `store_covariance=True` or "
            "`solver='lsqr'`."
        )
    slopes, offsets = model.coef_, model.intercept_
    if len(model.means_) == 2:  # kept as the difference of the two
        slopes, offsets = np.stack([0 * slopes[0], slopes[0]]), np.array([0.0, offsets[0]])
    slopes, offsets = slopes - slopes[0], offsets - offsets[0]
    means, log_priors = model.means_, np.log(model.priors_)
    spread = means - means[0]
    level = log_priors - log_priors[0] - np.sum((means + means[0]) * slopes, 1) / 2
    if (
        np.linalg.matrix_rank(covariance, hermitian=True) < len(covariance)
        or not np.allclose(slopes @ covariance, spread, rtol=1e-7, atol=1e-9 * np.abs(spread).max())
        or not np.allclose(offsets, level, rtol=1e-7, atol=1e-7)
    ):
        raise ValueError(
            "The LinearDiscriminantAnalysis does not predict by its `covariance_` (singular, or of other "
            "weights than its discriminants), so no Gaussian mixture has its `predict_proba`; fit it with "
            "`solver='lsqr'`, with a `shrinkage` where points are few."
        )
    return GaussianMixture.full(means, covariance, _normalised(model.priors_))


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
    expect(mixture, GaussianMixture)
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
