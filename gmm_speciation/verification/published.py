"""Published experiments: simulated at their settings, and the same numbers on other paths."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy import stats
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator

from gmm_speciation import exact
from gmm_speciation.estimate import Estimate
from gmm_speciation.published import (
    CloningFigure,
    DeepHierarchy,
    FourPoints,
    biroli_cloning,
    deep_hierarchy,
    four_points,
)
from gmm_speciation.published.line import VARIANCE
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.verification.draws import curve, normals
from gmm_speciation.verification.rows import row

_PAIRS = 10_000  # as published, from 8192 draws on


class Study(eqx.Module):
    """The experiments that the claims are about, for the pictures."""

    cloning: CloningFigure
    hierarchy: DeepHierarchy
    line: FourPoints


def study(key: PRNGKeyArray, num_samples: int) -> Study:
    """Run the experiments: fewer pairs of clones where fewer draws are asked for."""
    pairs = _PAIRS if num_samples >= 8192 else num_samples
    return Study(biroli_cloning(key=key, num_pairs=pairs), deep_hierarchy(), four_points())


def claims(key: PRNGKeyArray, num_samples: int, found: Study) -> list[Claim]:
    """Clones, the hierarchy, the four points."""
    return [
        *cloning_claims(found.cloning),
        *hierarchy_claims(found.hierarchy, key, num_samples),
        *line_claims(found.line),
    ]


def cloning_claims(figure: CloningFigure) -> list[Claim]:
    """Where clones part, and how far they follow the exact probability."""
    claims = []
    for index, dim in enumerate(figure.dims):
        speciation = np.log(dim) / 2
        claims.append(
            row(
                f"Fig. 1, d = {dim}: clones agree with φ(1) = 0.775 at t_S = ½ log d",
                "Biroli et al. 2024",
                f"time of best fit of the curve, {figure.num_pairs} pairs a branch time, 1000 Euler steps",
                speciation,
                _place(figure, index),
                tolerance=0.02 * speciation,
            )
        )
        fit = figure.chi_square(dim)
        claims.append(
            row(
                f"Fig. 1, d = {dim}: simulated minus φ(d e^−2t), χ² per branch time",
                "Biroli et al. 2024",
                f"{fit.dof} branch times; the bound is exceeded by chance once in 20,000 runs",
                stats.chi2.isf(5e-5, fit.dof) / fit.dof,
                fit.value / fit.dof,
                relation="at most",
            )
        )
    for dim, run in figure.full.items():
        middle = len(run.times) // 2
        claims.append(
            row(
                f"Fig. 1 in all {dim} dimensions: clones agree with φ(1) = 0.775 at t_S",
                "Biroli et al. 2024",
                "pairs of reverse runs of the whole state",
                float(exact.clone_agreement(dim * np.exp(-2 * run.times[middle]))),
                run.agreement[middle],
                tolerance=0.25,  # a few dozen pairs
            )
        )
    return claims


def _place(figure: CloningFigure, index: int) -> Estimate:
    """When simulated clones agree by phi(1): t_S moved by how much later than phi the agreement falls, by
    least squares on its slope."""
    phi, rare = figure.phi[index], np.isnan(figure.scores[index])
    slope = np.gradient(figure.line[index], figure.line_times)
    slope = np.interp(figure.times, figure.line_times, slope)
    variance = phi * (1 - phi) / figure.num_pairs
    pull = np.where(rare, 0.0, slope / np.where(rare, 1.0, variance))
    excess = np.asarray(figure.projected.value)[index] - phi
    information = np.sum(pull * slope)
    place = np.log(figure.dims[index]) / 2 - np.sum(pull * excess) / information
    return Estimate(place, information**-0.5)


def hierarchy_claims(found: DeepHierarchy, key, num_samples) -> list[Claim]:
    """The chain rule, and where every level is decided."""
    chain = found.chain
    worst = np.unravel_index(np.abs(chain.gap).argmax(), chain.gap.shape)
    claims = [
        row(
            "chain rule: H(fine|X) = H(coarse|X) + H(fine|coarse, X), depth 4, where it differs most",
            "chain rule of entropy",
            f"quadrature of 16 leaves and of the mixtures inside classes, {len(chain.log_snr)} noises",
            float((chain.coarse + chain.inside)[worst]),
            float(chain.fine[worst]),
            tolerance=1e-6,
        )
    ]
    draw = normals(max(num_samples // 8, 64), np.eye(1))
    for index, (name, criteria) in enumerate(found.criteria.items()):
        partition = found.hierarchy[index]
        point = criteria["half entropy"].log_snr
        assert point is not None  # each level has one
        level = float(point.value)
        exact_curve = found.entropies[name]
        predicted = float(
            PchipInterpolator(-exact_curve.log_snr, np.asarray(exact_curve.entropy.value))(-level)
        )
        seen = curve(
            found.mixture,
            np.array([level, level - 1]),
            draw,
            jax.random.fold_in(key, index),
            partition,
        )
        claims.append(
            row(
                f"{name}: H(level|X) where half of its own decision is left",
                "hierarchical speciation; Sclocchi et al. 2025",
                "entropy of posteriors of draws of all 16 leaves",
                predicted,
                seen.entropy[0],
            )
        )
    return claims


def line_claims(found: FourPoints) -> list[Claim]:
    """Peaks of -8..8 against differences of entropies that scipy integrates, from the betas alone."""
    alphas = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))
    claims = []
    for name, decision, groups in (
        ("{−8, −4} or {6, 8}", found.sides, ((-8.0, -4.0), (6.0, 8.0))),
        ("−8 or −4", found.left, ((-8.0,), (-4.0,))),
        ("6 or 8", found.right, ((6.0,), (8.0,))),
    ):
        peak = decision.peak()
        steps = np.round(float(peak.time.value)) + np.arange(-60, 61, 10)
        entropy = np.array(
            [
                [_entropy_by_quadrature(groups, alphas[int(step) + shift]) for shift in (0, 1)]
                for step in steps
            ]
        )
        slope = np.polyfit(steps + 0.5, entropy[:, 1] - entropy[:, 0], 4)
        fine = np.linspace(steps[0], steps[-1], 12001)
        place = fine[int(np.argmax(np.polyval(slope, fine)))]
        claims.append(
            row(
                f"{name}: step of the linear DDPM schedule at which dH/dt peaks",
                "Handke et al. 2025",
                "differences over a step of h(C) + h(X|C) − h(X), scipy quadrature",
                float(peak.time.value),
                place,
                tolerance=0.5,
            )
        )
    return claims


def _entropy_by_quadrature(groups: tuple[tuple[float, ...], ...], alpha_squared: float) -> float:
    """`H(C|X) = log C + mean h(X|c) - h(X)` of equal groups, differential entropies integrated."""
    variance = alpha_squared * VARIANCE + 1 - alpha_squared
    width = np.sqrt(variance)
    means = [np.sqrt(alpha_squared) * np.array(group) for group in groups]

    def density(x: float, centres: np.ndarray) -> float:
        heights = np.exp(-((x - centres) ** 2) / (2 * variance))
        return float(np.mean(heights)) / (np.sqrt(2 * np.pi) * width)

    def entropy(centres: np.ndarray) -> float:
        low, high = centres.min() - 12 * width, centres.max() + 12 * width

        def integrand(x: float) -> float:
            p = density(x, centres)
            return -p * np.log(p) if p > 0 else 0.0

        value, _ = quad(integrand, low, high, points=sorted(centres), limit=200, epsabs=1e-11)
        return value

    within = np.mean([entropy(centres) for centres in means])
    return float(np.log(len(groups)) + within - entropy(np.concatenate(means)))
