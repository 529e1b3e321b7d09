"""Cloning by simulation: one trunk, and two branches from it at every branch time.

The reverse SDE runs from the noisiest time down to a branch time t (the trunk), then twice from there
with independent noise (the clones); Biroli et al. 2024 (arXiv 2402.18491), Fig. 1. Two read-outs of
their end states y, y':

    same class    share of pairs with one `argmax_c p(c | y)`, as published
    agreement     mean of `sum_c p(c | y) p(c | y')`: unbiased for `phi(t) = E sum_c p(c|x_t)^2` even
                  where clean classes overlap, and of smaller variance

Every pair has a trunk of its own, so errors are those of independent pairs at each branch time; the
branches share the trunk, so errors at different times are correlated.

A mixture that is the same in all but a few directions needs those only: for isotropic +-m the
component along m obeys the same SDE in any dimension, `symmetric_pair(1, sqrt(d) mu)`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gmm_speciation.checks import ArrayLike, as_axis, as_count, expect
from gmm_speciation.estimate import Estimate, Readable
from gmm_speciation.inference import Classes, class_posterior, denoiser
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.samplers import ReverseLevels, check_method, reverse_step
from gmm_speciation.shares import Share, bounded_mean


class CloningExperiment(Readable):
    """What pairs of clones did, one entry a branch time."""

    times: Float[np.ndarray, " T"]  # where the paths parted, on the grid of steps
    log_snr: Float[np.ndarray, " T"]
    same_class: Share  # share of pairs that end in one class
    agreement: Estimate  # mean of sum_c p(c|y) p(c|y'), an estimate of phi


def simulate_cloning(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    branch_times: ArrayLike,
    *,
    key: PRNGKeyArray,
    start_time: float = 10.0,
    num_steps: int = 1000,
    num_pairs: int = 10_000,
    partition: Classes = None,
    method: str = "euler",
) -> CloningExperiment:
    """Branch reverse trajectories in two and count the pairs that end in one class.

    Args:
        mixture: The clean distribution.
        process: The clock.
        branch_times: `(T,)`, each moved to the nearest step.
        key: Random key.
        start_time: Noisiest time, where trajectories start from the exact distribution.
        num_steps: Equal steps of time from `start_time` to the clean end of the process.
        num_pairs: Pairs of clones at every branch time.
        partition: Class of each component; every component its own by default.
        method: "euler" as published, or "sde", the ancestral kernel.

    Raises:
        ValueError: If a branch time lies outside the simulated range, the start leaves that of the
            process, the method is neither or cannot leave it, there are fewer than two pairs or no step,
            or the partition does not fit.
    """
    expect(mixture, GaussianMixture)
    if method not in ("euler", "sde"):
        raise ValueError(f"`method` must be 'euler' or 'sde'; got {method!r}.")
    num_pairs = as_count(num_pairs, "num_pairs", 2)  # a standard error needs two
    num_steps = as_count(num_steps, "num_steps")
    partition = as_partition(partition, mixture.num_components)
    first = process.time_range[0]
    if not first < start_time < np.inf:
        raise ValueError(f"`start_time` must be finite and above {first:g}; got {start_time}.")
    grid = np.linspace(start_time, first, num_steps + 1)
    wanted = as_axis(
        branch_times,
        "branch_times",
        f"lie in [{grid[-1]:.6g}, {grid[0]:.6g}], the simulated range",
        lambda t: (t >= grid[-1]) & (t <= grid[0]),
    )
    levels = ReverseLevels.of(process, grid, mixture.centre.dtype)
    check_method(levels, method)
    index = np.abs(grid[None, :] - wanted[:, None]).argmin(1)
    order = np.argsort(index, kind="stable")  # along the trunk, from noise to signal
    same, agreement = _branch(
        mixture, partition, levels, jnp.asarray(index[order]), key, num_pairs, method
    )
    back = np.argsort(order)
    return CloningExperiment(
        grid[index],
        np.asarray(process.log_snr(grid[index])),
        Share.counted(np.asarray(same, float)[back].mean(1), num_pairs),
        bounded_mean(np.asarray(agreement, float)[back], 1),
    )


@eqx.filter_jit
def _branch(
    mixture: GaussianMixture,
    partition: Partition,
    levels: ReverseLevels,
    index: Array,
    key: PRNGKeyArray,
    num_pairs: int,
    method: str,
) -> tuple[Array, Array]:
    """`(T, n)`: whether each pair ends in one class, and `sum_c p(c|y) p(c|y')`.

    Loops with traced ends: one compiled step serves the trunk and branches of every length.
    """
    last = len(levels.drift)
    clean = mixture.perturb(*levels.scales(last))

    def advance(x: Array, first, stop, key) -> Array:
        def step(i, x):
            denoised = denoiser(mixture, x, *levels.scales(i))
            return reverse_step(x, denoised, levels, i, jax.random.fold_in(key, i), method)

        return jax.lax.fori_loop(first, stop, step, x)

    def at(carry, inputs):
        trunk, reached = carry
        here, key = inputs
        key_trunk, key_clones = jax.random.split(key)
        trunk = advance(trunk, reached, here, key_trunk)
        ends = advance(jnp.concatenate([trunk, trunk]), here, last, key_clones)
        first, second = jnp.split(class_posterior(clean, ends, partition), 2)
        same = jnp.argmax(first, -1) == jnp.argmax(second, -1)
        return (trunk, here), (same, jnp.sum(first * second, -1))

    key_start, key_path = jax.random.split(key)
    start, _ = mixture.perturb(*levels.scales(0)).sample(key_start, num_pairs)
    keys = jax.random.split(key_path, len(index))
    return jax.lax.scan(at, (start, jnp.zeros_like(index[0])), (index, keys))[1]
