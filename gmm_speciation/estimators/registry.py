"""The estimators of the benchmark, by id; `LEFT_OUT` says which is missing, and why."""

from gmm_speciation.estimators.base import Estimator
from gmm_speciation.estimators.classifiers import (
    BoostedTrees,
    ExpectationMaximisation,
    LogisticRegression,
    NearestNeighbours,
)
from gmm_speciation.estimators.clones import ClonesLower, ClonesUpper
from gmm_speciation.estimators.elbo import ElboTrueWeights, ElboUniformWeights
from gmm_speciation.estimators.error_bounds import Fano, HellmanRaviv
from gmm_speciation.estimators.gaussians import (
    LinearDiscriminant,
    LinearDiscriminantKnownNoise,
    QuadraticDiscriminant,
    QuadraticDiscriminantKnownNoise,
)
from gmm_speciation.estimators.kernels import KernelLeaveOneOut, KernelResubstitution
from gmm_speciation.estimators.learned import (
    MINDE,
    NWJ,
    SMILE,
    Classifier,
    InfoNCE,
    LearnedGap,
    LearnedTracking,
    NoiseConditionalClassifier,
)
from gmm_speciation.estimators.mixture_bounds import (
    KolchinskyTraceyLower,
    KolchinskyTraceyUpper,
    MomentMatchedGaussian,
    TaylorOrder0,
    TaylorOrder2,
)
from gmm_speciation.estimators.neighbours import MixedKraskov, Ross
from gmm_speciation.estimators.path_integral import PosteriorVariance, SampledClass
from gmm_speciation.estimators.posterior import PosteriorEntropy, PosteriorPlugIn, QuasiMonteCarlo
from gmm_speciation.estimators.tracking import (
    TrackedClasses,
    TrackedClassesClamped,
    TrackedForcedPrior,
    TrackedForcedPriorClamped,
    TrackedRatio,
    TrackedRatioClamped,
)
from gmm_speciation.lookup import import_named

ESTIMATORS: dict[str, type[Estimator]] = {
    "posterior": PosteriorEntropy,
    "posterior-plug-in": PosteriorPlugIn,
    "qmc": QuasiMonteCarlo,
    "path-variance": PosteriorVariance,
    "path-sampled": SampledClass,
    "tracking-class": TrackedClasses,
    "tracking-class-clamped": TrackedClassesClamped,
    "tracking-ratio": TrackedRatio,
    "tracking-ratio-clamped": TrackedRatioClamped,
    "tracking-forced": TrackedForcedPrior,
    "tracking-forced-clamped": TrackedForcedPriorClamped,
    "elbo": ElboTrueWeights,
    "elbo-uniform": ElboUniformWeights,
    "clones-lower": ClonesLower,
    "clones-upper": ClonesUpper,
    "kt-lower": KolchinskyTraceyLower,
    "kt-upper": KolchinskyTraceyUpper,
    "taylor-0": TaylorOrder0,
    "taylor-2": TaylorOrder2,
    "moment-matched": MomentMatchedGaussian,
    "fano": Fano,
    "hellman-raviv": HellmanRaviv,
    "ross": Ross,
    "ksg": MixedKraskov,
    "kde": KernelResubstitution,
    "kde-loo": KernelLeaveOneOut,
    "lda": LinearDiscriminant,
    "qda": QuadraticDiscriminant,
    "lda-known-noise": LinearDiscriminantKnownNoise,
    "qda-known-noise": QuadraticDiscriminantKnownNoise,
    "em": ExpectationMaximisation,
    "logistic": LogisticRegression,
    "knn": NearestNeighbours,
    "trees": BoostedTrees,
    "classifier": Classifier,
    "classifier-all-noise": NoiseConditionalClassifier,
    "learned-gap": LearnedGap,
    "learned-tracking": LearnedTracking,
    "minde": MINDE,
    "infonce": InfoNCE,
    "nwj": NWJ,
    "smile": SMILE,
}

LEFT_OUT = (
    "Left out, since their formulas could not be followed with certainty: Ding & Ashok 2021 (arXiv "
    "2101.11670), variational bounds on I(X; C) between components of different classes; flow-matching "
    "mutual information (arXiv 2511.08552). MIST (arXiv 2511.18945) is a network of its authors' training, "
    "whose weights are not ours to ship; InfoSEDD needs discrete states, and these are continuous. Whoever "
    "has one of them enters it by `benchmark export` and `benchmark score`."
)

# Those that train a network; they cost minutes where the others cost seconds.
LEARNED = tuple(name for name, one in ESTIMATORS.items() if one.family == "learned")

# Those that claim a 95 % interval for the entropy itself.
CLAIMING: tuple[str, ...] = (
    "posterior",
    "posterior-plug-in",
    "qmc",
    "path-variance",
    "path-sampled",
    "tracking-class",
    "tracking-class-clamped",
    "tracking-ratio",
    "tracking-ratio-clamped",
    "tracking-forced",
    "tracking-forced-clamped",
    "elbo",
    "elbo-uniform",
    "learned-gap",
    "learned-tracking",
    "minde",
)


def own_estimator(spec: str) -> type[Estimator]:
    """The estimator class called `module:Class`.

    Raises:
        ValueError: If it cannot be imported or is no concrete `Estimator`.
    """
    found = import_named(spec, "Your own is named as module:Name, such as mine:Estimator")
    if not (isinstance(found, type) and issubclass(found, Estimator)):
        raise ValueError(f"{spec!r} must be a subclass of gmm_speciation.estimators.Estimator.")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    missing += [name for name in ("title", "reference") if not hasattr(found, name)]
    if missing:
        raise ValueError(f"{spec!r} does not define {', '.join(missing)}.")
    return found
