"""Modern Hopfield networks: retrieval as denoising, and speciation as their phase transition.

energy          energy and retrieval; the empirical mixture whose denoiser retrieval is
patterns        equidistant, random and digit patterns; beta_eff, the axis they share
potts           critical temperatures of equidistant patterns
landscape       the energy in the span of the patterns
continuation    branches of fixed points, around folds
bifurcation     minima followed over beta: measured critical temperatures
hysteresis      retrieval swept up and down in beta: a loop where the transition is of first order
transitions     the same axis with the entropic criteria of diffusion
"""

from gmm_speciation.hopfield.bifurcation import Branch, Network, PatternBifurcations
from gmm_speciation.hopfield.energy import as_mixture, energy, retrieve
from gmm_speciation.hopfield.hysteresis import Loop, hysteresis_loop
from gmm_speciation.hopfield.patterns import (
    beta_from_effective,
    digit_patterns,
    effective_beta,
    equidistant_patterns,
    load_patterns,
    mean_squared_distance,
    random_patterns,
)
from gmm_speciation.hopfield.potts import (
    CriticalBetas,
    critical_betas,
    potts_energy,
    potts_overlaps,
)
from gmm_speciation.hopfield.transitions import (
    EntropicTransitions,
    equidistant_transitions,
    pattern_transitions,
)

__all__ = [
    "Branch",
    "CriticalBetas",
    "EntropicTransitions",
    "Loop",
    "Network",
    "PatternBifurcations",
    "as_mixture",
    "beta_from_effective",
    "critical_betas",
    "digit_patterns",
    "effective_beta",
    "energy",
    "equidistant_patterns",
    "equidistant_transitions",
    "hysteresis_loop",
    "load_patterns",
    "mean_squared_distance",
    "pattern_transitions",
    "potts_energy",
    "potts_overlaps",
    "random_patterns",
    "retrieve",
]
