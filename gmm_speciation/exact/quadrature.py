"""Quadrature over the reduced statistic, for at most three variables.

`E f = sum_k w_k int f(A_k + z) N(z; 0, I) dz`. A radial variable is integrated in its normal score g,
`chi^2 = F_nu^{-1}(Phi(g))`, so that every variable has a normal's density.

*Several variables, or one with a shared covariance*: the trapezoidal rule in every variable, which
converges geometrically for integrands analytic in a strip (Trefethen & Weideman 2014). The entropy has
poles where classes tie, at distance pi / (2 sqrt(kappa)) from the real line, but a pair that far apart
contributes only e^{-kappa / 2}: the product is largest near kappa = 18, where a step of 1/8 leaves 1e-12.

*Every rule estimates its own error.* Sums of step h, 2h and 4h come from one set of values; with
`d_1 = |I_2h - I_4h|`, `d_2 = |I_h - I_2h|` the error of I_h is put at `d_2 min(1, d_2 / d_1)`: no faster than
linear convergence goes on. Where variances differ a narrow component may fall between all nodes; unless
the poles that its size allows are a step away, nothing is claimed (`graded` then takes over, in one
variable). A value whose error is put below 1e-10 counts as exact, standard error 0; otherwise the error is
its standard error.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import special

from gmm_speciation.checks import expect, is_concrete
from gmm_speciation.covariances import product
from gmm_speciation.exact.graded import graded_cost, graded_levels, is_graded
from gmm_speciation.inference import Classes
from gmm_speciation.partitions import as_partition
from gmm_speciation.posteriors import LevelStatistics, counted_error
from gmm_speciation.processes import variance_preserving
from gmm_speciation.programs import program
from gmm_speciation.reduction import RadialReduction, ReducedMixture

MAX_DIMENSIONS = 3
_NODES = {1: (601, 13.0), 2: (129, 8.0), 3: (113, 7.5)}  # number and reach a variable
_CHUNK = 16384  # nodes at a time


def standardised_chi_square(
    normal_score: Float[np.ndarray, "*n"], dof: int
) -> Float[np.ndarray, "*n"]:
    """`u = (chi^2 - nu) / sqrt(2 nu)` at the probability `Phi(g)`, g the normal score.

    Inverse incomplete gamma functions, from whichever tail is smaller; from nu = 10^5, where these lose
    digits to nu itself, the Cornish-Fisher series (Abramowitz & Stegun 26.4.13 ff.), exact to 1e-13.
    """
    g = normal_score
    if dof == 0:
        return np.zeros_like(g)
    if dof >= 10**5:
        h = 1 / np.sqrt(2.0 * dof)
        second = 2 * (g**2 - 1) / 3 + h * (g**3 - 7 * g) / 9
        third = -2 * (6 * g**4 + 14 * g**2 - 32) / 405
        fourth = (9 * g**5 + 256 * g**3 - 433 * g) / 2430
        return g + h * second + h**3 * third + h**4 * fourth
    lower = special.gammaincinv(dof / 2, special.ndtr(np.minimum(normal_score, 0.0)))
    upper = special.gammainccinv(dof / 2, special.ndtr(-np.maximum(normal_score, 0.0)))
    return (2 * np.where(normal_score < 0, lower, upper) - dof) / np.sqrt(2.0 * dof)


def num_variables(mixture: ReducedMixture) -> int:
    """How many variables an integral over the statistic has."""
    return mixture.num_normals + mixture.has_radius


def quadrature_cost(mixture: ReducedMixture, refinement: int = 1) -> float:
    """Posterior terms that one noise level takes; infinite where the rule does not apply."""
    variables = num_variables(mixture)
    if variables > MAX_DIMENSIONS:
        return np.inf
    if is_graded(mixture):
        return graded_cost(mixture)
    if not variables:
        return float(mixture.num_components**2)
    count, _ = _rule(variables, refinement)
    return float(count**variables * mixture.num_components**2)


def _rule(variables: int, refinement: int) -> tuple[int, float]:
    """Number of nodes and reach in every variable, the step divided by `refinement`."""
    count, reach = _NODES[variables]
    return (count - 1) * refinement + 1, reach


@functools.lru_cache(maxsize=8)
def _nodes(
    num_normals: int, dof: int, refinement: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normals `(n, r)`, radial variable `(n,)` and weights `(n, 3)` of the rules of step h, 2h, 4h."""
    variables = num_normals + (dof > 0)
    if not variables:  # components that nothing tells apart
        return np.zeros((1, 0)), np.zeros(1), np.ones((1, 3))
    count, reach = _rule(variables, refinement)
    line = np.linspace(-reach, reach, count)
    density = np.exp(-(line**2) / 2)
    grid = np.stack(np.meshgrid(*[line] * variables, indexing="ij"), -1).reshape(-1, variables)
    place = np.arange(count) - count // 2
    rules = []
    for stride in (1, 2, 4):
        one = np.where(place % stride == 0, density, 0.0)
        one = functools.reduce(np.multiply.outer, [one] * variables, np.array(1.0)).reshape(-1)
        rules.append(one / one.sum())
    weights = np.stack(rules, -1)
    keep = weights[:, 0] > 1e-22 * weights[:, 0].max()
    radial_line = standardised_chi_square(line, dof)
    radial = np.interp(grid[:, -1], line, radial_line) if dof > 0 else np.zeros(len(grid))
    return grid[keep, :num_normals], radial[keep], weights[keep]


def _resolved(mixture: ReducedMixture, log_snr: Array, refinement: int) -> Array:
    """Whether no component is so narrow, seen from another, that it can fall between the nodes."""
    if not isinstance(mixture, RadialReduction):
        return jnp.asarray(True)
    count, reach = _rule(num_variables(mixture), refinement)
    step = 2 * reach / max(count - 1, 1)
    alpha, sigma = variance_preserving(log_snr)
    v = alpha**2 * mixture.variances + sigma**2
    ratio = jnp.min(v) / jnp.max(v)
    normals = mixture.num_normals == 0 or step**2 < ratio
    # Log-odds of slope sqrt(nu / 2) e by the standardised chi-square: poles at pi over that.
    slope = jnp.sqrt(jnp.asarray(mixture.radial_dof, v.dtype) / 2) * (1 / ratio - 1)
    return normals & (step * slope < np.pi)


@program
def _levels(mixture, log_snr, partition, refinement, normals, radial, weights) -> LevelStatistics:
    component_weights = mixture.weights

    def at_component(statistics, k):
        def chunk(args):
            z, u, w = args
            found = statistics(z, u, jnp.full(z.shape[:1], k))
            return jax.tree.map(lambda values: product(values, w), found)

        return jax.tree.map(
            lambda sums: sums.sum(0), jax.lax.map(chunk, (normals, radial, weights))
        )

    def at(level):
        statistics = mixture.statistics(level, partition)
        one = jax.lax.map(lambda k: at_component(statistics, k), jnp.arange(mixture.num_components))
        sums = jax.tree.map(lambda values: product(component_weights, values), one)
        resolved = _resolved(mixture, level, refinement)

        def error(values):
            last, before = jnp.abs(values[0] - values[1]), jnp.abs(values[1] - values[2])
            estimate = last * jnp.minimum(1.0, last / jnp.where(before > 0, before, 1.0))
            return counted_error(jnp.where(resolved, estimate, 1.0), values[0])

        return jax.tree.map(lambda values: values[0], sums), jax.tree.map(error, sums)

    return LevelStatistics.integrated(*jax.lax.map(at, log_snr))


def quadrature_levels(
    mixture: ReducedMixture,
    log_snr: Float[Array, " T"],
    partition: Classes = None,
    refinement: int = 1,
) -> LevelStatistics:
    """Entropy, rate and agreement at every level, with an estimate of their error; for at most three
    variables.

    Safe under jit, vmap and grad in the level and in the arrays of the mixture. `refinement`, a whole
    number, divides the step of the trapezoidal rule.

    Raises:
        ValueError: If the statistic has more than `MAX_DIMENSIONS` variables, the partition does not
            fit, or a reduction with a radial variable is itself traced, unless it is graded.
    """
    variables = num_variables(expect(mixture, ReducedMixture))
    if variables > MAX_DIMENSIONS:
        raise ValueError(
            f"Quadrature covers at most {MAX_DIMENSIONS} variables; this reduction has "
            f"{variables}. Use `method='quasi-monte-carlo'`."
        )
    partition = as_partition(partition, mixture.num_components)
    if isinstance(mixture, RadialReduction) and is_graded(mixture):
        return graded_levels(mixture, log_snr, partition)
    if not is_concrete(mixture.radial_dof):
        raise ValueError(
            "The nodes of a radial variable need the number of dimensions, which is not known under a "
            "transformation of the reduction; call `reduce` inside it."
        )
    normals, radial, weights = _nodes(mixture.num_normals, int(mixture.radial_dof), refinement)
    size = min(_CHUNK, len(weights))
    missing = -len(weights) % size
    dtype = mixture.log_weights.dtype

    def chunks(values: np.ndarray) -> Array:
        padded = np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))
        return jnp.asarray(padded.reshape(len(padded) // size, size, *values.shape[1:]), dtype)

    parts = (chunks(values) for values in (normals, radial, weights))
    return _levels(mixture, log_snr, partition, refinement, *parts)
