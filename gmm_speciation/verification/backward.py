"""The backward Kolmogorov equation on a line: means of a diffusion from every starting point at once.

For `dy = b(y) dt + sqrt(2 D) dW` the mean `u(y, T) = E[f(y_T) | y_0 = y]` obeys

    du/dt = b(y) u' + D u'',    u(y, 0) = f(y).

Central differences, Crank-Nicolson after a few implicit steps that smooth a jump (Rannacher 1984). The ends
keep their slope.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_banded

_IMPLICIT = 8  # first steps

Line = Float[np.ndarray, " G"]


def means_backward(
    terminal: Line, y: Line, drift: Callable[[float], Line], diffusion: float, step: float
) -> Iterator[Line]:
    """`u` after 1, 2, 3, ... steps; the drift is `drift(t)`, at time t before the end."""
    spacing = y[1] - y[0]
    u, number = terminal, 0
    while True:
        number += 1
        share, at = (1.0, number) if number <= _IMPLICIT else (0.5, number - 0.5)
        b = drift(at * step)
        lower = diffusion / spacing**2 - b / (2 * spacing)
        upper = diffusion / spacing**2 + b / (2 * spacing)
        middle = np.full_like(y, -2 * diffusion / spacing**2)
        # One-sided at the ends, where the solution is straight.
        lower[0], middle[0], upper[0] = 0.0, -b[0] / spacing, b[0] / spacing
        lower[-1], middle[-1], upper[-1] = -b[-1] / spacing, b[-1] / spacing, 0.0
        below, above = np.r_[0.0, lower[1:]], np.r_[upper[:-1], 0.0]
        applied = middle * u + below * np.roll(u, 1) + above * np.roll(u, -1)
        bands = -share * step * np.stack([np.roll(above, 1), middle, np.roll(below, -1)])
        bands[1] += 1
        u = solve_banded((1, 1), bands, u + (1 - share) * step * applied)
        yield u
