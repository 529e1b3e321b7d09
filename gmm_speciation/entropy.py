"""Class entropy of a Gaussian mixture under noise, and its rate.

With `X = alpha x_0 + sigma eps` at log-SNR `lambda`, class posterior p(c|X) and class scores s_c,

    H(C|X)      = E[ -sum_c p(c|X) log p(c|X) ]
    -dH/dlambda = (sigma^2 / 2) E[ sum_c p(c|X) |s_c(X) - s(X)|^2 ] >= 0

(I-MMSE; Guo, Shamai & Verdu 2005). Both are averages of exact conditional expectations given X, not
of sampled labels, and both come from the same draws of X. The same base normals serve every noise
level, so a curve is smooth and its differences have small errors. Nats.

Methods, for a mixture or its reduction (`reduce`):

    exact               one-dimensional integrals for two components that share a covariance and for
                        equidistant classes; quadrature where the statistic has at most three
                        variables (unequal variances, equal means, any partition), with an estimate
                        of its error: the standard error is 0 only where that is below 1e-10
    quasi-monte-carlo   scrambled Sobol points on the reduced statistic
    monte-carlo         random draws in d dimensions; for every mixture
    auto                the first of these that applies at little cost; not a quadrature whose error
                        is not shown to be below 1e-10 at every level

Where nearly every draw is certain the few that are not carry the mean, and may not have come: there the
two sampling methods know entropies to `2 log 2 / num_samples` nats and no better.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from gmm_speciation import exact
from gmm_speciation.checks import (
    ArrayLike,
    as_float_array,
    as_key,
    as_states,
    decreasing_grid,
    expect,
    known,
)
from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.exact.quadrature import (
    MAX_DIMENSIONS,
    num_variables,
    quadrature_cost,
    quadrature_levels,
)
from gmm_speciation.inference import Classes
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.posteriors import LevelStatistics, PosteriorStatistics, entropy_of
from gmm_speciation.programs import is_traced, program, refuse_traced
from gmm_speciation.progress import Parts, Progress
from gmm_speciation.reduction import (
    EquidistantReduction,
    Law,
    NotReducibleError,
    PairReduction,
    ReducedMixture,
    as_equidistant,
    reduce,
)
from gmm_speciation.sampling.monte_carlo import DEFAULT_NUM_SAMPLES, data_levels, sampled_levels
from gmm_speciation.sampling.quasi_monte_carlo import MAX_NORMALS, quasi_monte_carlo_levels

METHODS = ("auto", "exact", "quasi-monte-carlo", "monte-carlo")
_AFFORDABLE = 2e6  # node evaluations a level: about a hundredth of a second
_REFINED = 1e7  # where the first rule does not show its 1e-10


def decision_snr(mixture: Law, log_snr: ArrayLike) -> Float[Array, "*T"]:
    """`kappa = alpha^2 Delta^T (alpha^2 Sigma + sigma^2 I)^{-1} Delta / 4` of a two-component mixture.

    Raises:
        ValueError: If there are not two components with one covariance.
    """
    expect(mixture, Law)
    reduced = _reduced(mixture)
    if mixture.num_components != 2 or not isinstance(reduced, PairReduction):
        raise ValueError(
            "The decision SNR is defined for two components that share a covariance; got "
            f"{mixture.num_components} components of {type(mixture).__name__}."
        )
    levels = as_float_array(log_snr, "log_snr")
    return _pair_snr(reduced, levels.reshape(-1)).reshape(levels.shape)


@eqx.filter_jit
def _pair_snr(mixture: PairReduction, log_snr: Array) -> Array:
    return mixture.pair_snr(log_snr)[0]


def _reduced(mixture: Law) -> ReducedMixture | None:
    """The reduction, or None where there is none."""
    if isinstance(mixture, ReducedMixture):
        return mixture
    try:
        return reduce(mixture)
    except NotReducibleError:
        return None


def _has_integral(mixture: ReducedMixture, partition: Partition) -> bool:
    """Whether a one-dimensional integral is known for these classes."""
    if partition.num_classes == 1:
        return True
    if not partition.is_trivial:
        return False
    two = partition.num_classes == 2 and isinstance(mixture, PairReduction)
    return two or as_equidistant(mixture) is not None


def _resolve(
    mixture: Law, reduced: ReducedMixture | None, partition: Partition, method: str
) -> str:
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    known = reduced is not None and _has_integral(reduced, partition)
    if method == "exact":
        if known or (reduced is not None and num_variables(reduced) <= MAX_DIMENSIONS):
            return method
        why = (
            f"a statistic of {num_variables(reduced)} variables"
            if reduced is not None
            else "component covariances that differ"
        )
        raise ValueError(
            "`method='exact'` covers two components with one covariance, equidistant classes, and "
            f"statistics of at most {MAX_DIMENSIONS} variables; got {why}. Use `method='auto'`."
        )
    if method == "quasi-monte-carlo" and isinstance(mixture, GaussianMixture):
        reduce(mixture)  # raises where there is none, and says why
    if method == "monte-carlo" and isinstance(mixture, ReducedMixture):
        raise ValueError(
            "Monte Carlo draws the state in d dimensions; a reduced mixture has none. Use "
            "`method='quasi-monte-carlo'`."
        )
    if method != "auto":
        return method
    if reduced is None:
        return "monte-carlo"
    if known or quadrature_cost(reduced) <= _AFFORDABLE:
        return "exact"
    fits = reduced.num_normals <= MAX_NORMALS or isinstance(mixture, ReducedMixture)
    return "quasi-monte-carlo" if fits else "monte-carlo"


@program
def _integral_levels(mixture: ReducedMixture, log_snr: Array, partition: Partition):
    """Statistics at every level where `_has_integral`; two components before equidistant ones."""
    if partition.num_classes == 1:
        zero = jnp.zeros_like(log_snr)
        return PosteriorStatistics(zero, zero, zero + 1)
    if partition.num_classes == 2:
        assert isinstance(mixture, PairReduction)  # as `_has_integral` found
        kappa, squared = mixture.pair_snr(log_snr)
        # Of the rarer class: in 1 minus a weight it has no digits left, and H is the same of either.
        prior = jnp.exp(mixture.log_weights.min()).astype(log_snr.dtype)
        mmse = exact.binary_mmse(kappa, prior)
        # E sum_c p_c |s_c - s|^2 = E p (1 - p) |a_0 - a_1|^2, and mmse = 4 E p (1 - p).
        return PosteriorStatistics(
            exact.binary_entropy(kappa, prior), squared * mmse / 8, 1 - mmse / 2
        )
    assert isinstance(mixture, EquidistantReduction)  # chosen by the caller
    s, score = mixture.snr(log_snr)
    mmse = exact.equidistant_mmse(mixture.num_components, s)
    return PosteriorStatistics(
        exact.equidistant_entropy(mixture.num_components, s), score * mmse / 2, 1 - mmse
    )


def level_statistics(
    mixture: Law,
    log_snr: Float[Array, " T"],
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
    mesh: Mesh | None = None,
    progress: Progress | Parts | None = None,
) -> tuple[LevelStatistics, str]:
    """Entropy, rate and agreement at every level, and the method that was used.

    What `class_entropy`, `entropy_rate`, `clone_agreement` and `entropy_curve` read; arguments and
    errors as there, `mesh` and `progress` as for `entropy_curve`.
    """
    key = None if key is None else as_key(key)
    number = len(log_snr)
    # Numbers of levels within an eighth of each other share a program: the last level is repeated, and
    # what it gives is dropped.
    missing = 0 if is_traced(log_snr) else -number % (1 << max(number.bit_length() - 4, 0))
    if missing:
        log_snr = jnp.asarray(np.pad(log_snr, (0, missing), mode="edge"), log_snr.dtype)
    levels, method = _level_statistics(
        mixture,
        log_snr,
        as_partition(partition, mixture.num_components),
        method,
        num_samples=num_samples,
        key=key,
        mesh=mesh,
        progress=progress,
    )
    if missing:
        levels = jax.tree.map(
            lambda values: jnp.asarray(known(values)[:number], values.dtype), levels
        )
    return levels, method


def _level_statistics(
    mixture: Law, log_snr: Array, partition: Partition, method: str, *, progress, **options
) -> tuple[LevelStatistics, str]:
    reduced = None if method == "monte-carlo" else _reduced(mixture)
    asked, method = method, _resolve(mixture, reduced, partition, method)
    if method != "exact":
        refuse_traced(f"The method {method!r} runs", mixture, log_snr)
    if method == "monte-carlo":
        assert isinstance(mixture, GaussianMixture)  # refused above otherwise
        levels = sampled_levels(mixture, log_snr, partition=partition, progress=progress, **options)
        return levels, method
    assert reduced is not None  # the other methods need one
    if method == "exact":
        if _has_integral(reduced, partition):
            simplest = reduced if partition.num_classes <= 2 else as_equidistant(reduced)
            assert simplest is not None  # as `_has_integral` found
            return LevelStatistics.exact(_integral_levels(simplest, log_snr, partition)), method
        for refinement in (1, 2):
            if refinement > 1 and quadrature_cost(reduced, refinement) > _REFINED:
                break
            levels = quadrature_levels(reduced, log_snr, partition, refinement)
            errors = jax.tree.leaves(levels.stderr)
            if is_traced(errors) or not any(np.any(np.asarray(one)) for one in errors):
                return levels, method
        if asked == "exact":
            return levels, method
        method = "quasi-monte-carlo"  # the statistic has few variables
    return quasi_monte_carlo_levels(reduced, log_snr, partition=partition, **options), method


def _evaluate(mixture, log_snr, partition, method, num_samples, key, which: str) -> Estimate:
    expect(mixture, Law)
    log_snr = as_float_array(log_snr, "log_snr")
    levels, _ = level_statistics(
        mixture,
        log_snr.reshape(-1),
        partition=partition,
        method=method,
        num_samples=num_samples,
        key=key,
    )
    return jax.tree.map(lambda part: part.reshape(log_snr.shape), levels.estimate(which))


def class_entropy(
    mixture: Law,
    log_snr: ArrayLike,
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """`H(C | X)` in nats at log-SNR `log_snr`, any shape; infinities are allowed.

    Chooses a method and checks values on the host. Under jit, vmap and grad it takes the exact methods, a
    quadrature by its first rule; where these do not apply use `posterior_statistics`.

    Args:
        mixture: The clean distribution.
        log_snr: Noise levels, any shape; the estimate has the same.
        partition: Class of each component; every component its own by default.
        method: "auto", "exact", "quasi-monte-carlo" or "monte-carlo".
        num_samples: Draws of X where the method samples.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If `log_snr` is NaN, the method is unknown or does not apply, `num_samples` is
            below 32, the partition does not fit the mixture, or sampling is traced.
    """
    return _evaluate(mixture, log_snr, partition, method, num_samples, key, "entropy")


def entropy_rate(
    mixture: Law,
    log_snr: ArrayLike,
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """`-dH(C|X)/dlambda >= 0` in nats per unit log-SNR. Arguments and errors as `class_entropy`."""
    return _evaluate(mixture, log_snr, partition, method, num_samples, key, "rate")


def clone_agreement(
    mixture: Law,
    log_snr: ArrayLike,
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """`phi = E sum_c p(c|X)^2`: two reverse runs from one noisy state end in the same class.

    Biroli et al. 2024 (arXiv 2402.18491), cloning. Arguments and errors as `class_entropy`.
    """
    return _evaluate(mixture, log_snr, partition, method, num_samples, key, "agreement")


def prior_entropy(mixture: Law, partition: Classes = None) -> Float[Array, ""]:
    """`H(C)` of the class weights, in nats."""
    expect(mixture, Law)
    return _prior_entropy(mixture.log_weights, as_partition(partition, mixture.num_components))


@eqx.filter_jit
def _prior_entropy(log_weights: Array, partition: Partition) -> Array:
    return entropy_of(partition.log_sum(log_weights))


def _data_levels(mixture: Law, grid, samples, partition, method: str, **options) -> LevelStatistics:
    if isinstance(mixture, ReducedMixture) or method not in ("auto", "monte-carlo"):
        raise ValueError(
            "With `samples` the average runs over them: it needs a mixture, not its reduction, and "
            f"`method='monte-carlo'`; got {type(mixture).__name__} and {method!r}."
        )
    if not (isinstance(samples, np.ndarray) and samples.dtype.kind in "fiub"):
        samples = as_states(samples, mixture.dim, "samples")
    # Arrays of numpy stay on the host and go to the devices piece by piece.
    return data_levels(mixture, grid, samples, partition=partition, **options)


def entropy_curve(
    mixture: Law,
    log_snr: ArrayLike,
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    samples: ArrayLike | None = None,
    key: PRNGKeyArray | None = None,
    mesh: Mesh | None = None,
    progress: Progress | Parts | None = None,
) -> EntropyCurve:
    """Entropy and rate on a strictly decreasing log-SNR grid, both from the same draws.

    Other arguments as `class_entropy`.

    Args:
        samples: Clean states `(n, d)` to average over instead of the mixture's own draws: the
            posterior is then the mixture's, the distribution of X that of these data. A numpy array, also a
            memory-mapped one, goes to the devices piece by piece.
        mesh: Devices that share the draws; by default all of the default backend, on all hosts. The
            result does not depend on it.
        progress: Told of the draws by `monte-carlo`; a `Progress`, or a function `(done, in all)`.

    Raises:
        ValueError: As `class_entropy`, or if the grid is not finite and strictly decreasing.
    """
    refuse_traced("A curve is made", expect(mixture, Law), log_snr, samples)
    grid = decreasing_grid(log_snr)
    partition = as_partition(partition, mixture.num_components)
    key = None if key is None else as_key(key)
    if samples is None:
        levels, method = level_statistics(
            mixture,
            grid,
            partition=partition,
            method=method,
            num_samples=num_samples,
            key=key,
            mesh=mesh,
            progress=progress,
        )
    else:
        levels = _data_levels(
            mixture, grid, samples, partition, method, key=key, mesh=mesh, progress=progress
        )
        method = "monte-carlo"
    batches = None
    if levels.batches is not None:
        batches = Batches(np.asarray(levels.batches.entropy).T, np.asarray(levels.batches.rate).T)
    return EntropyCurve(
        np.asarray(grid),
        levels.estimate("entropy"),
        levels.estimate("rate"),
        float(prior_entropy(mixture, partition)),
        method,
        batches,
    )
