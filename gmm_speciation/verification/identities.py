"""Identities of class entropy that hold for every mixture: rate, I-MMSE, clock, chain rule, budget.

Tried on a mixture of five components whose full covariances differ, for which no formula is special.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from gmm_speciation import families
from gmm_speciation.entropy import class_entropy, entropy_curve, entropy_rate, prior_entropy
from gmm_speciation.estimate import Estimate
from gmm_speciation.inference import class_denoisers, class_posterior, denoiser
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import DDPM, LinearInterpolant, VarianceExploding, variance_preserving
from gmm_speciation.reduction import reduce
from gmm_speciation.verification.claims import Claim, averaged

_LEVEL = -0.5


def mixture() -> tuple[GaussianMixture, Partition]:
    """Five components in six dimensions, three classes, nothing shared."""
    rng = np.random.default_rng(7)
    roots = rng.normal(size=(5, 6, 6)) / np.sqrt(6)
    covariances = roots @ roots.mT + 0.2 * np.eye(6)
    weights = [0.3, 0.25, 0.2, 0.15, 0.1]
    law = GaussianMixture.full(2 * rng.normal(size=(5, 6)), covariances, weights)
    return law, Partition([0, 0, 1, 1, 2])


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """The identities, the measured side drawn in all dimensions."""
    law, classes = mixture()
    return [
        _slope(law, classes, key, num_samples),
        _i_mmse(law, classes, key, num_samples),
        *_clocks(law, classes, key, num_samples),
        _chain_rule(law, classes, key, num_samples),
        _budget(law, classes, key, num_samples),
        *_reduction(key, num_samples),
    ]


def _slope(law, classes, key, num_samples) -> Claim:
    step = 0.02
    levels = np.array([_LEVEL + step, _LEVEL, _LEVEL - step])
    curve = entropy_curve(
        law, levels, partition=classes, method="monte-carlo", num_samples=num_samples, key=key
    )
    assert curve.batches is not None  # it was sampled
    slope = (curve.batches.entropy[:, 2] - curve.batches.entropy[:, 0]) / (2 * step)
    rate = entropy_rate(
        law, _LEVEL, partition=classes, method="monte-carlo", num_samples=8 * num_samples,
        key=jax.random.fold_in(key, 1),
    )  # fmt: skip
    found = averaged(slope)
    both = Estimate(found.value, np.hypot(found.stderr, rate.stderr), found.dof)
    return Claim(
        "−dH/dλ = ½ σ² E Σ p(c|x) |s_c − s|²",
        "Guo, Shamai & Verdú 2005",
        "central difference of sampled entropies",
        float(rate.value),
        both,
        slack=step**2,
    )


def _i_mmse(law, classes, key, num_samples) -> Claim:
    alpha, sigma = variance_preserving(jnp.asarray(_LEVEL))
    key_clean, key_noise = jax.random.split(key)
    clean, component = law.sample(key_clean, num_samples)
    x = alpha * clean + sigma * jax.random.normal(key_noise, clean.shape)
    label = jnp.asarray(classes.labels)[component]
    of_class = class_denoisers(law, x, alpha, sigma, classes)
    own = jnp.take_along_axis(of_class, label[:, None, None], 1)[:, 0]
    gap = jnp.sum((clean - denoiser(law, x, alpha, sigma)) ** 2, -1)
    gap = gap - jnp.sum((clean - own) ** 2, -1)
    rate = entropy_rate(
        law, _LEVEL, partition=classes, method="monte-carlo", num_samples=8 * num_samples,
        key=jax.random.fold_in(key, 1),
    )  # fmt: skip
    found = averaged(jnp.exp(_LEVEL) * gap / 2)
    return Claim(
        "dI/dλ = ½ γ [mmse − mmse(given C)]",
        "Guo, Shamai & Verdú 2005",
        "squared errors of both denoisers on noised draws",
        float(rate.value),
        Estimate(found.value, np.hypot(found.stderr, rate.stderr), found.dof),
    )


def _clocks(law, classes, key, num_samples) -> list[Claim]:
    truth = class_entropy(
        law, _LEVEL, partition=classes, method="monte-carlo", num_samples=8 * num_samples, key=key
    )
    found = []
    for index, process in enumerate((VarianceExploding(), DDPM.linear(), LinearInterpolant()), 1):
        time = process.time(_LEVEL)
        noisy = law.perturb(process.alpha(time), process.sigma(time))
        x, _ = noisy.sample(jax.random.fold_in(key, index), num_samples)
        posterior = np.asarray(class_posterior(noisy, x, classes))
        entropy = averaged(-np.sum(posterior * np.log(np.maximum(posterior, 1e-300)), -1))
        found.append(
            Claim(
                f"H depends on λ alone: {type(process).__name__}",
                "Kingma et al. 2021, variational diffusion models",
                "posterior of draws in the process's own coordinates",
                float(truth.value),
                Estimate(entropy.value, np.hypot(entropy.stderr, truth.stderr), entropy.dof),
            )
        )
    return found


def _chain_rule(law, classes, key, num_samples) -> Claim:
    noisy = law.perturb(*variance_preserving(jnp.asarray(_LEVEL)))
    x, component = noisy.sample(key, num_samples)
    fine = np.asarray(noisy.posterior(x))
    coarse = np.asarray(class_posterior(noisy, x, classes))
    # log p(fine | coarse, x) of the component that made x: an estimate by labels, not by entropies.
    labels = np.asarray(classes.labels)[np.asarray(component)]
    rows = np.arange(num_samples)
    inside = -np.log(fine[rows, np.asarray(component)] / coarse[rows, labels])
    options = {"method": "monte-carlo", "num_samples": 8 * num_samples, "key": key}
    whole = class_entropy(law, _LEVEL, **options)
    top = class_entropy(law, _LEVEL, partition=classes, **options)
    found = averaged(inside)
    return Claim(
        "H(fine|X) − H(coarse|X) = H(fine|coarse, X)",
        "chain rule of entropy",
        "log-probability of the true component inside its class",
        float(whole.value - top.value),
        Estimate(found.value, np.hypot(found.stderr, whole.stderr), found.dof),
    )


def _budget(law, classes, key, num_samples) -> Claim:
    curve = entropy_curve(
        law, np.linspace(12, -12, 97), partition=classes, method="monte-carlo",
        num_samples=num_samples, key=key,
    )  # fmt: skip
    integral, _ = curve.information_budget()
    clean = class_entropy(law, np.inf, partition=classes, method="monte-carlo", key=key)
    total = float(prior_entropy(law, classes)) - float(clean.value)
    error = np.hypot(np.asarray(integral.stderr), np.asarray(clean.stderr))
    return Claim(
        "∫ (−dH/dλ) dλ = H(C) − H(C|X_0)",
        "Guo, Shamai & Verdú 2005",
        "trapezoid over 97 sampled rates",
        total,
        Estimate(np.asarray(integral.value), error, integral.dof),
        slack=2e-3,
    )


def _reduction(key, num_samples) -> list[Claim]:
    rng = np.random.default_rng(1)
    means = rng.normal(size=(3, 40))
    laws = {
        "shared diagonal covariance": GaussianMixture.diagonal(means, 1 + 3 * rng.random(40)),
        "isotropic, variances differ": GaussianMixture.isotropic(means, [0.7, 1.0, 1.4]),
        "two-level tree": families.hierarchy((2, 2), (9.0, 3.0), 40)[0],
    }
    found = []
    for name, law in laws.items():
        exact = class_entropy(reduce(law), -2.0, method="exact")
        found.append(
            Claim(
                f"the posterior needs few dimensions: {name}",
                "sufficient statistic of Gaussian classes",
                "draws in all 40 dimensions against the integral over the statistic",
                float(exact.value),
                class_entropy(law, -2.0, method="monte-carlo", num_samples=num_samples, key=key),
            )
        )
    return found
