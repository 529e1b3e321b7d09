"""Quadrature in one variable over components whose variances differ by any ratio.

Seen from a wide component a narrow one is a feature of any size at any place, which no fixed step finds.
The variable t is the coordinate in units of the component that made the draw (d = 1), or, for equal means,
`t = log(chi^2 / nu)`, with the densities

    e^{-t^2 / 2},    e^{-(nu / 2) (e^t - 1 - t)},

normalised by the rule itself. The log-odds of components i and j are a quadratic in the first variable and
linear in chi^2, so the poles of the integrand nearest to the real line, where two of the classes have
log-odds i pi, are known. Panels whose lengths are graded about the real part of every pole, from its
imaginary part up, beside panels of equal length for the density, carry Gauss and Legendre's rule of 13
nodes; what the rule of 8 nodes says differently, panel by panel, is the estimate of its error.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from gmm_speciation.covariances import product
from gmm_speciation.partitions import Partition
from gmm_speciation.posteriors import LevelStatistics, counted_error
from gmm_speciation.processes import variance_preserving
from gmm_speciation.programs import program
from gmm_speciation.reduction import RadialReduction, ReducedMixture
from gmm_speciation.reduction.radial import beyond_log

_MAX_COMPONENTS = 6  # panels are graded about two poles a pair
_PANELS = 64  # of equal length
_RUNGS = 26  # panels on either side of a pole
_SHARPEST = 1e-12  # the least imaginary part, as a share of the whole line
_RULES = np.polynomial.legendre.leggauss(13), np.polynomial.legendre.leggauss(8)
_DROP = 84.0  # the density ends at e^{-84} of its largest value


def is_graded(mixture: ReducedMixture) -> bool:
    """Whether the mixture has one variable, variances that differ, and few enough components."""
    return (
        isinstance(mixture, RadialReduction)
        and mixture.num_normals + mixture.has_radius == 1
        and mixture.num_components <= _MAX_COMPONENTS
    )


def _num_poles(mixture: ReducedMixture) -> int:
    pairs = mixture.num_components * (mixture.num_components - 1) // 2
    return pairs * (1 + mixture.num_normals)


def graded_cost(mixture: ReducedMixture) -> float:
    """Posterior terms that one noise level takes."""
    panels = _PANELS + 2 * _RUNGS * _num_poles(mixture)
    return float(panels * sum(len(nodes) for nodes, _ in _RULES) * mixture.num_components**2)


def _ends(mixture: RadialReduction) -> tuple[Array, Array]:
    """Where the density has dropped by `_DROP`."""
    dtype = mixture.points.dtype
    if mixture.num_normals:
        high = jnp.asarray(np.sqrt(2 * _DROP), dtype)
        return -high, high
    # e^t - 1 - t >= t^2 / 2 above 0, >= t^2 / (2 - 2 t / 3) below
    drop = 2 * _DROP / jnp.asarray(mixture.radial_dof, dtype)
    low = -(drop / 3 + jnp.sqrt(drop**2 / 9 + 2 * drop))
    return low, jnp.minimum(jnp.sqrt(2 * drop), 1 + jnp.log1p(2 * drop))


def _poles(mixture: RadialReduction, log_snr: Array, k: Array) -> Complex[Array, " P"]:
    """Where two components have log-odds i pi, in the variable of component k."""
    alpha, sigma = variance_preserving(log_snr)
    v = alpha**2 * mixture.variances + sigma**2
    i, j = np.triu_indices(mixture.num_components, 1)
    precision = v[k] / v
    curve = -(precision[i] - precision[j]) / 2
    constant = mixture.log_weights - jnp.asarray(mixture.dimension, v.dtype) * jnp.log(v) / 2
    if mixture.num_normals:
        steps = alpha * (mixture.points[k, 0] - mixture.points[:, 0]) / jnp.sqrt(v[k])
        slope = precision * steps
        square = constant - slope * steps / 2
        b = -(slope[i] - slope[j])
        c = square[i] - square[j] - 1j * np.pi
        root = jnp.sqrt(b**2 - 4 * curve * c)
        # The sum of one sign: neither root of the quadratic then cancels.
        q = -(b + jnp.where(b * root.real >= 0, 1.0, -1.0) * root) / 2
        return jnp.concatenate([q / curve, c / q])
    squared = (1j * np.pi - constant[i] + constant[j]) / curve  # chi^2
    return jnp.log(squared / jnp.asarray(mixture.radial_dof, v.dtype))


def _panels(mixture: RadialReduction, log_snr: Array, k: Array) -> tuple[Array, Array]:
    """Ends of the panels, in order."""
    low, high = _ends(mixture)
    poles = _poles(mixture, log_snr, k)
    place, size = poles.real, jnp.abs(poles.imag)
    known = jnp.isfinite(place) & jnp.isfinite(size)
    width = high - low
    size = jnp.clip(jnp.where(known, size, width), _SHARPEST * width, width)
    rungs = size[:, None] * (width / size[:, None]) ** np.linspace(0, 1, _RUNGS)[None, :] / 2
    place = jnp.where(known, place, low)[:, None]
    breaks = jnp.concatenate([(place - rungs).ravel(), place.ravel(), (place + rungs).ravel()])
    equal = jnp.linspace(low, high, _PANELS + 1, dtype=breaks.dtype)
    breaks = jnp.sort(jnp.concatenate([equal, jnp.clip(breaks, low, high)]))
    return breaks[:-1], breaks[1:]


@program
def graded_levels(
    mixture: RadialReduction, log_snr: Float[Array, " T"], partition: Partition
) -> LevelStatistics:
    """Entropy, rate and agreement at every level, with an estimate of their error.

    Safe under jit, vmap and grad in the level and in the arrays of the mixture.
    """
    dtype = mixture.log_weights.dtype
    nodes = jnp.asarray(np.concatenate([rule[0] for rule in _RULES]), dtype)
    # Weights (nodes, 2) of the rules on a panel of length 2.
    many, few = (len(rule[0]) for rule in _RULES)
    rules = np.zeros((many + few, 2))
    rules[:many, 0], rules[many:, 1] = _RULES[0][1], _RULES[1][1]

    def at_component(level, k):
        low, high = jax.lax.stop_gradient(_panels(mixture, level, k))
        half = (high - low) / 2
        t = ((low + high) / 2)[:, None] + half[:, None] * nodes[None, :]
        flat = t.reshape(-1)
        if mixture.num_normals:
            normals, radial, log_density = flat[:, None], jnp.zeros_like(flat), -(t**2) / 2
        else:
            nu = jnp.asarray(mixture.radial_dof, dtype)
            normals = jnp.zeros((flat.shape[0], 0), dtype)
            radial = jnp.sqrt(nu / 2) * jnp.expm1(flat)
            log_density = -nu / 2 * beyond_log(jnp.expm1(t), t)
        component = jnp.full(flat.shape, k)
        statistics = mixture.statistics(level, partition)(normals, radial, component)
        weight = jnp.exp(log_density) * half[:, None]
        total = jnp.sum(product(weight, jnp.asarray(rules[:, 0], dtype)))

        def integral(values):
            panels = product(weight * values.reshape(t.shape), jnp.asarray(rules, dtype)) / total
            return panels[:, 0].sum(), jnp.abs(panels[:, 0] - panels[:, 1]).sum()

        leaves, tree = jax.tree.flatten(statistics)
        pairs = [integral(values) for values in leaves]
        return tuple(jax.tree.unflatten(tree, [pair[i] for pair in pairs]) for i in range(2))

    def at(level):
        each = jax.lax.map(lambda k: at_component(level, k), jnp.arange(mixture.num_components))
        mean, error = jax.tree.map(lambda values: product(mixture.weights, values), each)
        return mean, jax.tree.map(counted_error, error, mean)

    return LevelStatistics.integrated(*jax.lax.map(at, log_snr))
