"""How constant guidance moves information between two classes, in closed form.

Let L be the log-odds of the guided class under the true law. Along the reverse process guided with scale w
they obey one autonomous equation in the clock kappa of `exact.binary`, whatever the dimension, the
variance or the process:

    dL = 2 [1 + 2 (w - 1) sigmoid(-L)] dkappa + 2 dB_kappa,    L(0) = logit pi,

with pi the prior of the guided class, one half for symmetric classes.

With p = sigmoid(L) the posterior of the guided class, by Ito's formula

    dCE/dkappa = -2 (2w - 1) E_w (1 - p)^2,    CE = E_w[-log p],
    E_w[p^{1 - 2w}] = pi^{1 - 2w}  for all kappa (nothing moves at w = 1/2),

the two-class case of `dCE/dtau = -(2w - 1) (g^2 / 2) E_w |s_c - s|^2`, which holds for any law. At w = 1 this
is the part of that class in the entropy of the binary channel: `pi CE(pi) + (1 - pi) CE(1 - pi) = H(C|X)`.
For large w and equal priors the noise drops out,

    L + e^L = 1 + 4 w kappa,    CE = log(2) / 2  at  kappa = 0.5739 / w,

so guidance moves the commitment to higher noise, by `(1/2) log w + 0.299` on the Ornstein-Uhlenbeck clock.

**To first order in w - 1 and at equal priors an interval pays the same wherever it lies.** Guiding on
`[a, b]` lowers the cross-entropy at any later kappa by `(w - 1) (b - a) mmse(kappa)`: the response is
`4 E_+[(1 - p_a) (1 - p)]`, which by exchange of the classes is `4 E[p (1 - p) (1 - p_a)] = 2 E[p (1 - p)]`,
and `2 E[p (1 - p)] = mmse(kappa)`. Per unit of log kappa, which far from the data is log-SNR, a window
therefore pays in proportion to the kappa it lies at.

The equation is solved for its density by finite volumes with exponentially fitted fluxes (Scharfetter &
Gummel 1969; exact in the stationary state, so the scheme keeps positivity at any cell size) and the
L-stable Pade(0,2) step `exp(z) ~ 1 / (1 - z + z^2 / 2)`, one complex tridiagonal solve. Means of
smooth functions converge as those of the adjoint equation do, which starts from the smooth function, so the
initial point mass costs no order. A class of small prior starts far below L = 0 and is carried up to it
as a narrow bell, which takes steps short against its width. Cells and steps are halved together and
extrapolated (Richardson).
Runs on the host, in nats.
"""

from collections.abc import Sequence
from itertools import pairwise

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator
from scipy.linalg import solve_banded

from gmm_speciation.checks import ArrayLike, as_rising, as_values
from gmm_speciation.estimate import Estimate, Readable
from gmm_speciation.guidance.curves import GuidedCurve

_CELL = 0.08  # of L, coarse; the finer solve has half of it
_STEP = 0.04  # of kappa, relative to the distance from the last change of scale
_CARRIED = 0.05  # of the width 2 sqrt(kappa): the drift of one step from below L = 0
_CERTAIN = 45.0  # log-odds of a reflecting wall: what is beyond misses the class by 3e-20
_DEVIATIONS = 7.5
_MOST_CELLS = 2**19  # of the coarse grid: minutes
Schedule = Sequence[tuple[float, float]]


def guided_curve(
    scale: float,
    kappa: ArrayLike,
    *,
    interval: tuple[float, float] | None = None,
    prior: float = 0.5,
) -> GuidedCurve:
    """Cross-entropy, rate and mean probability of the guided one of two classes, to 1e-5.

    Args:
        scale: w; 1 is unguided, 0 draws the whole law.
        kappa: Where to read, `(T,)`, positive and strictly increasing.
        interval: `(low, high)` of kappa inside which the scale applies, 1 outside; everywhere by
            default. An interval in noise `(sigma_low, sigma_high]` is turned round: much noise is
            little kappa.
        prior: Probability of the guided class, inside (0, 1).

    Raises:
        ValueError: If kappa or the interval is not positive and increasing, the scale not finite or too
            large to be solved for, or the prior not inside (0, 1).
    """
    scale = float(as_values(scale, "scale", "be one number", lambda x: x.ndim == 0))
    if interval is None:
        return scheduled_curve([(np.inf, scale)], kappa, prior=prior)
    low, high = interval
    if not 0 <= low < high:
        raise ValueError(
            f"`interval` must be (low, high) of kappa, 0 <= low < high; got {interval}."
        )
    before, after = [(low, 1.0)] if low > 0 else [], [(np.inf, 1.0)] if high < np.inf else []
    return scheduled_curve([*before, (high, scale), *after], kappa, prior=prior)


def scheduled_curve(schedule: Schedule, kappa: ArrayLike, *, prior: float = 0.5) -> GuidedCurve:
    """As `guided_curve`, for a scale that is constant on pieces of kappa.

    Args:
        schedule: `(end, scale)` of every piece in increasing order; the last end may be infinite.
        kappa, prior: As there.

    Raises:
        ValueError: If kappa or the ends do not increase, a scale is not finite or too large to be solved
            for, the schedule stops before the last kappa, or the prior is not inside (0, 1).
    """
    as_values(prior, "prior", "lie inside (0, 1)", lambda p: p.ndim == 0 and 0 < p < 1)
    grid = as_rising(kappa, "kappa")
    if not all(np.shape(piece) == (2,) for piece in schedule):
        raise ValueError(f"A schedule is pairs (end, scale), one a piece; got {schedule}.")
    ends, scales = as_values(schedule, "schedule", "not be NaN", lambda x: x == x).reshape(-1, 2).T
    if not (len(ends) and np.all(np.diff(ends, prepend=0.0) > 0) and np.all(np.isfinite(scales))):
        raise ValueError(f"A schedule needs increasing ends and finite scales; got {schedule}.")
    if ends[-1] < grid[-1]:
        raise ValueError(f"The schedule ends at {ends[-1]:.4g}, before kappa = {grid[-1]:.4g}.")
    pieces = _pieces(ends, scales, grid[-1])
    start = float(special.logit(prior))
    cell = _cell(pieces, start)
    count = sum(_reach(pieces, start, cell))
    if count > _MOST_CELLS:
        fastest = largest = max(abs(w) for _, w in pieces)
        while largest > 1 and count > _MOST_CELLS:
            pieces, largest = [(end, 0.9 * w) for end, w in pieces], 0.9 * largest
            count = sum(_reach(pieces, start, _cell(pieces, start)))
        raise ValueError(
            f"A scale of {fastest:.4g} to kappa = {grid[-1]:.4g} takes more than {_MOST_CELLS:.1e} "
            f"cells of log-odds. The largest scale is about {largest:.2g} there; "
            "`strong_guidance_half` has the limit of large ones."
        )
    coarse_at, coarse = _solve(pieces, start, cell, 1)
    _, fine = _solve(pieces, start, cell / 2, 2)
    means = (4 * fine[::2] - coarse) / 3
    return _curve(coarse_at, means, ends, scales, grid, -np.log(prior))


def _pieces(ends, scales, last: float) -> list[tuple[float, float]]:
    reached = int(np.searchsorted(ends, last))  # the piece that holds the last kappa
    kept = [(float(end), float(w)) for end, w in zip(ends[:reached], scales, strict=False)]
    return [*kept, (float(last), float(scales[reached]))]


def _curve(at, means, ends, scales, grid, prior: float) -> GuidedCurve:
    """Read the moments off the solver's own grid, whose slopes are known."""
    entropy, doubt, square, cube = means.T  # E of -log p, 1 - p, (1 - p)^2, p (1 - p)^2
    read_entropy, read_doubt = np.empty_like(grid), np.empty_like(grid)
    # At an end the scale of the piece before it: the curve is read from the left.
    piece = np.searchsorted(ends, grid)
    own = np.searchsorted(ends, at, side="left")
    for index in np.unique(piece):
        w = scales[index]
        inside = np.flatnonzero(own == index)
        part = np.r_[max(inside[0] - 1, 0), inside] if inside[0] else inside
        chosen = piece == index
        slopes = -2 * (2 * w - 1) * square[part], -4 * w * cube[part]
        read_entropy[chosen] = CubicHermiteSpline(at[part], entropy[part], slopes[0])(grid[chosen])
        read_doubt[chosen] = CubicHermiteSpline(at[part], doubt[part], slopes[1])(grid[chosen])
    rate = 2 * (2 * scales[piece] - 1) * PchipInterpolator(at, square)(grid)
    exactly = Estimate.exact
    return GuidedCurve(
        grid,
        exactly(read_entropy),
        exactly(rate),
        exactly(1 - read_doubt),
        prior,
        "kappa",
        "fokker-planck",
    )


def _cell(pieces, start: float) -> float:
    """Size of the coarse cells."""
    fastest = max(1.0, *(abs(w) for _, w in pieces))
    return min(_CELL, (1.2 if start >= 0 else 0.25) / fastest)


def _reach(pieces, start: float, cell: float) -> tuple[int, int]:
    """Cells below and above the start."""
    # The drift is 2 far above L = 0 and 2 (2w - 1) far below.
    last, least = pieces[-1][0], min(1.0, *(w for _, w in pieces))
    root = np.linspace(0, np.sqrt(last), 200)
    reach = np.max(2 * _DEVIATIONS * root - 2 * (2 * least - 1) * root**2) + 3.0
    return int(np.ceil(reach / cell)), int(np.ceil(max(_CERTAIN - start, 3.0) / cell))


def _solve(pieces, start: float, cell: float, refinement: int) -> tuple[np.ndarray, np.ndarray]:
    """Kappas and the means of four functions of L at them, each step cut into `refinement` parts."""
    left, right = _reach(pieces, start, cell)
    # Cell centres at multiples of the cell from the start, which is one of them on either grid.
    odds = start + cell * np.arange(-left, right + 1)
    doubt = special.expit(-odds)
    functions = np.stack([np.logaddexp(0, -odds), doubt, doubt**2, (1 - doubt) * doubt**2])
    density = np.zeros(len(odds))
    density[left] = 1.0
    at, means, begin = [0.0], [functions @ density], 0.0
    for end, w in pieces:
        generator = _generator(odds, w)
        for step in _steps(begin, end, w, start, refinement):
            density = _advance(generator, density, step)
            at.append(at[-1] + step)
            means.append(functions @ density)
        at[-1] = begin = end
    return np.array(at), np.array(means)


def _steps(begin: float, end: float, scale: float, start: float, refinement: int) -> np.ndarray:
    """Steps that grow in proportion to the distance from the piece's start, `_CARRIED` allowing."""
    first, speed = 0.02 / (1 + abs(scale)), 2 * abs(2 * scale - 1)
    kappa = begin + np.r_[0.0, np.geomspace(1e-6 * first, end - begin, 2000)]
    count = np.log1p((kappa - begin) / first) / _STEP
    if start < 0 < speed:
        # The bell from L(0) = start has passed L = 0 by `_DEVIATIONS` where sqrt(kappa) is this.
        passed = (_DEVIATIONS + np.sqrt(_DEVIATIONS**2 - start * speed)) / speed
        carried = np.sqrt(kappa) if scale <= 0.5 else np.minimum(np.sqrt(kappa), passed)
        count += speed / _CARRIED * (carried - np.sqrt(begin))
    whole = refinement * (int(np.ceil(count[-1])) + 1)
    return np.diff(np.interp(np.linspace(0, count[-1], whole + 1), count, kappa))


def _generator(odds: np.ndarray, scale: float) -> np.ndarray:
    """The conservative operator in `solve_banded` form; columns sum to 0, walls reflect."""
    cell = odds[1] - odds[0]
    # The flux b q - 2 q' vanishes for q = e^Psi, Psi' = b / 2.
    potential = odds - 2 * (scale - 1) * np.logaddexp(0, -odds)
    z = np.diff(potential)
    right, left = 2 / cell**2 * _bernoulli(-z), 2 / cell**2 * _bernoulli(z)  # of each face
    bands = np.zeros((3, len(odds)))
    bands[0, 1:], bands[2, :-1] = left, right
    bands[1, :-1] -= right
    bands[1, 1:] -= left
    return bands


def _bernoulli(x: np.ndarray) -> np.ndarray:
    """`x / (e^x - 1)`."""
    return 1 / special.exprel(x)


def _advance(generator: np.ndarray, density: np.ndarray, step: float) -> np.ndarray:
    """`1 / (1 - z + z^2 / 2) = 2 Im[1 / (z - 1 - i)]` with z = step times the generator."""
    bands = step * generator.astype(complex)
    bands[1] -= 1 + 1j
    return 2 * solve_banded((1, 1), bands, density, overwrite_ab=True, check_finite=False).imag


def strong_guidance_half() -> float:
    """`w kappa` at which the noiseless limit of large w has CE = log(2) / 2: 0.5739."""
    odds = -np.log(np.expm1(np.log(2) / 2))  # log(1 + e^{-L}) = log(2) / 2
    return float((odds + np.exp(odds) - 1) / 4)


def commitment_shift(scale: float, *, prior: float = 0.5) -> float:
    """Time on the Ornstein-Uhlenbeck clock by which guidance moves the half-way point to more noise.

    `-(1/2) log(kappa_w / kappa_1)` with CE(kappa_w) = CE(0) / 2 and CE(0) = -log(prior); far from the
    data, where kappa is proportional to e^{-2t}. The shift in log-SNR is twice this.

    Raises:
        ValueError: If `scale <= 1/2`, where the cross-entropy does not fall, or the prior is not inside
            (0, 1).
    """
    if not scale > 0.5:
        raise ValueError(f"The cross-entropy falls for scales above 1/2 only; got {scale}.")

    def half(w: float) -> float:
        entropy = -float(np.log(prior))
        # Near w = 1/2 the cross-entropy falls like (2w - 1) sqrt(kappa).
        last = max(6.0, 3.0 / (w - 0.5), 0.2 / (2 * w - 1) ** 2) * max(1.0, entropy)
        while guided_curve(w, [last], prior=prior).cross_entropy.value[0] > entropy / 2:
            last *= 4
        grid = np.geomspace(1e-3 / max(w, 1.0), last, 400)
        return float(guided_curve(w, grid, prior=prior).crossing(entropy / 2).value)

    return float(-np.log(half(scale) / half(1.0)) / 2)


class IntervalGain(Readable):
    """What guidance in one window after another is worth, a value a window of kappa."""

    low: Float[np.ndarray, " N"]
    high: Float[np.ndarray, " N"]
    scale: float = eqx.field(static=True)
    read_out: float = eqx.field(static=True)  # kappa at which the cross-entropy is read
    gain: Float[np.ndarray, " N"]  # nats by which the window lowers the cross-entropy there
    shift: Float[np.ndarray, " N"]  # mean shift of the commitment in log kappa

    @property
    def place(self) -> Float[np.ndarray, " N"]:
        """Geometric middle of each window."""
        return np.sqrt(self.low * self.high)

    @property
    def gain_per_kappa(self) -> Float[np.ndarray, " N"]:
        """Nats per unit of guided kappa; `(w - 1) mmse(read_out)` for weak guidance, everywhere."""
        return self.gain / (self.high - self.low)

    @property
    def shift_per_log_kappa(self) -> Float[np.ndarray, " N"]:
        """Shift of the commitment per unit of guided log kappa, that is of log-SNR."""
        return self.shift / np.log(self.high / self.low)


def commitment(curve: GuidedCurve) -> float:
    """`integral of CE / CE(0) over log clock`: the mean place of the commitment on a logarithmic axis.

    Only differences between curves on one clock mean something.
    """
    values = np.asarray(curve.cross_entropy.value) / curve.prior
    return float(np.trapezoid(values, np.log(curve.clock)))


def interval_gain(scale: float, edges: ArrayLike, *, read_out: float = 4.0) -> IntervalGain:
    """Guide in each window `[edges[i], edges[i + 1]]` of kappa alone, and see what it is worth.

    Args:
        scale: w inside the window.
        edges: `(N + 1,)`, positive and increasing.
        read_out: Kappa at which the gain in cross-entropy is read; not before the last edge.

    Raises:
        ValueError: If the edges do not increase or go beyond the read-out.
    """
    ends = as_rising(edges, "edges", 2)
    read_out = float(as_values(read_out, "read_out", "be one number", lambda x: x.ndim == 0))
    if not ends[-1] <= read_out < np.inf:
        raise ValueError(
            f"The read-out, {read_out}, must not lie before the last edge, {ends[-1]}."
        )
    grid = np.unique(np.r_[np.geomspace(ends[0] / 10, max(40.0, 2 * read_out), 400), read_out])
    at = int(np.searchsorted(grid, read_out))
    plain = guided_curve(1.0, grid)
    gain, shift = [], []
    for low, high in pairwise(ends):
        curve = guided_curve(scale, grid, interval=(low, high))
        gain.append(float((plain.cross_entropy - curve.cross_entropy).value[at]))
        shift.append(commitment(plain) - commitment(curve))
    return IntervalGain(
        ends[:-1], ends[1:], float(scale), float(read_out), np.array(gain), np.array(shift)
    )
