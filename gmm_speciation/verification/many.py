"""Many classes, classes that differ in variance, and collapse."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import brentq

from gmm_speciation import exact, families
from gmm_speciation.entropy import class_entropy
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import OrnsteinUhlenbeck, variance_preserving
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.speciation import curvature_point, excess_entropy
from gmm_speciation.verification.draws import averaged, curve, generators, normals, turning_level
from gmm_speciation.verification.rows import row
from gmm_speciation.verification.signals import open_and_missed


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """More than two classes, shells, memorisation."""
    return [
        *_equidistant(key, num_samples),
        *_orthogonal_signals(),
        _many_classes(),
        *symmetric_point_claims(),
        *_shells(key, num_samples),
        *_variances(),
        collapse_claim(key),
    ]


def _equidistant(key, num_samples) -> list[Claim]:
    found = []
    for num_classes, s, share in (
        # s, and draws a replicate as a share of `num_samples`
        (4, 2.0, 1 / 4),
        (10, 4.0, 1 / 2),
        (10, 32.0, 1 / 4),
        (100, 16.0, 1),
        (1000, 8.0, 1 / 8),
        (10**6, 8.0, 1 / 512),
    ):
        entropy, missed = open_and_missed(
            num_classes,
            np.array([s]),
            jax.random.fold_in(key, num_classes),
            int(share * num_samples),
        )
        found += [
            row(
                f"{num_classes:,} equidistant classes, s = {s:g}: {name}",
                "orthogonal signalling in Gaussian noise",
                "posterior of draws in K dimensions",
                float(predicted),
                averaged(measured[:, 0]),
            )
            for name, predicted, measured in (
                ("H by two nested integrals", exact.equidistant_entropy(num_classes, s), entropy),
                ("1 − φ = −2 dH/ds", exact.equidistant_mmse(num_classes, s), missed),
            )
        ]
    return found


def _orthogonal_signals() -> list[Claim]:
    """Published: signal per bit, `s / (2 C)`, at which M orthogonal signals carry anything at all."""
    s = 1e-4
    return [
        row(
            f"{count:,} orthogonal signals, faint: SNR per bit at capacity is M ln 2 / (M − 1)",
            "Dolinar, Divsalar, Hamkins & Pollara 2000, JPL TMO Progress Report 42-142",
            f"s / 2C by the nested integrals at s = {s:g}; the limit is reached like s",
            count * np.log(2) / (count - 1),
            s * np.log(2) / 2 / (np.log(count) - float(exact.equidistant_entropy(count, s))),
            tolerance=5e-4,
        )
        for count in (2, 16, 1024)
    ]


def _many_classes() -> Claim:
    num_classes = 1e12
    log_k = np.log(num_classes)
    half = brentq(
        lambda s: float(exact.equidistant_entropy(num_classes, s)) - log_k / 2,
        0.5 * log_k,
        2 * log_k,
        xtol=1e-9,
    )
    return row(
        "many classes: half the entropy is left at s = log K, K = 10¹²",
        "random-energy model (Derrida 1981)",
        "root of the nested integrals over log K; the limit is reached like 1/√log K",
        1.0,
        half / log_k,
        tolerance=2e-3,
    )


def symmetric_point_claims() -> list[Claim]:
    """Where the symmetric point of K classes turns."""
    found = []
    for num_classes in (3, 10):
        law = families.equidistant(num_classes, num_classes, 5.0, variance=0.0)
        point = curvature_point(law).log_snr
        assert point is not None  # equal classes have one
        found.append(
            row(
                f"the symmetric point of {num_classes} classes turns at s = K, not near log K",
                "Ramsauer et al. 2021; Biroli et al. 2024",
                "root of the top eigenvalue of the dense Hessian",
                float(np.log(2 * num_classes / 25.0)),
                turning_level(law, -5.0, 2.0),
                tolerance=1e-6,
            )
        )
    return found


def _shells(key, num_samples) -> list[Claim]:
    clock = OrnsteinUhlenbeck()
    found = []
    for dim, variances, time in (
        (256, (0.5, 1.5), 0.8672),
        (4096, (0.5, 1.5), 1.5596),
        (64, (0.05, 5.0), 1.5),
    ):
        law = families.equal_means(dim, variances)
        levels = np.asarray(clock.log_snr(np.array([time, time + 0.5])))
        # Only the radius decides, so it alone is quasi-random.
        drawn = curve(law, levels, normals(max(num_samples // 32, 64), np.zeros((dim, 0))), key)
        found.append(
            row(
                f"equal means, variances {variances[0]:g} and {variances[1]:g}: H at t = {time}, "
                f"by one radial integral, d = {dim}",
                "Achilli et al. 2026",
                "draws in d dimensions",
                float(class_entropy(law, levels[0], method="exact").value),
                drawn.entropy[0],
            )
        )
    dim = 10**10
    reduced = families.equal_means(dim, [0.5, 1.5], reduced=True)
    limit = clock.log_snr(np.log(dim / 8) / 4)
    found.append(
        row(
            "equal means speciate at ¼ log(d Δv²/8): κ = 1 there, d = 10¹⁰",
            "Achilli et al. 2026",
            "radial integral",
            float(exact.binary_entropy(1.0)),
            float(class_entropy(reduced, limit).value),
            tolerance=1e-4,
        )
    )
    return found


def _variances() -> list[Claim]:
    """Classes on a line whose variances differ by large ratios, against scipy's integral of densities."""
    found = []
    for means, variances, level in (
        ((0.0, 0.3), (0.01, 4.0), 3.0),
        ((0.0, 2.0), (1e-6, 100.0), 0.0),
        ((0.0, 0.3), (1e-4, 4.0), 8.0),
        ((0.0, 0.3), (0.005, 5.0), 4.0),
    ):
        law = GaussianMixture.isotropic(np.array(means)[:, None], list(variances))
        found.append(
            row(
                f"two classes on a line, variances {variances[0]:g} and {variances[1]:g}: H at λ = {level:g}",
                "entropy of the posterior",
                "scipy's adaptive integral of p(x) h(p(c|x))",
                float(class_entropy(law, level, method="exact").value),
                _line_entropy(np.array(means), np.array(variances), level),
                tolerance=1e-6,
            )
        )
    return found


def _line_entropy(
    means: Float[np.ndarray, " K"], variances: Float[np.ndarray, " K"], level: float
) -> float:
    """`H(C|X)` of equal classes on a line at `X = x_0 + sigma eps`."""
    scales = np.sqrt(variances + np.exp(-level))

    def integrand(x: float) -> float:
        log_density = stats.norm.logpdf(x, means, scales) - np.log(len(means))
        log_total = np.logaddexp.reduce(log_density)
        return float(-np.sum(np.exp(log_density) * (log_density - log_total)))

    edges = np.unique((means[:, None] + scales[:, None] * np.arange(-12, 13)).ravel())
    return sum(quad(integrand, *piece, epsabs=1e-14, epsrel=1e-12)[0] for piece in pairwise(edges))


def collapse_claim(key) -> Claim:
    """Posteriors over the training points, every point drawn of the distribution and noised.

    The squared norm of the noisy state and of the noise have known means, `d v` and `d`: control variates.
    """
    num_points, dim, level = 1000, 12, -2.0
    alpha, sigma = (float(scale) for scale in variance_preserving(jnp.asarray(level)))
    found = []
    for rng in generators(key, 64):
        points = rng.standard_normal((num_points, dim))
        noise = rng.standard_normal((num_points, dim))
        x = alpha * points + sigma * noise
        log_p = alpha * (x @ points.T - alpha * np.sum(points**2, -1) / 2) / sigma**2
        log_p -= np.logaddexp.reduce(log_p, -1, keepdims=True)
        entropy = -np.sum(np.exp(log_p) * log_p, -1)
        controls = np.stack([np.sum(x**2, -1), np.sum(noise**2, -1), np.sum(points**2, -1)])
        found.append([entropy.mean(), *(controls.mean(-1) - dim)])
    rows = np.array(found)
    slopes = np.linalg.lstsq(
        rows[:, 1:] - rows[:, 1:].mean(0), rows[:, 0] - rows[:, 0].mean(), rcond=None
    )[0]
    # Before the collapse H(I|X) = log n - I(X_0; X) up to terms exponentially small in d.
    return row(
        f"excess entropy per dimension (log n)/d − ½ log(1 + s²e^λ), n = 1000, d = 12, λ = {level:g}",
        "Biroli et al. 2024",
        f"posterior over the training points, {len(rows)} training sets",
        float(excess_entropy(level, num_points, dim)),
        averaged((rows[:, 0] - rows[:, 1:] @ slopes) / dim),
    )
