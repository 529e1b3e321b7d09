"""Biroli, Bonnaire, de Bortoli & Mezard 2024, "Dynamical regimes of diffusion models", arXiv 2402.18491."""

import numpy as np

from gmm_speciation.papers.parts import Found, Paper, Part, Settings
from gmm_speciation.processes import OrnsteinUhlenbeck
from gmm_speciation.published import biroli_cloning
from gmm_speciation.reporting.claims import Verdict
from gmm_speciation.reporting.papers import PaperRow, Place, rows_of
from gmm_speciation.speciation import spectral_point
from gmm_speciation.verification.asymptotics import slope_claims
from gmm_speciation.verification.many import collapse_claim, symmetric_point_claims
from gmm_speciation.verification.pairs import criteria_claims
from gmm_speciation.verification.published import cloning_claims
from gmm_speciation.verification.rows import row

_SOURCE = "Biroli et al. 2024"
_VERIFY = "gmm-speciation verify --section"
_SPECIATION, _COLLAPSE = "speciation time (section not cited here)", "collapse time (the same)"
# The table's largest eigenvalue of the data's covariance, two classes each, and its speciation time.
TABLE = {
    "MNIST": (7.66, 1.02),
    "CIFAR": (16.72, 1.41),
    "ImageNet16": (3.05, 0.56),
    "ImageNet32": (12.11, 1.25),
    "LSUN": (60.52, 2.05),
}
_PLACES = {
    "spectral time": Place(_SPECIATION, "theory: ½ log(1 + Λ)", f"{_VERIFY} pairs"),
    "curvature of log p": Place(_SPECIATION, "theory: κ = 1", f"{_VERIFY} pairs"),
    "clones agree with φ = E": Place("cloning", "theory: φ = E Σ p²", f"{_VERIFY} pairs"),
    "the symmetric point": Place(
        "beyond two classes: not in the paper", "theory: s = K", f"{_VERIFY} many"
    ),
    "excess entropy": Place(
        _COLLAPSE, "theory: the paper's excess entropy at finite n", f"{_VERIFY} many"
    ),
    "t_S = ½ log d + const": Place(
        _SPECIATION, "the paper: t_S = ½ log d", f"{_VERIFY} asymptotics"
    ),
    "χ² per branch": Place("Fig. 1", "theory: φ(d e^−2t)", f"{_VERIFY} published", "cloning"),
    "Fig. 1": Place(
        "Fig. 1", "the paper: t_S = ½ log d; theory: φ(1)", f"{_VERIFY} published", "cloning"
    ),
}


def _criteria(settings: Settings) -> Found:
    key, count = settings.key, settings.num_samples
    claims = [*criteria_claims(key, count), *symmetric_point_claims(), collapse_claim(key)]
    claims += slope_claims(key, count)
    return Found(rows_of([one for one in claims if _SOURCE in one.source], _PLACES))


def _figure(settings: Settings) -> Found:
    pairs, full = (1000, {256: 32}) if settings.quick else (10_000, None)
    figure = biroli_cloning(key=settings.key, num_pairs=pairs, full_pairs=full)
    return Found(rows_of(cloning_claims(figure), _PLACES), {"cloning": figure})


def _table(settings: Settings) -> Found:
    """Speciation times of real images from the published eigenvalues, which are two decimals."""
    place = Place("table of real images", "the paper: its t_S, from its Λ")
    found = [
        PaperRow(
            row(
                f"{name}, two classes: t_S = ½ log Λ, Λ = {top}",
                _SOURCE,
                "½ log of the published eigenvalue; the data themselves are not measured here",
                time,
                float(np.log(top) / 2),
                tolerance=0.0051,  # two decimals
            ),
            place,
        )
        for name, (top, time) in TABLE.items()
    ]
    top, time = TABLE["ImageNet16"]
    point = spectral_point(top).on(OrnsteinUhlenbeck())
    assert point is not None  # the eigenvalue is positive
    short = row(
        "ImageNet16: its t_S is where Λα² = σ², the criterion before its limit of large Λ",
        _SOURCE,
        "½ log(1 + Λ), the spectral point of the same eigenvalue",
        time,
        float(point.value),
        tolerance=0.0051,
        expected=Verdict.NO,
        note="the table has ½ log Λ, which at Λ = 3 is early by 0.14",
    )
    return Found([*found, PaperRow(short, place)])


PAPER = Paper(
    "Biroli et al. 2024: dynamical regimes of diffusion models",
    "arXiv 2402.18491",
    "Two classes N(±(1, …, 1), I) on the Ornstein-Uhlenbeck clock. The eigenvalues of the table are the "
    "paper's; which two classes of each data set it took and how it scaled them is not repeated here. Clones "
    "of a trained network: `model-bridges entropy MODEL --preset biroli2024`.",
    (
        Part("criteria, collapse, slopes", (60, 100), _criteria),
        Part("Fig. 1: clones", (20, 120), _figure),
        Part("table of speciation times", (1, 1), _table),
    ),
)
