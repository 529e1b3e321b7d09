"""What a cross-check found, as data: one record a semantic variable, and verdicts.

Axes: L noise levels, N paths. Entropies in nats, noise scales `sigma` in the model's units, log-SNR
`-2 log sigma`. Tables, pictures and pages take these and recompute nothing.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate, in_digits
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.reporting.trust import Trust
from gmm_speciation.shares import Share
from gmm_speciation.speciation.points import SpeciationPoint, points_in_words
from model_bridges.crosscheck.theory import FittedMixture
from model_bridges.denoisers.base import UNCONDITIONAL_NETWORK, Reference
from model_bridges.entropy.evidence import Evidence
from model_bridges.entropy.gap import InformationBudget
from model_bridges.entropy.pairs import Pairs
from model_bridges.entropy.tree import DecisionTree
from model_bridges.images.labelled import LabelledImages
from model_bridges.tracking.calibration import Reliability
from model_bridges.tracking.tracked import TrackedPosterior


@dataclass(frozen=True, eq=False)
class VariableCheck:
    """One semantic variable: every estimate of its entropy, on one grid of noise levels."""

    name: str
    partition: Partition
    tracked: EntropyCurve
    slope: EntropyCurve  # tracked entropy with its own slope as rate
    bayes: EntropyCurve
    unconditional: EntropyCurve | None
    theory: EntropyCurve
    cross_entropy: Estimate  # (L,)
    calibration: Estimate  # CE - H, paired, (L,)
    window_calibration: Estimate  # its mean over the levels of the 80 % window, paired
    accuracy: Share  # (L,)
    budget: InformationBudget
    bounds: dict[str, Estimate]  # cross-entropies of other posteriors, (L,)
    evidence: Evidence  # what trust is judged by
    points: dict[str, SpeciationPoint]
    decision: Float[np.ndarray, " N"]  # sigma at which each path became what it is
    reference: Reference = UNCONDITIONAL_NETWORK
    # The theory's points with the errors of its fit, log-SNR, by criterion; of single classes alone.
    fit_errors: dict[str, Estimate] = field(default_factory=dict)

    def forms(self) -> dict[str, EntropyCurve]:
        """Every curve that has a rate of its own, by name."""
        curves = {
            "theory (fitted mixture)": self.theory,
            "denoiser gap (Bayes)": self.bayes,
            "slope of tracked entropy": self.slope,
        }
        if self.unconditional is not None:
            curves[f"denoiser gap ({self.reference.form})"] = self.unconditional
        return curves


@dataclass(frozen=True, eq=False)
class CrossCheck:
    """All that one pass says, by variable; `reliability` pools the levels of the 80 % window."""

    law: str
    posterior: TrackedPosterior
    variables: dict[str, VariableCheck]
    nested: dict[str, EntropyCurve]  # H(fine | coarse, X), by name
    reliability: Reliability
    pictures: Float[Tensor, "N *event"]
    mixture: GaussianMixture
    fit: FittedMixture | None  # how the mixture came about, where it is known
    checks: list[Claim] = field(default_factory=list)
    samples: LabelledImages | None = None  # of the model, to look at
    pairs: Pairs | None = None  # of the classes with two images, if there are three or more
    tree: DecisionTree | None = None
    theory_tree: DecisionTree | None = None

    def __repr__(self) -> str:
        lines = [f"CrossCheck(averaged over {self.law}; log-SNR λ, entropies in nats"]
        for name, check in self.variables.items():
            trusted = "trusted" if check.tracked.trust.ok else "NOT to be trusted"
            lines += [f"{name}: H(C) = {in_digits(check.tracked.prior_entropy)}, {trusted}"]
            lines += [points_in_words(check.points)]
        verdicts = [str(claim.verdict) for claim in self.checks]
        counts = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in ("yes", "no", "open"))
        lines += [f"checks: {counts}", *(repr(one) for one in (self.pairs, self.tree) if one)]
        return "\n".join(lines) + "\n)"

    @property
    def trust(self) -> Trust:
        """What the checks of the single classes say."""
        return self.main.tracked.trust

    @property
    def trusts(self) -> dict[str, Trust]:
        """The same of every variable."""
        return {name: check.tracked.trust for name, check in self.variables.items()}

    @property
    def main(self) -> VariableCheck:
        """The single classes."""
        return next(iter(self.variables.values()))
