"""A hierarchy of depth four whose separations spread over decades.

Leaves on a line at `sum_l +- distance_l / 2`: a binary tree, each level ten times closer than the one
above. Noise takes one level after the other, so the entropy of the leaves falls in stairs of log 2, and
the chain rule holds at every noise:

    H(level l | X) = H(level l - 1 | X) + sum_c pi_c H(level l | X) inside class c of level l - 1,

the last term because X given c is a draw of that class's own mixture. Both sides are integrals over
different mixtures (16 components, and those inside a class), each by quadrature.

Each level has its speciation points: entropic ones of its own decision, H(level|level above, X), whose
rate peaks once, while H(level|X) falls at every level above too; spectral and curvature criterion of
the mixture inside a class of the level above.

The decisions of hierarchical diffusion: Sclocchi et al. 2025 (arXiv 2402.16991); Li & Chen 2024
(arXiv 2403.01633).
"""

import itertools

import equinox as eqx
import numpy as np
from jaxtyping import Float

from gmm_speciation.checks import ArrayLike, as_axis, positive
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Hierarchy, Partition
from gmm_speciation.speciation import (
    SpeciationPoint,
    curvature_point,
    entropic_point,
    half_entropy_point,
    spectral_point,
    top_eigenvalue,
)

DISTANCES = (1000.0, 100.0, 10.0, 1.0)
_MARGIN = 6.0  # of log-SNR beyond kappa = 1 of the first and the last level


class ChainRule(eqx.Module):
    """Both sides of `H(fine|X) = H(coarse|X) + H(fine|coarse, X)` for each level below the first."""

    log_snr: Float[np.ndarray, " T"]
    fine: Float[np.ndarray, "P T"]
    coarse: Float[np.ndarray, "P T"]
    # H(fine|coarse, X), from the mixtures inside the coarse classes
    inside: Float[np.ndarray, "P T"]

    @property
    def gap(self) -> Float[np.ndarray, "P T"]:
        """Left minus right."""
        return self.fine - self.coarse - self.inside


class DeepHierarchy(eqx.Module):
    """The mixture and its levels; for each, by name, its entropy, its own decision and the criteria."""

    mixture: GaussianMixture
    hierarchy: Hierarchy
    distances: tuple[float, ...] = eqx.field(static=True)
    entropies: dict[str, EntropyCurve]  # H(level|X)
    decisions: dict[str, EntropyCurve]  # H(level|level above, X)
    criteria: dict[str, dict[str, SpeciationPoint]]  # of the decision, by level and criterion
    chain: ChainRule


def deep_hierarchy(
    distances: ArrayLike = DISTANCES, variance: float = 0.01, num_points: int = 181
) -> DeepHierarchy:
    """Entropies, decisions and criteria of every level of a binary tree on a line.

    Args:
        distances: Between the two children of a node, from the top level down; two or more, falling.
        variance: Of every leaf, positive.
        num_points: Noise levels of the curves.

    Raises:
        ValueError: If there are fewer than two distances, or one is not below half of the one above, so
            that subtrees would overlap, or the variance is not positive.
    """
    steps = as_axis(
        distances,
        "distances",
        "hold two or more, finite, positive, and each below half of the one above",
        lambda d: len(d) > 1 and np.all(positive(d)) and np.all(d[1:] < d[:-1] / 2),
    )
    if not (np.isfinite(variance) and variance > 0):
        raise ValueError(f"`variance` must be positive and finite; got {variance}.")
    depth, leaves = len(steps), _leaves(steps)
    mixture = GaussianMixture.isotropic(leaves[:, None], variance)
    # The labels of the leaves at a level are the leading binary digits of their numbers.
    numbers = np.arange(len(leaves))
    partitions = [Partition(numbers >> (depth - level)) for level in range(1, depth + 1)]
    names = [f"level {level}, {2**level} classes" for level in range(1, depth + 1)]
    # kappa = (distance / 2)^2 / (sigma^2 + variance) is 1 where the level parts.
    ends = -2 * np.log(steps[[-1, 0]] / 2)
    grid = np.linspace(ends[0] + _MARGIN, ends[1] - _MARGIN, num_points)
    entropies = {
        name: entropy_curve(mixture, grid, partition=partition, method="exact")
        for name, partition in zip(names, partitions, strict=True)
    }
    decisions = {
        name: entropies[name] if above == 0 else _inside(leaves, variance, grid, above)
        for above, name in enumerate(names)
    }
    value = {name: np.asarray(curve.entropy.value) for name, curve in entropies.items()}
    return DeepHierarchy(
        mixture,
        Hierarchy(partitions),
        tuple(steps.tolist()),
        entropies,
        decisions,
        {
            name: _criteria(
                GaussianMixture.isotropic(_leaves(steps[above:])[:, None], variance), curve
            )
            for above, (name, curve) in enumerate(decisions.items())
        },
        ChainRule(
            grid,
            np.stack([value[name] for name in names[1:]]),
            np.stack([value[name] for name in names[:-1]]),
            np.stack([np.asarray(decisions[name].entropy.value) for name in names[1:]]),
        ),
    )


def _leaves(distances: np.ndarray) -> Float[np.ndarray, " K"]:
    """`sum_l +- distance_l / 2`, in the order of the tree."""
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=len(distances))))
    return signs @ distances


def _inside(leaves: np.ndarray, variance: float, grid: np.ndarray, above: int) -> EntropyCurve:
    """`sum_c pi_c H(next level|X) inside c` over the classes c of level `above`, all of one weight."""
    parents = leaves.reshape(2**above, -1)
    halves = Partition((np.arange(parents.shape[1]) >= parents.shape[1] // 2).astype(int))
    curves = [
        entropy_curve(
            GaussianMixture.isotropic(own[:, None], variance),
            grid,
            partition=halves,
            method="exact",
        )
        for own in parents
    ]
    return EntropyCurve(
        grid,
        Estimate.exact(np.mean([np.asarray(curve.entropy.value) for curve in curves], 0)),
        Estimate.exact(np.mean([np.asarray(curve.rate.value) for curve in curves], 0)),
        float(np.mean([curve.prior_entropy for curve in curves])),
        "exact",
    )


def _criteria(inside: GaussianMixture, decision: EntropyCurve) -> dict[str, SpeciationPoint]:
    """Of the mixture inside a class of the level above; all of these are translations of one."""
    return {
        "spectral": spectral_point(top_eigenvalue(inside)),
        "bifurcation": curvature_point(inside),
        "entropic peak": entropic_point(decision),
        "half entropy": half_entropy_point(decision),
    }
