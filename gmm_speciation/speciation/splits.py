"""Which components part where a fixed point loses its stability.

Leaving the fixed point along an unstable direction v, component k gains or loses likelihood at the rate
`c_k = (s_k - s) . v`. Components whose c have one direction leave together; those with c = 0 stay as
likely as they were and belong to no side. One unstable direction has two sides; where a symmetry makes
several directions unstable at once, as between equidistant classes, there are as many as directions of c.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from gmm_speciation.partitions import Partition

Split = tuple[tuple[int, ...], ...]  # components of every side, in the order of their first

_SAME_GAIN = 1e-5  # relative: directions that one symmetry makes unstable together
_STAYS = 1e-3  # of the largest rate: a component that belongs to no side
_ALIKE = 0.99  # cosine between the rates of components that leave together
_LONGEST = 60  # characters of a split in words


def sides(spread: Float[np.ndarray, "K d"], posterior: Float[np.ndarray, " K"]) -> Split:
    """The sides of a loss of stability.

    Args:
        spread: Rows `sqrt(p(k|x)) (s_k - s)` at the fixed point, in its metric.
        posterior: `p(k|x)` there.
    """
    alive = posterior > 0
    left, gains, _ = np.linalg.svd(spread, full_matrices=False)
    unstable = gains**2 >= (1 - _SAME_GAIN) * gains[0] ** 2
    rates = (left * gains)[:, unstable] / np.sqrt(np.where(alive, posterior, 1.0))[:, None]
    size = np.linalg.norm(rates, axis=1)
    found: list[tuple[np.ndarray, list[int]]] = []
    for k in np.flatnonzero(alive & (size > _STAYS * size.max())):
        direction = rates[k] / size[k]
        same = (members for other, members in found if other @ direction > _ALIKE)
        if (members := next(same, None)) is None:
            found.append((direction, [int(k)]))
        else:
            members.append(int(k))
    return tuple(tuple(members) for _, members in found)


def in_words(splits: Sequence[Split], partition: Partition) -> str | None:
    """`0, 1 | 2; 3 | 4`: the classes that part in each split, by name or number; None without one.

    Where a class has components on several sides, the components are named instead.
    """
    words = [_one(split, partition) for split in splits]
    if len("; ".join(words)) > _LONGEST and len(words) > 1:
        words = [words[0], f"{len(words) - 1} more"]
    return "; ".join(words) or None


def _one(split: Split, partition: Partition) -> str:
    names = partition.names or [str(label) for label in range(partition.num_classes)]
    labels = [sorted({partition.labels[k] for k in side}) for side in split]
    if sum(map(len, labels)) == len(set().union(*labels)):
        words = [[names[label] for label in side] for side in labels]
        text = " | ".join(", ".join(side) for side in words)
    else:
        words = [[str(k) for k in side] for side in split]
        text = "components " + " | ".join(", ".join(side) for side in words)
    if len(text) <= _LONGEST:
        return text
    if all(len(side) == 1 for side in words):
        return f"all {len(words)} from each other"
    return " | ".join(f"{side[0]} and {len(side) - 1} more" for side in words)
