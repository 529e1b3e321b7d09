# The public names, for lazy loading and for editors; one list serves both.
from . import (
    asymptotics,
    control,
    conversions,
    curves,
    exact,
    families,
    fitting,
    guidance,
    hopfield,
    inference,
    partitions,
    plotting,
    processes,
    published,
    reporting,
    samplers,
    speciation,
    tracking,
)
from .conversions import from_scikit_learn, to_scikit_learn
from .curves import EntropyCurve, Window
from .entropy import (
    class_entropy,
    clone_agreement,
    decision_snr,
    entropy_curve,
    entropy_rate,
    prior_entropy,
)
from .estimate import Estimate
from .estimators.own_samples import estimate_class_entropy
from .fitting import best_shrinkage, fit
from .inference import (
    class_denoisers,
    class_posterior,
    class_scores,
    denoiser,
    log_class_posterior,
    posterior_covariance,
)
from .mixtures import GaussianMixture
from .partitions import Hierarchy, Partition
from .processes import (
    DDPM,
    Cosine,
    DiffusionProcess,
    LinearInterpolant,
    OrnsteinUhlenbeck,
    VarianceExploding,
)
from .reduction import NotReducibleError, ReducedMixture, reduce
from .reporting.stored import load_curve, load_result
from .samplers import Trajectory, forward_path, sample
from .speciation import SpeciationTimes, speciation_times, transition_grid

__all__ = [
    "DDPM",
    "Cosine",
    "DiffusionProcess",
    "EntropyCurve",
    "Estimate",
    "GaussianMixture",
    "Hierarchy",
    "LinearInterpolant",
    "NotReducibleError",
    "OrnsteinUhlenbeck",
    "Partition",
    "ReducedMixture",
    "SpeciationTimes",
    "Trajectory",
    "VarianceExploding",
    "Window",
    "asymptotics",
    "best_shrinkage",
    "class_denoisers",
    "class_entropy",
    "class_posterior",
    "class_scores",
    "clone_agreement",
    "control",
    "conversions",
    "curves",
    "decision_snr",
    "denoiser",
    "entropy_curve",
    "entropy_rate",
    "estimate_class_entropy",
    "exact",
    "families",
    "fit",
    "fitting",
    "forward_path",
    "from_scikit_learn",
    "guidance",
    "hopfield",
    "inference",
    "load_curve",
    "load_result",
    "log_class_posterior",
    "partitions",
    "plotting",
    "posterior_covariance",
    "prior_entropy",
    "processes",
    "published",
    "reduce",
    "reporting",
    "sample",
    "samplers",
    "speciation",
    "speciation_times",
    "to_scikit_learn",
    "tracking",
    "transition_grid",
]
