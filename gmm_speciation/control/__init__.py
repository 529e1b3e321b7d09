"""Acting on a reverse process where the closed form says what must come out.

guided          guided sampling in all dimensions: the information of a class, shares, diversity
removal         a class removed from a mixture, against the mixture without it
strong          strong guidance: confidence, differential entropy, a component that splits
entropic_time   sampler grids equally spaced in information, and how good they are
distances       sliced Wasserstein distances; quantiles on the line
"""

from gmm_speciation.control.distances import quantiles, sliced_wasserstein
from gmm_speciation.control.entropic_time import entropic_times, karras_times, line_error
from gmm_speciation.control.guided import ClassReadout, GuidedRun, Outcome, guided_run, outcome
from gmm_speciation.control.removal import Removal, removal_error, remove_class, without_class
from gmm_speciation.control.strong import (
    ConfidenceGain,
    confidence_gain,
    num_modes,
    output_entropies,
)

__all__ = [
    "ClassReadout",
    "ConfidenceGain",
    "GuidedRun",
    "Outcome",
    "Removal",
    "confidence_gain",
    "entropic_times",
    "guided_run",
    "karras_times",
    "line_error",
    "num_modes",
    "outcome",
    "output_entropies",
    "quantiles",
    "removal_error",
    "remove_class",
    "sliced_wasserstein",
    "without_class",
]
