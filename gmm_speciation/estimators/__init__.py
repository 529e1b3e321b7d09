"""Estimators of the class entropy: one protocol, one registry (`registry.ESTIMATORS`).

base            the protocol: Problem, Estimator, LevelEstimator, Outcome, what an estimator may use
posterior       the closed form, and quasi-Monte Carlo on the reduction
model           denoisers as estimators see them; paths the levels between those of a problem
path_integral   I-MMSE, posterior-variance and sampled-class form
tracking        along reverse paths, three read-outs
elbo, clones    denoising losses; two reverse runs from one state
mixture_bounds  Kolchinsky-Tracey, Taylor expansion, moment matching; pairwise their divergences
error_bounds    Fano, Hellman-Raviv
neighbours      Ross, KSG
kernels         kernel density, resubstitution and leave-one-out
crossfit        what is fitted on some states and judged on others
gaussians       LDA, QDA, shrunk; with noise that is known
classifiers     EM, logistic regression, k nearest neighbours, boosted trees
learned         those that train a network
own_samples     any of them on samples of one's own: `estimate_class_entropy`
"""

from gmm_speciation.estimators.base import (
    Access,
    Estimator,
    Kind,
    LevelEstimator,
    NotApplicableError,
    Outcome,
    Problem,
    Samples,
    problem_of,
)
from gmm_speciation.estimators.crossfit import CrossFitted

__all__ = [
    "Access",
    "CrossFitted",
    "Estimator",
    "Kind",
    "LevelEstimator",
    "NotApplicableError",
    "Outcome",
    "Problem",
    "Samples",
    "problem_of",
]
