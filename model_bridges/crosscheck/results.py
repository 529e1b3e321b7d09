"""What a cross-check found, as data: images and their law, one record a semantic variable, verdicts.

Axes: L noise levels, N paths. Entropies in nats, noise scales `sigma` in the model's units, log-SNR
`-2 log sigma`. Tables, pictures and pages take these and recompute nothing.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.claims import Claim
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.speciation import SpeciationPoint
from model_bridges.entropy.gap import InformationBudget
from model_bridges.entropy.trust import Trust
from model_bridges.tracking.readouts import Reliability
from model_bridges.tracking.trace import Trace


@dataclass(frozen=True)
class Reference:
    """What the label `UNCONDITIONAL` of a model is, in the words of a report."""

    form: str  # of the denoiser gap to it
    curve: str  # label of the entropy curve by that gap
    excess: str  # what E|Dbar - D_u|^2 is
    at_small_noise: str  # where the form's rate is largest at small noise
    meaning: str  # a paragraph


UNCONDITIONAL_NETWORK = Reference(
    form="unconditional form",
    curve="gap to the unconditional network",
    excess="disagreement of the networks",
    at_small_noise="its largest rate is disagreement of two networks at small noise, not information",
    meaning="The unconditional form is the Bayes form plus the excess E|D̄ − D_u|². For exact "
    "networks the mixture D̄ of the conditional outputs *is* the unconditional output D_u and the "
    "excess is 0; two networks trained apart differ by their errors, and divided by σ² that difference "
    "grows towards small noise, where no class information is left to explain it.",
)
EMPTY_PROMPT = Reference(
    form="prompt against empty prompt, I(prompt; X)",
    curve="prompt against empty prompt, H(C) − I(prompt; X)",
    excess="other captions, and errors of the network",
    at_small_noise="its largest rate is the network's own error at small noise, not information",
    meaning="The decision between the prompts is read from the Bayes mixture D̄ of their outputs. The "
    "empty prompt stands for the mean over *all* captions of the training data, not for that mixture, so "
    "prompt against empty prompt is another quantity: the information I(prompt; X) that a prompt has "
    "about the picture. It is the Bayes form plus the excess E|D̄ − D_u|², which vanishes where the "
    "prompts are all there is and the network is exact.",
)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their classes, the name of the law they were drawn from, and pictures of them if any."""

    images: Float[Tensor, "N *event"]
    labels: Int[Tensor, " N"]
    law: str
    pictures: Float[Tensor, "N C H W"] | None = None


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
    accuracy: Estimate  # (L,)
    budget: InformationBudget
    bounds: dict[str, Estimate]  # cross-entropies of other posteriors, (L,)
    points: dict[str, SpeciationPoint]
    decision: Float[np.ndarray, " N"]  # sigma at which each path became what it is
    reference: Reference = UNCONDITIONAL_NETWORK

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
    trace: Trace
    variables: dict[str, VariableCheck]
    nested: dict[str, EntropyCurve]  # H(fine | coarse, X), by name
    reliability: Reliability
    pictures: Float[Tensor, "N *event"]
    mixture: GaussianMixture
    shrinkage: float
    checks: list[Claim] = field(default_factory=list)
    samples: LabelledImages | None = None  # of the model, to look at

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
