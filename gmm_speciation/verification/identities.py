"""Identities of class entropy that hold for every mixture: rate, I-MMSE, clock, chain rule, budget.

Tried on a mixture of five components whose full covariances differ, for which no formula is special. The
measured side is dense numpy on quasi-random draws of X, by component and in all dimensions: the densities
written out, denoisers by Gaussian conditioning.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from gmm_speciation import families
from gmm_speciation.entropy import class_entropy
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import DDPM, LinearInterpolant, VarianceExploding, variance_preserving
from gmm_speciation.reduction import reduce
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.verification.draws import averaged, axes_of, curve, generators, normals
from gmm_speciation.verification.rows import row, with_error

_LEVEL = -0.5
_STEP = 0.02  # of the log-SNR
_DIM = 3
_CLASSES = np.array([0, 0, 1, 1, 2])


class _Dense:
    """Weights, means and covariances in numpy; X is `alpha x_0 + sigma eps`."""

    def __init__(self):
        rng = np.random.default_rng(7)
        roots = rng.normal(size=(5, _DIM, _DIM)) / np.sqrt(_DIM)
        self.weights = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
        self.covariances = roots @ roots.mT + 0.2 * np.eye(_DIM)
        self.means = 2 * rng.normal(size=(5, _DIM))

    def average(self, alpha: float, sigma: float, z: Float[np.ndarray, "n d"], function) -> float:
        """`E f(x, k)` with the components in proportion; f gets `_Posterior` and the component."""
        noisy = alpha**2 * self.covariances + sigma**2 * np.eye(_DIM)
        factors = np.linalg.cholesky(noisy)
        total = 0.0
        for k, weight in enumerate(self.weights):
            x = alpha * self.means[k] + z @ factors[k].T
            total += weight * np.mean(function(_Posterior(self, alpha, noisy, x), k))
        return float(total)


class _Posterior:
    """What x says: `p(k|x)`, `p(c|x)` and the denoisers `E[x_0|x, k]`."""

    def __init__(self, law: _Dense, alpha: float, noisy, x):
        residual = x[:, None, :] - alpha * law.means[None]
        solved = np.einsum("kij,nkj->nki", np.linalg.inv(noisy), residual)
        log_joint = np.log(law.weights) - np.linalg.slogdet(noisy)[1] / 2
        log_joint = log_joint - np.sum(residual * solved, -1) / 2
        joint = np.exp(log_joint - log_joint.max(-1, keepdims=True))
        self.component = joint / joint.sum(-1, keepdims=True)
        self.group = self.component @ np.eye(3)[_CLASSES]
        self.denoisers = law.means[None] + alpha * np.einsum(
            "kij,nkj->nki", law.covariances, solved
        )

    @property
    def entropy(self) -> Float[np.ndarray, " n"]:
        return -np.sum(self.group * np.log(np.maximum(self.group, 1e-300)), -1)

    def denoised(self, members) -> Float[np.ndarray, "n d"]:
        """`E[x_0|x]` among these components."""
        p = self.component * members
        return np.einsum("nk,nkd->nd", p / p.sum(-1, keepdims=True), self.denoisers)


def mixture() -> tuple[GaussianMixture, Partition]:
    """Five components in three dimensions, three classes, nothing shared."""
    dense = _Dense()
    law = GaussianMixture.full(dense.means, dense.covariances, dense.weights)
    return law, Partition(_CLASSES.tolist())


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """The identities at one level, and over all of them."""
    law, classes = mixture()
    dense = _Dense()
    points, keys = num_samples // 4, jax.random.split(key, 4)
    draw = normals(points, np.eye(_DIM))
    alpha, sigma = (float(scale) for scale in variance_preserving(jnp.asarray(_LEVEL)))

    def measured(key, function, alpha=alpha, sigma=sigma) -> Estimate:
        return averaged(
            [dense.average(alpha, sigma, draw(rng), function) for rng in generators(key)]
        )

    levels = np.array([_LEVEL, _LEVEL - 1.0])  # a curve has two points at least
    of_class = curve(law, levels, draw, keys[0], classes)
    of_component = curve(law, levels, draw, keys[0])
    entropy, rate = of_class.entropy[0], of_class.rate[0]

    def gap(seen: _Posterior, k: int):
        """`E[|x_0 - D|^2 - |x_0 - D_c|^2]` given x and its component: `E[x_0|x, k]` stands for x_0."""
        whole, own = seen.denoised(1.0), seen.denoised(np.equal(_CLASSES, _CLASSES[k]))
        return np.sum(whole**2 - own**2 - 2 * seen.denoisers[:, k] * (whole - own), -1)

    def inside(seen: _Posterior, k: int):
        return -np.log(seen.component[:, k] / seen.group[:, _CLASSES[k]])

    def entropies(rng) -> list[float]:
        """H on either side of the level, of the same normals."""
        z = draw(rng)
        return [
            dense.average(*_scales(_LEVEL + step), z, lambda seen, k: seen.entropy)
            for step in (-_STEP, _STEP)
        ]

    sides = np.array([entropies(rng) for rng in generators(keys[1])])
    mmse_gap = measured(keys[2], gap)
    snr_rate = np.exp(_LEVEL) / 2
    found = [
        row(
            "−dH/dλ = ½ σ² E Σ p(c|x) |s_c − s|²",
            "Guo, Shamai & Verdú 2005",
            "central difference of entropies of the same quasi-random draws",
            float(rate.value),
            with_error(averaged((sides[:, 0] - sides[:, 1]) / (2 * _STEP)), rate),
        ),
        row(
            "dI/dλ = ½ γ [mmse − mmse(given C)]",
            "Guo, Shamai & Verdú 2005",
            "squared errors of both denoisers, x₀ given the noisy state and its component",
            float(rate.value),
            with_error(mmse_gap.map(lambda one: snr_rate * one), rate),
        ),
    ]
    for index, process in enumerate((VarianceExploding(), DDPM.linear(), LinearInterpolant()), 1):
        time = process.time(_LEVEL)
        seen = measured(
            jax.random.fold_in(keys[3], index),
            lambda seen, k: seen.entropy,
            float(process.alpha(time)),
            float(process.sigma(time)),
        )
        found.append(
            row(
                f"H depends on λ alone: {type(process).__name__}",
                "Kingma et al. 2021, variational diffusion models",
                "posterior of draws in the process's own coordinates",
                float(entropy.value),
                with_error(seen, entropy),
            )
        )
    whole = of_component.entropy[0]
    found.append(
        row(
            "H(fine|X) − H(coarse|X) = H(fine|coarse, X)",
            "chain rule of entropy",
            "log-probability of the true component inside its class",
            float(whole.value - entropy.value),
            with_error(measured(keys[3], inside), whole),
        )
    )
    few = normals(points // 4, np.eye(_DIM))
    return [*found, _budget(law, classes, few, keys[0], measured), *_reduction(keys[0], points)]


def _scales(level: float) -> tuple[float, float]:
    alpha, sigma = variance_preserving(jnp.asarray(level))
    return float(alpha), float(sigma)


def _budget(law, classes, draw, key, measured) -> Claim:
    integral, _ = curve(law, np.linspace(14, -14, 29), draw, key, classes).information_budget()
    clean = measured(jax.random.fold_in(key, 1), lambda seen, k: seen.entropy, 1.0, 0.0)
    prior = classes.log_sum(law.log_weights[None])[0]
    total = -float(jnp.sum(jnp.exp(prior) * prior))
    # The rate is analytic and gone at both ends: the trapezoid rule has no error to speak of.
    return row(
        "∫ (−dH/dλ) dλ = H(C) − H(C|X_0)",
        "Guo, Shamai & Verdú 2005",
        "trapezoid over 29 rates; H(C|X_0) by dense densities",
        total - float(clean.value),
        with_error(integral, clean),
    )


def _reduction(key, num_points) -> list[Claim]:
    rng = np.random.default_rng(1)
    means = rng.normal(size=(3, 40))
    diagonal = 1 + 3 * rng.random(40)
    laws = {
        "shared diagonal covariance": GaussianMixture.diagonal(means, diagonal),
        "isotropic, variances differ": GaussianMixture.isotropic(means, [0.7, 1.0, 1.4]),
        "isotropic, variances 0.05, 1 and 5": GaussianMixture.isotropic(means, [0.05, 1.0, 5.0]),
        "two-level tree": families.hierarchy((2, 2), (9.0, 3.0), 40)[0],
    }
    found = []
    for name, law in laws.items():
        level = -2.0
        alpha, sigma = _scales(level)
        whitened = np.asarray(law.means)
        if law is laws["shared diagonal covariance"]:
            whitened = whitened / np.sqrt(alpha**2 * diagonal + sigma**2)
        draw = normals(num_points // 4, axes_of(whitened))
        seen = curve(law, np.array([level, level - 1]), draw, key)
        found.append(
            row(
                f"the posterior needs few dimensions: {name}",
                "sufficient statistic of Gaussian classes",
                "draws in all 40 dimensions against the integral over the statistic",
                float(class_entropy(reduce(law), level, method="exact").value),
                seen.entropy[0],
            )
        )
    return found
