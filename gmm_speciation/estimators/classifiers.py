"""Classical classifiers of scikit-learn as estimators of H(C|X).

plug-in         mean entropy of the fitted posterior, on points that did not fit it (two halves
                that change places): biased either way by the error of the fit
cross-entropy   mean of -log q(c_i | x_i) held out, an upper bound on H(C|X) in the mean whatever
                q is (Gibbs); its standard error is that of the bound
"""

import abc
import warnings
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Kind, LevelEstimator, check_samples

_FOLDS = 2
_EM_COMPONENTS = (1, 2, 4)


def folds(labels: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """A fold for every sample, dealt class by class so that none is missing in training."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), int)
    fold[order] = np.arange(len(labels)) % number
    return fold


class _PlugIn(LevelEstimator):
    family = "classifiers"

    @abc.abstractmethod
    def fit(self, x: np.ndarray, labels: np.ndarray, prior: np.ndarray, seed: int) -> Any:
        """Something with `predict_proba`."""

    def level(self, x, labels, prior, rng):
        check_samples(x, labels, len(prior), 2 * _FOLDS)
        fold = folds(labels, _FOLDS, rng)
        entropies = np.empty(len(x))
        for held in range(_FOLDS):
            train, test = fold != held, fold == held
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # collinear coordinates, slow convergence
                model = self.fit(x[train], labels[train], prior, int(rng.integers(2**31)))
                p = np.clip(model.predict_proba(x[test]), 1e-300, 1.0)
            entropies[test] = -np.sum(p * np.log(p), 1)
        return Estimate.exact(np.asarray(entropies.mean()))


class LinearDiscriminant(_PlugIn):
    title = "LDA plug-in"
    reference = "Fisher 1936; scikit-learn"

    def fit(self, x, labels, prior, seed):
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis(priors=prior).fit(x, labels)


class QuadraticDiscriminant(_PlugIn):
    title = "QDA plug-in"
    reference = "scikit-learn, covariances shrunk by Ledoit & Wolf 2004"

    def fit(self, x, labels, prior, seed):
        from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

        return QuadraticDiscriminantAnalysis(priors=prior, solver="eigen", shrinkage="auto").fit(
            x, labels
        )


class _ClassMixtures:
    """A Gaussian mixture a class, chosen by BIC; Bayes' rule between them."""

    def __init__(self, models: list, prior: np.ndarray):
        self.models, self.prior = models, prior

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        log_joint = np.stack([m.score_samples(x) for m in self.models], 1) + np.log(self.prior)
        return softmax(log_joint - logsumexp(log_joint, axis=1, keepdims=True), axis=1)


class ExpectationMaximisation(_PlugIn):
    title = "EM mixture plug-in"
    reference = "Dempster, Laird & Rubin 1977; scikit-learn, diagonal, 1, 2 or 4 components by BIC"

    def fit(self, x, labels, prior, seed):
        from sklearn.mixture import GaussianMixture

        models = []
        for c in range(len(prior)):
            own = x[labels == c].astype(float)
            tried = [
                GaussianMixture(number, covariance_type="diag", random_state=seed).fit(own)
                for number in _EM_COMPONENTS
                if len(own) >= 8 * number or number == 1
            ]
            models.append(min(tried, key=lambda model: model.bic(own)))
        return _ClassMixtures(models, prior)


class LogisticRegression(LevelEstimator):
    title = "logistic regression, cross-entropy"
    reference = "Gibbs' inequality; scikit-learn, held out"
    kind = Kind.UPPER
    family = "classifiers"

    def level(self, x, labels, prior, rng):
        from sklearn.linear_model import LogisticRegression as Model

        check_samples(x, labels, len(prior), 2 * _FOLDS)
        fold = folds(labels, _FOLDS, rng)
        loss = np.empty(len(x))
        scale = max(float(x.std()), 1e-30)
        for held in range(_FOLDS):
            train, test = fold != held, fold == held
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # slow convergence is part of what is judged
                model = Model(max_iter=200).fit(x[train] / scale, labels[train])
                log_q = model.predict_log_proba(x[test] / scale)
            loss[test] = -np.maximum(log_q[np.arange(test.sum()), labels[test]], -700.0)
        return Estimate.from_samples(loss)
