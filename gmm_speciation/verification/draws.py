"""Measurements sharp enough for a claim: quasi-random draws, in replicates that give the error.

A scrambled Sobol sequence fills the few directions that decide, the others are random (Owen 1997): where
the integrand depends on those directions alone its error falls like n^{-3/2}. Components are drawn in
proportion, not by chance. R independent scramblings give the standard error, with R - 1 degrees of
freedom. Everything here is numpy and scipy: a measurement shares no integral with what it checks.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.optimize import brentq
from scipy.special import chdtri, ndtri
from scipy.stats import qmc

from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.entropy import prior_entropy
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.posteriors import LevelStatistics, PosteriorStatistics
from gmm_speciation.processes import variance_preserving
from gmm_speciation.sampling.monte_carlo import posterior_statistics

NUM_REPLICATES = 16
Draw = Callable[[np.random.Generator], Float[np.ndarray, "n d"]]


def generators(key: PRNGKeyArray, number: int = NUM_REPLICATES) -> list[np.random.Generator]:
    """Independent generators, one a replicate."""
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    return [np.random.default_rng([*seed, index]) for index in range(number)]


def averaged(samples) -> Estimate:
    """The mean of independent samples or replicates, with its standard error."""
    return Estimate.from_samples(np.asarray(samples, float))


def uniforms(rng: np.random.Generator, num_points: int, dim: int) -> Float[np.ndarray, "n r"]:
    """A scrambled Sobol sequence strictly inside the cube; a power of two of points."""
    points = qmc.Sobol(dim, rng=rng).random_base2(round(np.log2(num_points)))
    return np.clip(points, 1e-15, 1 - 1e-15)


def normals(num_points: int, axes: Float[np.ndarray, "d r"]) -> Draw:
    """Standard normals in d dimensions: quasi-random along orthonormal `axes`, and so is the radius of
    the rest, whose direction is random."""
    dim, along = axes.shape

    def draw(rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
        if along == dim:
            return ndtri(uniforms(rng, num_points, dim)) @ axes.T
        u = uniforms(rng, num_points, along + 1)
        others = rng.standard_normal((num_points, dim))
        others -= (others @ axes) @ axes.T
        others *= np.sqrt(chdtri(dim - along, u[:, -1:])) / np.linalg.norm(
            others, axis=-1, keepdims=True
        )
        return others + ndtri(u[:, :-1]) @ axes.T

    return draw


def turning_level(law: GaussianMixture, low: float, high: float) -> float:
    """Root between two log-SNR of the top eigenvalue of the dense Hessian of log p at the origin."""

    @jax.jit
    def curvature(level):
        noisy = law.perturb(*variance_preserving(level))
        hessian = jax.hessian(lambda x: noisy.log_prob(x))(jnp.zeros(law.dim))
        return jnp.linalg.eigvalsh(hessian)[-1]

    return brentq(lambda one: float(curvature(jnp.asarray(one))), low, high, xtol=1e-11)


def axes_of(means: Float[np.ndarray, "K d"]) -> Float[np.ndarray, "d r"]:
    """An orthonormal basis of the differences of the means."""
    left, size, _ = np.linalg.svd((means[1:] - means[:1]).T, full_matrices=False)
    return left[:, size > 1e-12 * size[0]]


@jax.jit
def _mean_statistics(law, levels, normals, partition: Partition | None) -> PosteriorStatistics:
    """Averages over X at every level, `(T,)`, the components in proportion to their weights."""
    count = len(normals)

    def at(level):
        def of(component):
            found = posterior_statistics(law, level, normals, jnp.full(count, component), partition)
            return jax.tree.map(jnp.mean, found)

        each = jax.lax.map(of, jnp.arange(law.num_components))
        return jax.tree.map(lambda values: jnp.sum(law.weights * values), each)

    return jax.lax.map(at, levels)


def curve(
    law: GaussianMixture,
    levels: np.ndarray,
    draw: Draw,
    key: PRNGKeyArray,
    partition: Partition | None = None,
) -> EntropyCurve:
    """Entropy and rate of the posterior of quasi-random draws of X in all d dimensions."""
    rows = [
        _mean_statistics(law, jnp.asarray(levels), jnp.asarray(draw(rng)), partition)
        for rng in generators(key)
    ]
    replicates = jax.tree.map(lambda *values: jnp.stack(values, -1), *rows)
    found = LevelStatistics.from_replicates(replicates)
    return EntropyCurve(
        levels,
        found.estimate("entropy"),
        found.estimate("rate"),
        float(prior_entropy(law, partition)),
        "quasi-random draws",
        Batches(np.asarray(replicates.entropy).T, np.asarray(replicates.rate).T),
    )
