"""Where to sample the noise: densities on an interval of a log scale, drawn in strata.

An integral over `v` is the mean of `f(v) / q(v)` under a density q, and its variance is least where
`q ~ sqrt(E f^2)` (Rubinstein & Kroese 2017, ch. 5). Here q is piecewise constant, a mixture of the
shape that a pilot has seen and of the uniform density, which bounds the weights. With J strata of
equal mass and one draw in each, only the variance inside the strata is left.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FLOOR = 0.1


@dataclass(frozen=True, eq=False)
class Proposal:
    """A piecewise constant density between `nodes`, by its distribution function at them."""

    nodes: Float[np.ndarray, " M"]
    cdf: Float[np.ndarray, " M"]

    @classmethod
    def from_shape(
        cls,
        nodes: Float[np.ndarray, " M"],
        shape: Float[np.ndarray, " M"],
        floor: float = FLOOR,
    ) -> "Proposal":
        """The density proportional to `shape` between the nodes, mixed with the uniform one.

        Args:
            nodes: Increasing places.
            shape: Non-negative height at each; all 0 gives the uniform density.
            floor: Share of the uniform density, in (0, 1].

        Raises:
            ValueError: If the nodes do not increase, a height is not finite and non-negative, or the
                floor is outside (0, 1].
        """
        widths = np.diff(nodes)
        if len(nodes) < 2 or not np.all(widths > 0):
            raise ValueError(
                f"`nodes` must be at least two and increase; got {len(nodes)} from "
                f"{nodes[0]:g} to {nodes[-1]:g}."
            )
        if shape.shape != nodes.shape or not (np.all(np.isfinite(shape)) and np.all(shape >= 0)):
            raise ValueError(
                f"`shape` must be one finite, non-negative height a node; got {shape!r}."
            )
        if not 0 < floor <= 1:
            raise ValueError(
                f"`floor` must lie in (0, 1], so that weights are bounded; got {floor}."
            )
        mass = (shape[1:] + shape[:-1]) / 2 * widths
        uniform = widths / widths.sum()
        total = mass.sum()
        share = uniform if total <= 0 else (1 - floor) * mass / total + floor * uniform
        return cls(nodes, np.concatenate([[0.0], np.cumsum(share) / share.sum()]))

    def quantile(self, mass: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
        """Places below which these shares of the mass lie."""
        return np.interp(mass, self.cdf, self.nodes)

    def density(self, places: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
        """Density at places between the first and the last node."""
        cells = np.clip(
            np.searchsorted(self.nodes, places, side="right") - 1, 0, len(self.nodes) - 2
        )
        return (np.diff(self.cdf) / np.diff(self.nodes))[cells]

    def stratified(
        self, uniform: Float[np.ndarray, "*batch J"]
    ) -> tuple[Float[np.ndarray, "*batch J"], Float[np.ndarray, "*batch J"]]:
        """One place in each of J strata of equal mass, and the weights `1 / (J q)` of the integral.

        Args:
            uniform: Independent numbers in [0, 1), the place of each draw inside its stratum.
        """
        strata = uniform.shape[-1]
        places = self.quantile((np.arange(strata) + uniform) / strata)
        return places, 1 / (strata * self.density(places))
