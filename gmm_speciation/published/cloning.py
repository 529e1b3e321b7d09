"""Clones of two classes: Biroli et al. 2024 (arXiv 2402.18491), Fig. 1.

Classes `N(+-m, I)` with m = (1, ..., 1), Ornstein-Uhlenbeck process, reverse SDE from T = 10 in 1000
Euler steps; 10 000 pairs of clones parted at t = 1, 1.5, ..., 10. Whether clones end in one class depends on
`y = m.x / |m|` alone, and the reverse SDE of y is closed: with s = 1 the noisy variance stays 1 and

    dy = [-y + 2 a tanh(a y)] dt + sqrt(2) dW,     a = sqrt(d) e^{-t}     (time runs backwards)

so one dimension is exactly equivalent to d, Euler step by Euler step. The exact probability is
`phi(kappa)` at `kappa = d e^{-2t}`. Every branch time has trunks of its own here: its error is binomial
and independent of the others', which a chi-square over branch times needs. All d share one noise.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy import stats

from gmm_speciation import exact, families
from gmm_speciation.checks import ArrayLike, as_axis, positive
from gmm_speciation.processes import OrnsteinUhlenbeck
from gmm_speciation.shares import Share
from gmm_speciation.speciation import CloningExperiment, simulate_cloning

DIMS = (256, 1024, 4096, 16384)
BRANCH_TIMES = tuple(np.arange(1.0, 10.01, 0.5).tolist())
_LINE = 400  # points of the exact curves
_EXPECTED = 5.0  # pairs of either outcome below which a share is not nearly normal


class ChiSquare(eqx.Module):
    """Sum of squared standardised differences; about `dof +- sqrt(2 dof)` where theory holds."""

    value: float
    dof: int

    @property
    def p_value(self) -> float:
        """Probability of a larger value by chance."""
        return float(stats.chi2.sf(self.value, self.dof))


class CloningFigure(eqx.Module):
    """Share of pairs of clones that end in one class, simulated and exact."""

    dims: tuple[int, ...] = eqx.field(static=True)
    times: Float[np.ndarray, " T"]  # of the branches, in one dimension
    projected: Share  # (D, T): share of pairs in the equivalent one dimension
    phi: Float[np.ndarray, "D T"]  # exact
    line_times: Float[np.ndarray, " F"]  # a fine grid
    line: Float[np.ndarray, "D F"]  # exact, on it
    num_pairs: int = eqx.field(static=True)
    full: dict[int, CloningExperiment]  # runs in all d dimensions, by d

    @property
    def scores(self) -> Float[np.ndarray, "D T"]:
        """Simulated minus exact in standard errors of the exact binomial; NaN where either outcome is
        too rare for one."""
        variance = self.phi * (1 - self.phi)
        rare = self.num_pairs * np.minimum(self.phi, 1 - self.phi) < _EXPECTED
        error = np.sqrt(variance / self.num_pairs)
        return np.where(
            rare, np.nan, (np.asarray(self.projected.value) - self.phi) / np.where(rare, 1.0, error)
        )

    def chi_square(self, dim: int) -> ChiSquare:
        """Agreement of the simulation with phi over the branch times of one dimension.

        Raises:
            ValueError: If this dimension was not simulated.
        """
        if dim not in self.dims:
            raise ValueError(f"`dim` must be one of {self.dims}; got {dim}.")
        scores = self.scores[self.dims.index(dim)]
        kept = scores[np.isfinite(scores)]
        return ChiSquare(float(np.sum(kept**2)), len(kept))


@eqx.filter_jit
def _same_class(
    means: Float[Array, " D"],
    branch: Int[Array, " T"],
    times: Float[Array, " S"],
    key: PRNGKeyArray,
    num_pairs: int,
) -> Float[Array, "D T"]:
    """Share of pairs that end on one side; each branch time has its own trunks, one noise serves all d."""
    steps = -jnp.diff(times)

    def advance(y: Float[Array, "D n"], first, stop, key) -> Array:
        def step(i, y):
            a = (means * jnp.exp(-times[i]))[:, None]
            noise = jax.random.normal(jax.random.fold_in(key, i), y.shape[1:], y.dtype)
            drift = -y + 2 * a * jnp.tanh(a * y)
            return y + steps[i] * drift + (jnp.sqrt(2 * steps[i]) * noise)[None, :]

        return jax.lax.fori_loop(first, stop, step, y)

    def at(inputs):
        index, key = inputs
        key_class, key_start, key_trunk, key_clones = jax.random.split(key, 4)
        side = jax.random.rademacher(key_class, (num_pairs,), means.dtype)
        noise = jax.random.normal(key_start, side.shape, means.dtype)
        start = (means * jnp.exp(-times[0]))[:, None] * side[None, :] + noise[None, :]
        trunk = advance(start, 0, index, key_trunk)
        ends = advance(jnp.concatenate([trunk, trunk], 1), index, len(steps), key_clones)
        first, second = jnp.split(ends > 0, 2, axis=1)
        return jnp.mean(first == second, axis=1, dtype=means.dtype)

    return jax.lax.map(at, (branch, jax.random.split(key, len(branch)))).T


def clone_pairs(
    dims: ArrayLike,
    branch_times: ArrayLike = BRANCH_TIMES,
    *,
    key: PRNGKeyArray,
    num_pairs: int = 10_000,
    start_time: float = 10.0,
    num_steps: int = 1000,
) -> Share:
    """Share of pairs of clones that end in one class of `N(+-(1, ..., 1), I)`, `(D, T)`.

    Simulated in the equivalent single dimension, so any d costs the same. One noise serves all d: errors
    are independent between branch times, and dependent between dimensions.

    Args:
        dims: |m|^2, `(D,)`.
        branch_times: Where clones part, each moved to the nearest step.
        key: Random key.
        num_pairs: Pairs at every branch time, each with a trunk of its own.
        start_time: Noisiest time.
        num_steps: Equal Euler steps down to t = 0.

    Raises:
        ValueError: If a branch time lies outside the simulated range, one of `dims` is not positive, or
            there are fewer than two pairs or no step.
    """
    wanted = as_axis(
        branch_times,
        "branch_times",
        f"lie in [0, {start_time:g}]",
        lambda t: (t >= 0) & (t <= start_time),
    )
    squares = as_axis(dims, "dims", "be positive and finite", positive)
    if num_pairs < 2 or num_steps < 1:
        raise ValueError(
            "`num_pairs` must be at least 2 and `num_steps` at least 1; got "
            f"{num_pairs} and {num_steps}."
        )
    grid = np.linspace(start_time, 0.0, num_steps + 1)
    branch = np.abs(grid[None, :] - wanted[:, None]).argmin(1)
    # Single precision: rounding is far below the sampling error, and noise is what costs.
    means, levels = (jnp.asarray(x, jnp.float32) for x in (np.sqrt(squares), grid))
    found = _same_class(means, jnp.asarray(branch), levels, key, num_pairs)
    return Share.counted(found, num_pairs)


def biroli_cloning(
    dims: Sequence[int] = DIMS,
    *,
    key: PRNGKeyArray,
    num_pairs: int = 10_000,
    full_pairs: Mapping[int, int] | None = None,
) -> CloningFigure:
    """Fig. 1 at its settings: one equivalent dimension, all d at fewer pairs, and exact.

    In d dimensions clones part at three times around `t_S = (1/2) log d`, on the same step of 0.01, from
    t_S + 3 on, where kappa = e^{-6}.

    Args:
        dims: |m|^2 of each panel.
        key: Random key.
        num_pairs: Pairs at every branch time in one dimension.
        full_pairs: Pairs in d dimensions, by d; 128 in d = 256 and 48 in d = 1024 by default.

    Raises:
        ValueError: As `clone_pairs` and `simulate_cloning`.
    """
    full_pairs = {256: 128, 1024: 48} if full_pairs is None else dict(full_pairs)
    times = np.asarray(BRANCH_TIMES)
    keys = jax.random.split(key, 2)
    projected = clone_pairs(np.asarray(dims, float), times, key=keys[0], num_pairs=num_pairs)
    line_times = np.linspace(times[0], times[-1], _LINE)
    phi, line = (
        np.asarray(exact.clone_agreement(np.outer(np.asarray(dims, float), np.exp(-2 * one))))
        for one in (times, line_times)
    )
    return CloningFigure(
        tuple(int(dim) for dim in dims),
        times,
        projected,
        phi,
        line_times,
        line,
        num_pairs,
        {
            dim: _in_all_dimensions(dim, number, jax.random.fold_in(keys[1], dim))
            for dim, number in full_pairs.items()
        },
    )


def _in_all_dimensions(dim: int, num_pairs: int, key: PRNGKeyArray) -> CloningExperiment:
    speciation = np.log(dim) / 2
    start = np.round(speciation + 3, 2)
    return simulate_cloning(
        families.symmetric_pair(dim),
        OrnsteinUhlenbeck(),
        np.round(speciation + np.array([-0.7, 0.0, 0.7]), 2),
        key=key,
        start_time=float(start),
        num_steps=round(100 * float(start)),
        num_pairs=num_pairs,
    )
