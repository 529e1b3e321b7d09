"""Koulischer et al. 2023, "Exploring the temperature-dependent phase transition in modern Hopfield networks",
arXiv 2311.18434.

Patterns of one norm at one distance; the three critical beta each under its name, because which of them the
paper calls beta_c could not be read. Values are of beta_eff unless a row says beta.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gmm_speciation import hopfield
from gmm_speciation.estimate import Estimate
from gmm_speciation.papers.parts import Found, Paper, Part, Settings
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.reporting.papers import PaperRow, Place, rows_of
from gmm_speciation.verification.memory import critical_claims
from gmm_speciation.verification.rows import row

_SOURCE = "Koulischer et al. 2023"
_OPEN = (
    "which of appearance, equal energy and stability is its β_c is open: the text could not be read"
)
_CRITICAL = Place(
    "abstract: a phase transition at β_c",
    f"theory: mean-field Potts model; {_OPEN}",
    "gmm-speciation hopfield --num-patterns N",
    "bifurcations",
)
_ATTRACTORS = Place(
    "abstract: from a single global attractor to pattern-specific minima",
    "the paper: one, then one a pattern",
)
_ORDER = Place(
    "the kind of transition: not in the abstract",
    "the paper gives none in its abstract; theory: first order for N > 2",
    figure="hysteresis",
)
_EFFECTIVE = Place(
    "abstract: β_eff, which also depends on distribution and size of the patterns",
    "the paper's formula could not be read; here β_eff = βδ²/2, exact for equidistant patterns",
    "gmm-speciation hopfield --kind KIND",
)
_SHOWN = 10  # patterns in the picture and in the attractors
_TRACKED = (4, 12)  # of every kind, quick and not
_JUMP = (
    0.1  # of the overlap: more than a continuous transition changes in a step of 4e-4 of log beta
)


class Patterns(NamedTuple):
    """What the pictures show."""

    network: hopfield.Network
    bifurcations: hopfield.PatternBifurcations
    loops: dict[str, hopfield.Loop]


def _sweep(
    patterns: Float[np.ndarray, "N d"], index: int, center: float, width: float, count: int
) -> hopfield.Loop:
    return hopfield.hysteresis_loop(
        patterns, index, center * np.exp(np.linspace(-width, width, count))
    )


def _lost(patterns: Float[np.ndarray, "N d"], index: int) -> tuple[float, float]:
    """Where the pattern's minimum is lost on the way down, and how much overlap in one fine step."""
    top = 1.3 * len(patterns)
    middle, _ = _sweep(patterns, index, np.sqrt(0.3 * top), np.log(top / 0.3) / 2, 120).jump("down")
    return _sweep(patterns, index, middle, 0.03, 150).jump("down")


def _critical(settings: Settings) -> Found:
    counts = (3, 10) if settings.quick else (3, 5, 10, 50)
    rows = rows_of(critical_claims(counts), {"Hopfield": _CRITICAL})
    stored = hopfield.equidistant_patterns(_SHOWN)
    betas = hopfield.critical_betas(_SHOWN)
    assert betas.appearance is not None  # equidistant patterns have all three
    assert betas.stability is not None
    for place, b, expected in (
        ("just below appearance", 0.98 * betas.appearance, 1),
        ("just above appearance", 1.02 * betas.appearance, _SHOWN),
        ("above stability", 1.02 * betas.stability, _SHOWN),
    ):
        seen = _attractors(stored, b)
        rows.append(
            PaperRow(
                row(
                    f"minima reached from the patterns, N = {_SHOWN}, {place}",
                    _SOURCE,
                    "retrieval from every pattern until it is still; states 0.01 apart counted",
                    float(expected),
                    float(seen),
                    tolerance=0.0,
                ),
                _ATTRACTORS,
            )
        )
    network = hopfield.Network(stored)
    loops = {
        f"N = {n}": _sweep(
            hopfield.equidistant_patterns(n), 0, np.sqrt(1.3 * n), np.log(1.3 * n) / 2, 160
        )
        for n in (2, 3, _SHOWN)
    }
    return Found(
        [*rows, *_order(loops)], {"hopfield": Patterns(network, network.pattern(0), loops)}
    )


def _attractors(patterns: Float[np.ndarray, "N d"], beta_eff: float) -> int:
    beta = float(hopfield.beta_from_effective(patterns, beta_eff))
    ends = np.asarray(hopfield.retrieve(patterns, patterns, beta, 4000))
    near = np.linalg.norm(ends[:, None] - ends[None], axis=-1) < 0.01
    return len(np.unique(near, axis=0))


def _order(loops: dict[str, hopfield.Loop]) -> list[PaperRow]:
    betas = hopfield.critical_betas(_SHOWN)
    loop = loops[f"N = {_SHOWN}"]
    step = float(np.log(loop.beta_eff[1] / loop.beta_eff[0]))
    claims = [
        row(
            f"N = {_SHOWN}: hysteresis, {which} the state jumps at {name.replace('_', ' ')}",
            _SOURCE,
            f"sweep of retrieval in steps of {100 * step:.1f} % of β",
            float(getattr(betas, name)),
            loop.jump(sweep)[0],
            tolerance=1.5 * step * float(getattr(betas, name)),
        )
        for which, sweep, name in (
            ("upwards", "up", "stability"),
            ("downwards", "down", "appearance"),
        )
    ]
    overlaps = hopfield.potts_overlaps(_SHOWN, float(betas.appearance or np.nan) * (1 + 1e-9))
    assert overlaps is not None  # the pattern's minimum exists there
    for n, expected, tolerance in ((2, 0.0, 0.05), (_SHOWN, overlaps[0], 0.05)):
        claims.append(
            row(
                f"N = {n}: overlap lost in one step of 0.04 % of β, "
                + ("continuous" if n == 2 else "first order"),
                _SOURCE,
                "downward sweep of retrieval, fine around its largest step",
                expected,
                _lost(hopfield.equidistant_patterns(n), 0)[1],
                tolerance=tolerance,
            )
        )
    return [PaperRow(one, _ORDER) for one in claims]


def _effective(settings: Settings) -> Found:
    n, norm, cosine = 10, 2.0, 0.5
    stored = norm * hopfield.equidistant_patterns(n, n, cosine)
    betas = hopfield.critical_betas(n)
    measured = hopfield.Network(stored).pattern(0).betas
    claims = [
        row(
            f"equidistant, norm {norm:g}, cosine {cosine:g}: {name.replace('_', ' ')} at β (not β_eff)",
            _SOURCE,
            "minimum followed over β; β = 2 β_eff/δ², δ² = 4",
            float(getattr(betas, name)) / (norm**2 * (1 - cosine)),
            float(hopfield.beta_from_effective(stored, getattr(measured, name))),
            tolerance=1e-3,
        )
        for name in ("appearance", "equal_energy", "stability")
    ]
    kinds = {
        "10 random patterns, d = 64": hopfield.random_patterns(10, 64, 0),
        "50 random patterns, d = 64": hopfield.random_patterns(50, 64, 0),
        "20 digit patterns": hopfield.digit_patterns(20, 0),
    }
    if settings.patterns is not None:
        rows = hopfield.load_patterns(settings.patterns)
        kinds[f"{len(rows)} patterns of {settings.patterns.name}"] = rows
    for name, patterns in kinds.items():
        claims += _kind(name, patterns, min(_TRACKED[not settings.quick], len(patterns)))
    return Found([PaperRow(one, _EFFECTIVE) for one in claims])


def _kind(name: str, patterns: Float[np.ndarray, "N d"], tracked: int) -> Sequence[Claim]:
    """Where the minima of some patterns are lost, and whether by a jump."""
    predicted = float(hopfield.critical_betas(len(patterns)).appearance or np.nan)
    places, jumps = np.array([_lost(patterns, index) for index in range(tracked)]).T
    return [
        row(
            f"{name}: β_eff alone says where a pattern's minimum appears",
            _SOURCE,
            f"mean over {tracked} patterns, downward sweep; predicted for equidistant ones of the same δ²",
            predicted,
            Estimate.from_samples(places),
            tolerance=0.1 * predicted,
        ),
        row(
            f"{name}: a pattern's minimum is lost by a jump, mean overlap",
            _SOURCE,
            f"mean over {tracked} patterns, largest step of 0.04 % of β; the bound is ours",
            _JUMP,
            Estimate.from_samples(jumps),
            relation="at least",
        ),
    ]


PAPER = Paper(
    "Koulischer et al. 2023: the transition of modern Hopfield networks",
    "arXiv 2311.18434",
    f"Claims are those of the abstract; {_OPEN}. MNIST: save images of yours as rows of a .npy and give them "
    "by --patterns.",
    (
        Part("critical β and hysteresis of equidistant patterns", (20, 60), _critical),
        Part("β_eff of other patterns", (20, 90), _effective),
    ),
)
