"""Pictures in the reports of `verify`, by section, and of `paper`, by study."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gmm_speciation import asymptotics, families, plotting
from gmm_speciation.curves import ClockedCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.guidance import GuidedCurve
from gmm_speciation.hopfield import critical_betas
from gmm_speciation.processes import OrnsteinUhlenbeck
from gmm_speciation.reduction import ReducedMixture
from gmm_speciation.verification.guided_runs import Guided
from gmm_speciation.verification.rows import kappa_of

Pictures = dict[str, tuple[plotting.Figure, str]]

_DIMS = (16, 64, 1024, 10**6)
_FAR_DIMS = (10**2, 10**4, 10**7, 10**12)


def section_pictures(section: str, study: Any) -> Pictures:
    """File name to picture and caption; none for most sections.

    Args:
        section: Its name.
        study: What its study found; None where it has none.
    """
    if section == "asymptotics":
        return _asymptotics()
    parts: dict[str, Any] = {}
    if section == "guidance":
        parts = {"guided": study.guided, "removals": study}
    elif section == "published":
        parts = {"cloning": study.cloning, "hierarchy": study.hierarchy, "line": study.line}
    return {file: one for part in parts.items() for file, one in study_pictures(*part).items()}


def study_pictures(name: str, study: Any) -> Pictures:
    """File name to picture and caption, of one study by its name; `section_pictures` has several."""
    return _OF_STUDY[name](study)


def _asymptotics() -> Pictures:
    counts = np.unique(np.round(np.geomspace(2, 1e6, 13)))
    fits: dict[str, asymptotics.ScalingFit] = {}
    for name, family in (
        ("means ±m", lambda dim: families.symmetric_pair(dim, reduced=True)),
        ("equal means", lambda dim: families.equal_means(dim, (0.5, 1.5), reduced=True)),
    ):
        found = asymptotics.speciation_scaling(family, _FAR_DIMS)
        fits |= {f"{name}, {one}": found[one] for one in ("entropic peak", "half entropy")}
    return {
        "criteria-by-classes": (
            plotting.plot_class_criteria(asymptotics.criteria_by_classes(counts)),
            "Five criteria for K equidistant classes without variance, in the clock s.",
        ),
        "limit-separated-means": (
            plotting.plot_limit(*_limit(asymptotics.SeparatedMeans(), _means)),
            "Curves around t_S = ½ log d, and their law; s² = 4. Curves end where t = 0.",
        ),
        "limit-equal-means": (
            plotting.plot_limit(*_limit(asymptotics.EqualMeans(), _variances)),
            "Curves around t_S = ¼ log(d/8), and their law; variances ½ and 1½.",
        ),
        **study_pictures("clocks", asymptotics.clock_windows(np.geomspace(10, 1e12, 120))),
        "scaling": (
            plotting.plot_scaling(fits),
            "Speciation times against log d and the fitted lines, slopes with 95 % intervals.",
        ),
    }


def _means(dim: int) -> ReducedMixture:
    return families.symmetric_pair(dim, variance=4.0, reduced=True)


def _variances(dim: int) -> ReducedMixture:
    return families.equal_means(dim, (0.5, 1.5), reduced=True)


def _limit(
    law: asymptotics.TwoClassLaw, family: Callable[[int], ReducedMixture]
) -> tuple[asymptotics.LimitCurve, dict[str, tuple[ClockedCurve, float]]]:
    """The law, and curves of finite dimension on their clock with t_S."""
    clock = OrnsteinUhlenbeck()
    offset = np.linspace(-4, 4, 161) / law.exponent
    curves = {}
    for dim in _DIMS:
        speciation = float(law.speciation_time(dim))
        times = (speciation + offset)[speciation + offset > 3e-3]
        curve = entropy_curve(family(dim), clock.log_snr(times)).on(clock)
        curves[f"d = {dim:,}"] = curve, speciation
    return law.curve(offset), curves


def _guided(study: Guided) -> Pictures:
    return {
        "guided-information": (
            plotting.plot_guided(
                study.curves,
                {
                    f"scale {scale:g}, d = {dim}": (scale, _thinned(run.curve, dim))
                    for (dim, scale), run in study.runs.items()
                },
                study.window,
            ),
            "Cross-entropy of the guided one of two classes: closed form, and guided sampling in d "
            "dimensions with 95 % bars. Shaded: the central 80 % of the unguided information.",
        ),
        "interval-gain": (
            plotting.plot_interval_gain(study.gains, study.window),
            "Guidance in one window of κ alone, against the window's place.",
        ),
    }


def _hopfield(study: Any) -> Pictures:
    found, network = study.bifurcations, study.network
    betas = critical_betas(network.num_patterns)
    return {
        "bifurcations": (
            plotting.plot_bifurcations([found], betas, network.largest),
            f"{network.num_patterns} equidistant patterns: overlap of the fixed points with one of them; "
            "minima solid, saddles dashed.",
        ),
        "hysteresis": (
            plotting.plot_loops(study.loops),
            "Retrieval swept up (dashed) and down (solid) in β_eff: a loop where the transition is of first "
            "order, none for two patterns.",
        ),
    }


def _thinned(curve: GuidedCurve, dim: int) -> GuidedCurve:
    """Every fourteenth point of a sampled curve, on the clock kappa of two unit-variance classes."""
    kappa = kappa_of(curve.clock, dim)
    kept = np.flatnonzero(kappa >= 0.01)[dim % 7 :: 14]
    slope = kappa / (1 + np.exp(curve.clock))  # dkappa / dlambda
    rate = Estimate(
        np.asarray(curve.rate.value)[kept] / slope[kept],
        np.asarray(curve.rate.stderr)[kept] / slope[kept],
        curve.rate.dof,
    )
    return GuidedCurve(
        kappa[kept],
        curve.cross_entropy[kept],
        rate,
        curve.probability[kept],
        curve.prior,
        "kappa",
        curve.method,
    )


# File names, pictures and captions of a study.
_OF_STUDY: dict[str, Callable[[Any], Pictures]] = {
    "guided": _guided,
    "hopfield": _hopfield,
    "removals": lambda study: {
        "negative-prompting": (
            plotting.plot_divergence(study.levels, study.divergence, study.information),
            "Where negative prompting leaves the mixture without the class; 95 % bands.",
        )
    },
    "cloning": lambda study: {
        "cloning": (
            plotting.plot_cloning(study),
            "Biroli et al. 2024, Fig. 1: clones of two classes; 95 % bars.",
        )
    },
    "hierarchy": lambda study: {
        "hierarchy": (
            plotting.plot_hierarchy(study),
            "A tree of depth four on a line, each level ten times closer than the one above.",
        )
    },
    "line": lambda study: {
        "four-points": (
            plotting.plot_four_points(study),
            "Points at −8, −4, 6, 8 under the linear DDPM schedule; time is its step.",
        )
    },
    "clocks": lambda study: {
        "clock-windows": (
            plotting.plot_clock_windows(study),
            "One window on two clocks: on that of VP it closes like 1/log d, on that of VE it stays.",
        )
    },
}
