"""What the probability that two draws agree says about the entropy.

Two clones of one state end in one class with probability `phi = E sum_c p_c^2`. For every state the
pair (sum p^2, H) lies between

    below   the distributions with m equal weights and one smaller one, above the chords through the
            points (1/m, log m); for two classes 2 log 2 (1 - phi), never below -log phi
    above   one weight larger and the others equal; averages over states lie below its concave hull

(Harremoes & Topsoe 2001, "Inequalities between entropy and index of coincidence derived from information
diagrams".) Both are attained, so no tighter ones follow from phi alone. Both are bounds on the average H
too, as the lower one is convex and the upper one concave. Nats.
"""

import numpy as np
from jaxtyping import Float

from gmm_speciation.estimate import Estimate

_POINTS = 4001


def entropy_lower_bound(
    agreement: Float[np.ndarray, "*batch"], num_classes: int
) -> Float[np.ndarray, "*batch"]:
    """Least average entropy of C classes whose clones agree with this probability.

    Raises:
        ValueError: If there are no two classes.
    """
    counts = np.arange(_check(num_classes), 0, -1)
    return np.asarray(np.interp(_clip(agreement, num_classes), 1 / counts, np.log(counts)))


def entropy_upper_bound(
    agreement: Float[np.ndarray, "*batch"], num_classes: int
) -> Float[np.ndarray, "*batch"]:
    """Largest average entropy of C classes whose clones agree with this probability.

    The concave hull of one large weight and equal others.

    Raises:
        ValueError: If there are no two classes.
    """
    phi = _clip(agreement, _check(num_classes))
    # Dense at both ends, where the entropy bends most.
    large = 1 - (1 - 1 / num_classes) * np.sin(np.linspace(np.pi / 2, 0, _POINTS)) ** 2
    small = (1 - large) / (num_classes - 1)
    collisions = large**2 + (num_classes - 1) * small**2
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.where(small > 0, (num_classes - 1) * small * np.log(small), 0.0)
    hull = _upper_hull(collisions, -large * np.log(large) - rest)
    return np.asarray(np.interp(phi, collisions[hull], (-large * np.log(large) - rest)[hull]))


def entropy_bounds(agreement: Estimate, num_classes: int) -> tuple[Estimate, Estimate]:
    """Lower and upper bound with the error of a sampled agreement.

    The error is what a bound moves within one standard error on its steeper side: the slope of the upper
    one is infinite where no clones part.

    Raises:
        ValueError: If there are no two classes.
    """
    phi, stderr = (np.asarray(part) for part in (agreement.value, agreement.stderr))
    phi = _clip(phi, _check(num_classes))

    def carried_over(bound) -> Estimate:
        value, *ends = (bound(np.asarray(phi + sign * stderr), num_classes) for sign in (0, -1, 1))
        return Estimate(value, np.max([abs(end - value) for end in ends], 0), agreement.dof)

    return carried_over(entropy_lower_bound), carried_over(entropy_upper_bound)


def _check(num_classes: int) -> int:
    if num_classes < 2:
        raise ValueError(f"Clones can disagree among at least two classes; got {num_classes}.")
    return num_classes


def _clip(agreement: np.ndarray, num_classes: int) -> np.ndarray:
    """Sampling noise may leave the range of a collision probability."""
    return np.asarray(np.clip(np.asarray(agreement, float), 1 / num_classes, 1.0))


def _upper_hull(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Indices of the concave hull of points with increasing x (Andrew's monotone chain)."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return hull
