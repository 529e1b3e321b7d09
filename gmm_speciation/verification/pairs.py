"""Two classes +-m: the Gaussian channel, its peak on the clock, and the four criteria.

The measured side draws in d dimensions, quasi-randomly along m, runs the reverse process, solves its
backward equation, or differentiates log p.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar

from gmm_speciation import exact, families
from gmm_speciation.entropy import clone_agreement
from gmm_speciation.estimate import Estimate
from gmm_speciation.posteriors import entropy_of
from gmm_speciation.processes import OrnsteinUhlenbeck, variance_preserving
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.speciation import (
    curvature_point,
    drift_stability,
    sample_top_eigenvalue,
    simulate_cloning,
    spectral_point,
)
from gmm_speciation.verification.backward import means_backward
from gmm_speciation.verification.draws import (
    averaged,
    axes_of,
    curve,
    generators,
    normals,
    turning_level,
)
from gmm_speciation.verification.rows import kappa_of, level_of, row

_DIM = 64


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """The channel, the peak and the criteria."""
    return [
        *_channel(key, num_samples),
        *_capacity(),
        *peak_claims(key, num_samples),
        *criteria_claims(key, num_samples),
    ]


def criteria_claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """Spectral, curvature, drift and cloning."""
    return [_spectral(key, num_samples), *_bifurcation(), *_cloning(key, num_samples)]


def _channel(key, num_samples) -> list[Claim]:
    law = families.symmetric_pair(_DIM)
    draw = normals(num_samples // 16, axes_of(np.asarray(law.means)))

    @jax.jit
    def at(level, z):
        """Entropy and squared error at states around the middle, weighted to the distribution of X.

        Between the classes the states that decide are common, at however large a kappa.
        """
        noisy = law.perturb(*variance_preserving(level))
        log_middle = -jnp.sum(z**2, -1) / 2 - _DIM / 2 * jnp.log(2 * jnp.pi)
        weight = jnp.exp(noisy.log_prob(z) - log_middle)
        posterior = noisy.posterior(z)
        mean = posterior[:, 0] - posterior[:, 1]
        error = posterior[:, 0] * (1 - mean) ** 2 + posterior[:, 1] * (1 + mean) ** 2
        return [jnp.mean(weight * one) for one in (entropy_of(noisy.log_posterior(z)), error)]

    found = []
    for index, kappa in enumerate((0.1, 1.0, 4.0, 16.0, 50.0)):
        level = jnp.asarray(level_of(kappa, _DIM))
        rows = [
            at(level, jnp.asarray(draw(rng))) for rng in generators(jax.random.fold_in(key, index))
        ]
        entropy, error = (averaged(one) for one in zip(*rows, strict=True))
        where = f"κ = {kappa:g}, d = {_DIM}"
        found += [
            row(
                f"H(κ) = E log(1 + e^−L), {where}",
                "binary Gaussian channel; Guo, Shamai & Verdú 2005",
                "entropy of the posterior of weighted draws in d dimensions",
                float(exact.binary_entropy(kappa)),
                entropy,
            ),
            row(
                f"mmse(κ) = −2 dH/dκ, {where}",
                "Guo, Shamai & Verdú 2005",
                "squared error of the posterior mean of ±1, weighted draws in d dimensions",
                float(exact.binary_mmse(kappa)),
                error,
            ),
        ]
    return found


def _capacity() -> list[Claim]:
    """Published: `E_b / N_0 = kappa / (2 R)` in dB at which the capacity is the rate R of the code."""
    found = []
    for rate, words, decibel in (
        (1 / 3, "1/3", -0.495),
        (1 / 2, "1/2", 0.187),
        (2 / 3, "2/3", 1.059),
        (4 / 5, "4/5", 2.040),
    ):
        kappa = brentq(
            lambda k, rate=rate: 1 - float(exact.binary_entropy(k)) / np.log(2) - rate, 1e-3, 10
        )
        found.append(
            row(
                f"BPSK in Gaussian noise: E_b/N₀ in dB where the capacity is {words} bit",
                "Shannon limits of binary input; Divsalar et al. 2009, IEEE JSAC 27:876",
                "root of the integral of H",
                decibel,
                10 * np.log10(kappa / (2 * rate)),
                tolerance=6e-4,  # the table has three decimals
            )
        )
    return found


def _mmse(kappa: float) -> float:
    """`E sech^2(kappa + sqrt(kappa) xi)` by scipy."""

    def integrand(xi: float) -> float:
        return np.exp(-(xi**2) / 2) / np.cosh(kappa + np.sqrt(kappa) * xi) ** 2

    return quad(integrand, -12, 12, epsabs=1e-13, limit=200)[0] / np.sqrt(2 * np.pi)


def peak_claims(key, num_samples) -> list[Claim]:
    """Where dH/dt peaks and half of the entropy is left."""

    def place(mmse) -> float:
        best = minimize_scalar(
            lambda k: -k * mmse(k), bounds=(1.0, 2.0), method="bounded", options={"xatol": 1e-9}
        )
        return float(best.x)

    top = place(lambda k: float(exact.binary_mmse(k)))
    half = brentq(lambda k: float(exact.binary_entropy(k)) - np.log(2) / 2, 0.5, 2.0, xtol=1e-12)
    found = [
        row(
            "κ·mmse(κ) peaks at κ* = 1.5083306, a value derived here",
            "its maximum; Handke et al. 2026 say that there is a peak, not where",
            "maximum of κ E sech²(κ + √κ ξ) by scipy's quadrature",
            top,
            place(_mmse),
            tolerance=1e-6,
        )
    ]
    clock = OrnsteinUhlenbeck()
    for dim in (16, 256):
        law = families.symmetric_pair(dim)
        times = np.log(dim) / 2 + np.linspace(-1.2, 1.0, 41)
        draw = normals(num_samples // 16, axes_of(np.asarray(law.means)))
        sampled = curve(law, np.asarray(clock.log_snr(times)), draw, key)
        peak = sampled.on(clock).peak()
        crossing = sampled.crossing(np.log(2) / 2)
        found += [
            row(
                f"dH/dt peaks ½ log κ* before t_S = ½ log d, d = {dim}",
                "Handke et al. 2026",
                "spline through rates of draws in d dimensions",
                np.log(top) / 2,
                Estimate.exact(np.log(dim) / 2) - peak.time,
            ),
            row(
                f"half the entropy is left at κ = 1.0440133, derived here, d = {dim}",
                "Handke et al. 2026",
                "crossing of the entropy of draws in d dimensions",
                half,
                crossing.map(partial(kappa_of, dim=dim)),
            ),
        ]
    return found


def _spectral(key, num_samples) -> Claim:
    dim = 16
    law = families.symmetric_pair(dim)
    draw = normals(num_samples // 2, np.eye(dim))
    means = np.asarray(law.means)
    tops = []
    for rng in generators(key):
        z = draw(rng)
        tops.append(float(sample_top_eigenvalue(jnp.asarray(np.concatenate(means[:, None] + z)))))
    time = spectral_point(1.0 + dim).on(OrnsteinUhlenbeck())
    assert time is not None  # the eigenvalue is positive
    return row(
        "spectral time t_S = ½ log(1 + Λ), Λ = 1 + |m|², d = 16",
        "Biroli et al. 2024",
        "top eigenvalue of the covariance of draws",
        float(time.value),
        averaged(tops).map(lambda top: np.log1p(top) / 2),
    )


def _bifurcation() -> list[Claim]:
    found = []
    for variance in (0.25, 1.0, 2.0):
        law = families.symmetric_pair(12, variance=variance)
        point = curvature_point(law).log_snr
        assert point is not None  # two equal classes far apart have one
        found.append(
            row(
                f"the curvature of log p turns at κ = 1, s² = {variance:g}",
                "Biroli et al. 2024",
                "root of the top eigenvalue of the dense Hessian",
                float(point.value),
                turning_level(law, -8.0, 2.0),
                tolerance=1e-6,
            )
        )
    clock = OrnsteinUhlenbeck()
    law = families.symmetric_pair(12)

    def growth(time: float) -> float:
        noisy = law.perturb(clock.alpha(time), clock.sigma(time))
        step = jnp.full(12, 1e-4)
        drift = step + 2 * noisy.score(step)  # -f x + g^2 s with f = -1, g^2 = 2
        return float(drift[0])

    stable = drift_stability(law, clock).on(clock)
    assert stable is not None  # s = 1 has one
    found.append(
        row(
            "the reverse drift on OU turns at κ = 1 − v/2",
            "Raya & Ambrogioni 2023",
            "sign of the drift a step from the fixed point",
            float(stable.value),
            brentq(growth, 0.2, 4.0, xtol=1e-11),
            tolerance=1e-5,
        )
    )
    return found


def _cloning(key, num_samples) -> list[Claim]:
    clock = OrnsteinUhlenbeck()
    dim = 16
    law = families.symmetric_pair(dim)
    times = np.array([1.0, 1.5, 2.0])
    experiment = simulate_cloning(
        law, clock, times, key=key, start_time=6.0, num_steps=600, num_pairs=num_samples
    )
    phi = np.asarray(clone_agreement(law, clock.log_snr(times)).value)
    solved = _backward_agreement(dim, times)
    found = []
    for index, (time, value) in enumerate(zip(times, phi, strict=True)):
        statement = f"clones agree with φ = E Σ p², d = {dim}, branch at t = {time:.3g}"
        found += [
            row(
                statement,
                "Biroli et al. 2024",
                "backward Kolmogorov equation of the reverse SDE along m",
                float(value),
                float(solved[index]),
            ),
            row(
                f"{statement}, simulated",
                "Biroli et al. 2024",
                "pairs of reverse SDE runs of 600 Euler steps in all dimensions",
                float(value),
                experiment.agreement[index],
                tolerance=0.05 * float(value),  # binomial, and first order in the step
            ),
        ]
    return found


def _backward_agreement(dim: int, times: np.ndarray) -> np.ndarray:
    """Agreement of clones of `N(+-(1, ..., 1), I)` parted at OU times, increasing, without p(c|x).

    Along `y = m.x / |m|` the reverse SDE is `dy = [-y + 2 a tanh(a y)] dt + sqrt(2) dW`,
    `a = sqrt(d) e^{-t}` (Biroli et al. 2024), and the chance u(y, t) to end at y > 0 obeys
    `du/dt = [-y + 2 a tanh(a y)] u' + u''` from u(y, 0) = 1[y > 0]; clones agree by `E[u^2 + (1 - u)^2]`.
    """
    y = np.linspace(-(dim**0.5) - 7, dim**0.5 + 7, 2401)
    step = 5e-4

    def drift(time: float) -> np.ndarray:
        a = np.sqrt(dim) * np.exp(-time)
        return -y + 2 * a * np.tanh(a * y)

    ends_above = means_backward((np.sign(y) + 1) / 2, y, drift, 1.0, step)
    found = []
    taken = 0
    for time in times:
        for _ in range(round(time / step) - taken):
            u = next(ends_above)
        taken = round(time / step)
        centre = np.sqrt(dim) * np.exp(-time)
        density = np.exp(-((y - centre) ** 2) / 2) + np.exp(-((y + centre) ** 2) / 2)
        found.append(np.sum(density * (u**2 + (1 - u) ** 2)) / np.sum(density))
    return np.array(found)
