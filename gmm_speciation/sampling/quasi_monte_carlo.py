"""Quasi-Monte Carlo averages over the reduced statistic.

Scrambled Sobol points (Owen 1998; `scipy.stats.qmc`) replace the random draws: the first coordinate
chooses the component by the inverse distribution function of the weights (rare ones more often, `rare`), the
next r become normals by the normal quantile, the last the radial chi-square by its own. The normals of each
component are turned so that its nearest neighbour is told by the first, the next by the first two, and so
on: the distribution is the same, the leading coordinates of the points, which are the best, then matter
most, and components in like surroundings share one integrand. R independent scrambles give R
unbiased replicates of a whole curve, so that Student's t with R - 1 degrees of freedom makes an honest
interval. All noise levels use the same points.

Points are drawn on the host; `reduced_statistics` is the part that is safe under jit.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy import special
from scipy.stats import qmc

from gmm_speciation.checks import as_count
from gmm_speciation.exact.quadrature import standardised_chi_square
from gmm_speciation.inference import Classes
from gmm_speciation.partitions import as_partition
from gmm_speciation.posteriors import LevelStatistics
from gmm_speciation.programs import program
from gmm_speciation.rare import heaviest_on_a_boundary, log_tilt
from gmm_speciation.reduction import ReducedMixture
from gmm_speciation.sampling.devices import (
    EACH,
    SAME,
    everywhere,
    flat_mesh,
    on_devices,
    on_host,
    scattered,
)

NUM_SCRAMBLES = 16
MAX_NORMALS = 4096
_MAX_FRAMES = 128  # components; a frame each costs K^4 operations together


class Draws(eqx.Module):
    """Base variables of R replicates of n draws."""

    normals: Float[Array, "R n r"]
    radial: Float[Array, "R n"]
    component: Int[Array, "R n"]


def sobol_draws(
    mixture: ReducedMixture, num_samples: int, key: PRNGKeyArray | None = None
) -> Draws:
    """Scrambled Sobol points as components, normals and radial variables, 16 replicates.

    Args:
        mixture: Whose statistic to draw.
        num_samples: Points in all; each replicate has the next power of two of a sixteenth.
        key: Of the scrambles; `jax.random.key(0)` by default.

    Raises:
        ValueError: If the statistic has more than 4096 dimensions, or `num_samples < 32`.
    """
    if mixture.num_normals > MAX_NORMALS:
        raise ValueError(
            f"Quasi-Monte Carlo covers at most {MAX_NORMALS} dimensions; the statistic has "
            f"{mixture.num_normals}. Use `method='monte-carlo'`."
        )
    num_samples = as_count(num_samples, "num_samples", 2 * NUM_SCRAMBLES)
    key = jax.random.key(0) if key is None else key
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    exponent = int(np.ceil(np.log2(num_samples / NUM_SCRAMBLES)))
    variables = 1 + mixture.num_normals + mixture.has_radius
    uniform = np.stack(
        [qmc.Sobol(variables, rng=rng).random_base2(exponent) for _ in range(NUM_SCRAMBLES)]
    )
    # The quantile of 0 is -inf; half the resolution of the points keeps it finite.
    uniform = np.clip(uniform, 2.0**-33, 1 - 2.0**-33)
    weights, tilt = np.asarray(mixture.weights, float), log_tilt(mixture.log_weights, num_samples)
    cumulative = np.cumsum(weights if tilt is None else weights * np.exp(np.asarray(tilt)))
    component = np.searchsorted(cumulative / cumulative[-1], uniform[..., 0], side="right")
    score = special.ndtri(uniform[..., 1:])
    if mixture.num_normals and mixture.num_components <= _MAX_FRAMES:
        _turn(score[..., : mixture.num_normals], component, np.asarray(_points(mixture)))
    dtype = mixture.log_weights.dtype
    return Draws(
        jnp.asarray(score[..., : mixture.num_normals], dtype),
        jnp.asarray(standardised_chi_square(score[..., -1], int(mixture.radial_dof)), dtype)
        if mixture.has_radius
        else jnp.zeros(uniform.shape[:-1], dtype),
        jnp.asarray(component),
    )


@program
def _points(mixture: ReducedMixture) -> Array:
    return mixture.component_points


def _turn(normals: np.ndarray, component: np.ndarray, points: np.ndarray) -> None:
    """Turn, in place, the normals of every component into its frame of nearest neighbours.

    With differences to the neighbours, nearest first, as columns `Q R`, normals `Q z` meet the j-th
    difference in `(R^T z)_j`, a sum over the first j coordinates of z.
    """
    for k, point in enumerate(points):
        differences = points - point[None, :]
        nearest = np.argsort(np.sum(differences**2, -1), kind="stable")
        nearest = nearest[nearest != k][: points.shape[1]]
        frame, triangle = np.linalg.qr(differences[nearest].T, mode="complete")
        signs = np.where(np.diag(triangle) < 0, -1.0, 1.0)
        frame[:, : len(signs)] *= signs[None, :]
        own = component == k
        normals[own] = normals[own] @ frame.T


@program
def _replicates(mixture, log_snr, tilt, partition, draws, mesh):
    """Averages over every replicate, each on one device."""

    def own(mixture, log_snr, tilt, draws):
        def at(level):
            statistics = mixture.statistics(level, partition, tilt)

            def replicate(one):
                return jax.tree.map(jnp.mean, statistics(one.normals, one.radial, one.component))

            return jax.lax.map(replicate, draws)

        return jax.lax.map(at, log_snr)

    specs = (SAME, SAME, SAME, EACH)
    return on_devices(own, mesh, specs, axis=1)(mixture, log_snr, tilt, draws)


def quasi_monte_carlo_levels(
    mixture: ReducedMixture,
    log_snr: Float[Array, " T"],
    *,
    partition: Classes = None,
    num_samples: int,
    key: PRNGKeyArray | None = None,
    mesh: Mesh | None = None,
) -> LevelStatistics:
    """Averages of the posterior statistics at every level, all from one set of points.

    The replicates go over the devices of `mesh`, by default all of the default backend.

    Raises:
        ValueError: As `sobol_draws`, or if the partition does not fit.
    """
    partition = as_partition(partition, mixture.num_components)
    draws = sobol_draws(mixture, num_samples, key)
    mesh = flat_mesh(mesh)
    tilt = log_tilt(mixture.log_weights, num_samples)
    heaviest = heaviest_on_a_boundary(tilt, partition)
    mixture, log_snr, tilt = everywhere((mixture, log_snr, tilt), mesh)
    means = on_host(_replicates(mixture, log_snr, tilt, partition, scattered(draws, mesh), mesh))
    replicates = jax.tree.map(
        lambda values: jnp.asarray(values[:, :NUM_SCRAMBLES], values.dtype), means
    )
    return LevelStatistics.from_replicates(replicates).of_few(draws.component.size, heaviest)
