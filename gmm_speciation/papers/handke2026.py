"""Handke et al. 2026, "The entropic signature of class speciation in diffusion models", arXiv 2602.09651.

What of it needs no trained model; the rest is in `model_bridges.papers`.
"""

import jax
import numpy as np

from gmm_speciation import asymptotics, families
from gmm_speciation.entropy import class_entropy
from gmm_speciation.papers.parts import Found, Paper, Part, Settings
from gmm_speciation.processes import OrnsteinUhlenbeck
from gmm_speciation.published import deep_hierarchy
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.reporting.papers import PaperRow, Place, rows_of
from gmm_speciation.verification import clocks
from gmm_speciation.verification.asymptotics import width_claim
from gmm_speciation.verification.guidance import closed_form_claims, window_claims
from gmm_speciation.verification.guided_runs import guided_study
from gmm_speciation.verification.pairs import peak_claims
from gmm_speciation.verification.published import hierarchy_claims
from gmm_speciation.verification.rows import row

_SOURCE = "Handke et al. 2026"
_VERIFY = "gmm-speciation verify --section"
_V1 = "abstract of v1: the rate concentrates on the logarithmic time scale"
_GIVES_NONE = "the paper gives none in its abstract; theory: "
_LEVELS = "abstract: partitions resolve levels of abstraction"
_GUIDANCE = "abstract: guidance redistributes information over time"
_CONTROL = "abstract: a basis for time-localized control"
_HALF = 1.0440133  # kappa at which half of log 2 is left
_LEAF = 0.01  # variance of a leaf
_NEAR = 0.25  # of t_S on either side
_DIMS = (10**2, 10**4, 10**7, 10**12)
_RATE = {
    "dH/dt peaks": Place(_V1, f"{_GIVES_NONE}κ* = 1.5083306", f"{_VERIFY} pairs"),
    "half the entropy": Place(_V1, f"{_GIVES_NONE}κ = 1.0440133", f"{_VERIFY} pairs"),
    "wide at half maximum": Place(
        _V1, f"{_GIVES_NONE}one law for every d", f"{_VERIFY} asymptotics"
    ),
}
_CLOCKS = {
    "VP window": Place(_V1, f"{_GIVES_NONE}1/log d", f"{_VERIFY} asymptotics", "clock-windows"),
    "VE window": Place(
        "VE has no sharp transition (section not cited here)",
        f"{_GIVES_NONE}the same window on the clock σ",
        f"{_VERIFY} asymptotics",
        "clock-windows",
    ),
}
_HIERARCHY = {
    "": Place(
        _LEVELS,
        "theory: chain rule and exact integrals; the paper's own partitions are not public",
        f"{_VERIFY} published",
        "hierarchy",
    )
}
_GUIDED = {
    "": Place(
        _GUIDANCE,
        "theory: closed form of constant guidance; the paper gives none",
        "gmm-speciation verify --guidance",
        "guided-information",
    )
}
_WINDOW = {
    "": Place(
        _CONTROL,
        "the paper gives no number; bounds are ours",
        "gmm-speciation verify --guidance",
        "interval-gain",
    )
}


def _concentration(settings: Settings) -> Found:
    claims = [
        *peak_claims(settings.key, settings.num_samples),
        width_claim(settings.key, settings.num_samples),
    ]
    place = Place(_V1, "the paper: the scale ½ log d")
    return Found(
        [*rows_of(claims, _RATE), *(PaperRow(one, place) for one in (_slope(), *_shares()))]
    )


def _slope() -> Claim:
    fits = asymptotics.speciation_scaling(
        lambda dim: families.symmetric_pair(dim, reduced=True), _DIMS
    )
    return row(
        "the peak of the rate lies on ½ log d: its slope against log d",
        _SOURCE,
        f"line through exact peaks at d = {_DIMS[0]:.0e} to {_DIMS[-1]:.0e}, Ornstein-Uhlenbeck",
        0.5,
        fits["entropic peak"].slope,
        tolerance=0.005,
    )


def _shares() -> list[Claim]:
    clock, found = OrnsteinUhlenbeck(), []
    for dim, bound in ((10**3, 0.8), (10**12, 0.99)):
        times = np.array([1 - _NEAR, 1 + _NEAR]) * np.log(dim) / 2
        law = families.symmetric_pair(dim, reduced=True)
        early, late = (
            float(class_entropy(law, level).value) for level in np.asarray(clock.log_snr(times))
        )
        found.append(
            row(
                f"the class is decided within a quarter of t_S: share of log 2, d = {dim:.0e}",
                _SOURCE,
                "integral of the exact entropy at the two ends; the bound is ours",
                bound,
                (late - early) / np.log(2),
                relation="at least",
            )
        )
    return found


def _two_clocks(settings: Settings) -> Found:
    claims = clocks.claims(settings.key, settings.num_samples)
    windows = asymptotics.clock_windows(np.geomspace(10, 1e12, 120))
    return Found(rows_of(claims, _CLOCKS), {"clocks": windows})


def _partitions(settings: Settings) -> Found:
    found = deep_hierarchy(variance=_LEAF)
    claims = hierarchy_claims(found, settings.key, settings.num_samples)
    names = list(found.criteria)
    levels = [found.criteria[name]["half entropy"].log_snr for name in names]
    halves = np.square(found.distances) / 4
    # Half is left at kappa = halves / (sigma^2 + variance inside a class); the levels below are inside.
    inside = np.append(np.cumsum(halves[::-1])[::-1][1:], 0.0) + _LEAF
    expected = -np.log(halves / _HALF - inside)
    for index, (name, level) in enumerate(zip(names, levels, strict=True)):
        assert level is not None  # each level has one
        claims.append(
            row(
                f"{name.partition(',')[0]} of four is half decided at log-SNR",
                _SOURCE,
                "half-entropy point of its own decision; each level ten times closer than the one above",
                float(expected[index]),
                float(level.value),
                tolerance=0.02,
            )
        )
    return Found(rows_of(claims, _HIERARCHY), {"hierarchy": found})


def _guidance(settings: Settings) -> Found:
    key = jax.random.fold_in(settings.key, 1)
    found = guided_study(key, settings.num_samples)
    claims = rows_of(closed_form_claims(found), _GUIDED)
    claims += rows_of(window_claims(found.window), _WINDOW)
    return Found(claims, {"guided": found})


PAPER = Paper(
    "Handke et al. 2026: the entropic signature of class speciation",
    "arXiv 2602.09651",
    "Claims are those of the abstract. That the rate concentrates on the logarithmic scale stands in the "
    "abstract of version 1, no longer in that of version 2. Partitions and prompts are not public; "
    "here a binary tree stands for them. On trained models: `model-bridges paper handke2026`.",
    (
        Part("the rate on ½ log d", (40, 60), _concentration),
        Part("VP against VE", (10, 30), _two_clocks),
        Part("partitions", (20, 30), _partitions),
        Part("guidance", (60, 200), _guidance),
    ),
)
