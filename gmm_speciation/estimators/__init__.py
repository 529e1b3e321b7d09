"""Estimators of the class entropy: one protocol, one registry (`registry.ESTIMATORS`).

base            the protocol: Problem, Estimator, LevelEstimator, Outcome, what an estimator may use
posterior       the closed form, and quasi-Monte Carlo on the reduction
mixture_bounds  Kolchinsky-Tracey, Taylor expansion, moment matching; pairwise their divergences
error_bounds    Fano, Hellman-Raviv
neighbours      Ross, KSG
kernels         kernel density, resubstitution and leave-one-out
classifiers     LDA, QDA, EM, logistic regression
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

__all__ = [
    "Access",
    "Estimator",
    "Kind",
    "LevelEstimator",
    "NotApplicableError",
    "Outcome",
    "Problem",
    "Samples",
    "problem_of",
]
