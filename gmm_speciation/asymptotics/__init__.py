"""Laws of large dimension and of many classes.

two_classes     limiting entropy, rate and clone agreement around t_S; widths of the transition
many_classes    the random-energy law, and where each criterion stands as K grows
clocks          the width of the window on the clocks of VP and VE
scaling         t_S against log d, fitted to measured speciation points
"""

from gmm_speciation.asymptotics.clocks import ClockWindows, clock_windows
from gmm_speciation.asymptotics.many_classes import (
    ClassCriteria,
    ManyClassLimit,
    criteria_by_classes,
    many_class_limit,
)
from gmm_speciation.asymptotics.scaling import ScalingFit, fit_scaling, speciation_scaling
from gmm_speciation.asymptotics.two_classes import (
    EqualMeans,
    LimitCurve,
    LimitWindow,
    SeparatedMeans,
    TwoClassLaw,
    full_width,
)

__all__ = [
    "ClassCriteria",
    "ClockWindows",
    "EqualMeans",
    "LimitCurve",
    "LimitWindow",
    "ManyClassLimit",
    "ScalingFit",
    "SeparatedMeans",
    "TwoClassLaw",
    "clock_windows",
    "criteria_by_classes",
    "fit_scaling",
    "full_width",
    "many_class_limit",
    "speciation_scaling",
]
