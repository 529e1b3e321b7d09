"""What a cross-check found, as data: images and their law, one record a semantic variable, verdicts.

Axes: L noise levels, N paths. Entropies in nats, noise scales `sigma` in the model's units, log-SNR
`-2 log sigma`. Tables, pictures and pages take these and recompute nothing.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.speciation import SpeciationPoint
from model_bridges.gap import InformationBudget
from model_bridges.readouts import Reliability
from model_bridges.traces import Trace


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their classes, and the name of the law they were drawn from."""

    images: Float[Tensor, "N *event"]
    labels: Int[Tensor, " N"]
    law: str


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
    accuracy: Estimate  # (L,)
    budget: InformationBudget
    bounds: dict[str, Estimate]  # cross-entropies of other posteriors, (L,)
    points: dict[str, SpeciationPoint]
    decision: Float[np.ndarray, " N"]  # sigma at which each path became what it is

    def forms(self) -> dict[str, EntropyCurve]:
        """Every curve that has a rate of its own, by name."""
        curves = {
            "theory (fitted mixture)": self.theory,
            "denoiser gap (Bayes)": self.bayes,
            "slope of tracked entropy": self.slope,
        }
        if self.unconditional is not None:
            curves["denoiser gap (unconditional)"] = self.unconditional
        return curves


@dataclass(frozen=True, eq=False)
class Check:
    """A claim, what was measured, its 95 % half-width, and whether it holds."""

    claim: str
    expected: str
    measured: float
    half_width: float | None
    holds: bool
    note: str = ""


@dataclass(frozen=True, eq=False)
class CrossCheck:
    """All that one pass says, by variable; `reliability` pools the levels of the 80 % window."""

    law: str
    trace: Trace
    variables: dict[str, VariableCheck]
    nested: dict[str, EntropyCurve]  # H(fine | coarse, X), by name
    reliability: Reliability
    images: Float[Tensor, "N *event"]
    mixture: GaussianMixture
    shrinkage: float
    checks: list[Check] = field(default_factory=list)

    @property
    def main(self) -> VariableCheck:
        """The single classes."""
        return next(iter(self.variables.values()))
