"""Two classes +-m: the Gaussian channel, its peak on the clock, and the four criteria.

The measured side draws in d dimensions, runs the reverse process, or differentiates log p.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy.optimize import brentq, minimize_scalar

from gmm_speciation import exact, families
from gmm_speciation.entropy import clone_agreement, entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.processes import OrnsteinUhlenbeck, variance_preserving
from gmm_speciation.speciation import (
    curvature_point,
    drift_stability,
    sample_top_eigenvalue,
    simulate_cloning,
    spectral_point,
)
from gmm_speciation.verification.claims import Claim, averaged, measured

_DIM = 64


def _level_of(kappa: float, dim: int = _DIM) -> float:
    """Log-SNR at which unit-variance classes with |m|^2 = dim have this kappa: `alpha^2 d = kappa`."""
    return float(np.log(kappa / dim) - np.log1p(-kappa / dim))


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """The channel, the peak and the criteria."""
    return [
        *_channel(key, num_samples),
        *_peak(key, num_samples),
        _spectral(key, num_samples),
        *_bifurcation(),
        *_cloning(key, num_samples),
    ]


def _channel(key, num_samples) -> list[Claim]:
    law = families.symmetric_pair(_DIM)
    found = []
    for index, kappa in enumerate((0.1, 1.0, 4.0)):
        noisy = law.perturb(*variance_preserving(jnp.asarray(_level_of(kappa))))
        x, component = noisy.sample(jax.random.fold_in(key, index), 8 * num_samples)
        posterior = np.asarray(noisy.posterior(x))
        entropy = -np.sum(posterior * np.log(np.maximum(posterior, 1e-300)), -1)
        sign = 1 - 2 * np.asarray(component)
        error = (sign - (posterior[:, 0] - posterior[:, 1])) ** 2
        where = f"κ = {kappa:g}, d = {_DIM}"
        found += [
            Claim(
                f"H(κ) = E log(1 + e^−L), {where}",
                "binary Gaussian channel; Guo, Shamai & Verdú 2005",
                "entropy of the posterior of draws in d dimensions",
                float(exact.binary_entropy(kappa)),
                averaged(entropy),
            ),
            Claim(
                f"mmse(κ) = −2 dH/dκ, {where}",
                "Guo, Shamai & Verdú 2005",
                "squared error of the posterior mean of ±1",
                float(exact.binary_mmse(kappa)),
                averaged(error),
            ),
        ]
    return found


def _peak(key, num_samples) -> list[Claim]:
    best = minimize_scalar(
        lambda k: -k * float(exact.binary_mmse(k)), bounds=(1.0, 2.0), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    found = [
        Claim(
            "κ·mmse(κ) peaks at κ*",
            "Handke et al. 2026",
            "maximum of the integral against the published figure",
            1.5083306,
            *measured(best.x, 1e-6),
        )
    ]
    clock = OrnsteinUhlenbeck()
    for dim in (16, 256):
        law = families.symmetric_pair(dim)
        times = np.log(dim) / 2 + np.linspace(-1.2, 1.0, 41)
        levels = np.asarray(clock.log_snr(times))
        curve = entropy_curve(law, levels, method="monte-carlo", num_samples=num_samples, key=key)
        peak = curve.on(clock).peak()
        # The peak of a spline through sampled rates is flat: its place has the jackknife's error.
        found.append(
            Claim(
                f"dH/dt peaks ½ log κ* before t_S = ½ log d, d = {dim}",
                "Handke et al. 2026",
                "spline through rates sampled in d dimensions",
                np.log(dim) / 2 - np.log(1.5083306) / 2,
                peak.time,
                slack=2e-3,
            )
        )
        half = curve.crossing(np.log(2) / 2)
        found.append(
            Claim(
                f"half the entropy is left at κ = 1.0440133, d = {dim}",
                "Handke et al. 2026",
                "crossing of the sampled entropy",
                _level_of(1.0440133, dim),
                half,
                slack=1e-3,
            )
        )
    return found


def _spectral(key, num_samples) -> Claim:
    dim = 16
    law = families.symmetric_pair(dim)
    tops = []
    for index in range(16):
        x, _ = law.sample(jax.random.fold_in(key, index), num_samples)
        tops.append(sample_top_eigenvalue(x))
    found = averaged(tops)
    time = spectral_point(1.0 + dim).on(OrnsteinUhlenbeck())
    assert time is not None  # the eigenvalue is positive
    value = np.log1p(np.asarray(found.value)) / 2
    error = np.asarray(found.stderr) / (1 + np.asarray(found.value)) / 2
    return Claim(
        "spectral time t_S = ½ log(1 + Λ), Λ = 1 + |m|², d = 16",
        "Biroli et al. 2024",
        "top eigenvalue of the covariance of draws",
        float(time.value),
        Estimate(value, error, found.dof),
        slack=2 * dim / num_samples,  # the largest of sampled eigenvalues is biased upwards
    )


def _bifurcation() -> list[Claim]:
    found = []
    for variance in (0.25, 1.0, 2.0):
        law = families.symmetric_pair(12, variance=variance)

        @jax.jit
        def curvature(level, law=law):
            noisy = law.perturb(*variance_preserving(level))
            hessian = jax.hessian(lambda x: noisy.log_prob(x))(jnp.zeros(12))
            return jnp.linalg.eigvalsh(hessian)[-1]

        point = curvature_point(law).log_snr
        assert point is not None  # two equal classes far apart have one
        root = brentq(lambda one: float(curvature(jnp.asarray(one))), -8.0, 2.0, xtol=1e-11)
        found.append(
            Claim(
                f"the curvature of log p turns at κ = 1, s² = {variance:g}",
                "Biroli et al. 2024",
                "root of the top eigenvalue of the dense Hessian",
                float(point.value),
                *measured(root, 1e-6),
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
        Claim(
            "the reverse drift on OU turns at κ = 1 − v/2",
            "Raya & Ambrogioni 2023",
            "sign of the drift a step from the fixed point",
            float(stable.value),
            *measured(brentq(growth, 0.2, 4.0, xtol=1e-11), 1e-5),
        )
    )
    return found


def _cloning(key, num_samples) -> list[Claim]:
    clock = OrnsteinUhlenbeck()
    law = families.symmetric_pair(16)
    times = np.array([1.0, 1.5, 2.0])
    experiment = simulate_cloning(
        law, clock, times, key=key, start_time=6.0, num_steps=600, num_pairs=num_samples
    )
    levels = clock.log_snr(np.asarray(experiment.times))
    phi = np.asarray(clone_agreement(law, levels).value)
    return [
        Claim(
            f"clones agree with φ = E Σ p², d = 16, branch at t = {time:.3g}",
            "Biroli et al. 2024",
            "pairs of reverse SDE runs of 600 Euler steps",
            float(value),
            experiment.agreement[index],
            slack=0.01,  # first order in the step
        )
        for index, (time, value) in enumerate(zip(experiment.times, phi, strict=True))
    ]
