"""Windows of noise in which a model decides, what they are good for, and how two of them compare.

The window of share `mass` lies between equal tails of the information (see `EntropyCurve.window`).
Guidance outside of it pushes towards a class before, or after, the choice is open (Kynkaanniemi et al.
2024, arXiv 2404.07724, find such an interval by search), so a window is a first proposal for it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

import numpy as np
from jaxtyping import Float

from gmm_speciation import bootstrap
from gmm_speciation.checks import as_axis, as_values, expect
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate, in_digits


def sigma_of(log_snr: Estimate) -> Estimate:
    """A place on the log-SNR axis as a noise scale, its error carried over from log sigma."""
    sigma = np.exp(-np.asarray(log_snr.value) / 2)
    return Estimate(sigma, sigma * np.asarray(log_snr.stderr) / 2, log_snr.dof)


def place(curve: EntropyCurve, mark: Literal["half", "peak", "window"]) -> str:
    """The half-entropy point, peak or 80 % window as noise, or that it lies beyond the grid."""
    try:
        if mark == "peak":
            return f"{sigma_of(curve.peak().log_snr):.3f}"
        if mark == "half":
            return f"{sigma_of(curve.crossing(curve.prior_entropy / 2)):.3f}"
        low, high = curve.window(0.8).sigma
        return f"{low:.3g} – {high:.3g}"
    except ValueError:
        return "beyond the grid"


def guidance_interval(curve: EntropyCurve, mass: float = 0.8) -> "GuidanceInterval":
    """The noise levels `(sigma_low, sigma_high)` between which the share `mass` is decided.

    Raises:
        ValueError: If `mass` is not inside (0, 1), or the curve's grid ends inside the window.
        TypeError: If this is no curve.
    """
    expect(curve, EntropyCurve, "`mb.entropy_curve` gives one.")
    low, high = curve.window(mass).sigma
    if low == high:
        raise ValueError(
            "The curve is flat: on its levels nothing is decided, and there is no window."
        )
    return GuidanceInterval((low, high))


class GuidanceInterval(tuple[float, float]):
    """`(sigma_low, sigma_high)` in EDM coordinates; guide where `sigma_low < sigma <= sigma_high`.

    Raises:
        ValueError: If not `0 <= sigma_low < sigma_high`.
    """

    __slots__ = ()

    def __new__(cls, ends: Iterable[float]) -> "GuidanceInterval":
        given = as_values(ends, "ends", "be noise with 0 <= low < high", lambda x: x >= 0)
        if given.shape != (2,) or not given[0] < given[1]:
            raise ValueError(f"An interval of noise needs 0 <= low < high; got {ends}.")
        return super().__new__(cls, map(float, given))

    def __repr__(self) -> str:
        return f"GuidanceInterval({in_digits(self[0])} < σ ≤ {in_digits(self[1])})"

    def contains(self, sigma: float) -> bool:
        """Whether to guide at this noise level."""
        return bool(self[0] < sigma <= self[1])

    def as_callback(self, pipe: Any) -> Any:
        """A `callback_on_step_end` that limits the guidance of a diffusers pipeline to this interval.

        See `model_bridges.guidance.interval_callback`.

        Raises:
            ValueError: If the pipeline or its scheduler is unknown, or no noise level of the schedule lies
                inside.
        """
        from model_bridges.guidance import interval_callback

        callback = interval_callback(pipe, *self)
        self._check_schedule(pipe.scheduler)
        return callback

    def as_guider(self, pipe: Any, scale: float = 7.5) -> Any:
        """A guider for a modular pipeline of diffusers: classifier-free at `scale` inside this interval.

        See `model_bridges.guidance.as_guider`, which takes any kind.

        Raises:
            ValueError: If the pipeline has no guider, its scheduler is unknown, or no noise level of the
                schedule lies inside.
        """
        from model_bridges.guidance import PROMPT, ClassifierFree, Interval, as_guider

        guider = as_guider(Interval(ClassifierFree(PROMPT, scale), *self), pipe)
        self._check_schedule(pipe.scheduler)
        return guider

    def _check_schedule(self, scheduler: Any) -> None:
        from model_bridges.pipelines.schedulers import noise_range

        low, high = noise_range(scheduler)
        if not (self[0] < high and low <= self[1]):
            self._refuse(high, low)

    def steps(self, sigmas: Any) -> dict[str, Any]:
        """First and last guided step of a sampler's decreasing levels, and the shares of all steps.

        A step has the level that it leaves from; a 0 behind the last, where it ends, is none.

        `start` and `stop` are those of a guider of diffusers, such as `ClassifierFreeGuidance`, which
        guides the steps from `int(start * num_steps)` to before `int(stop * num_steps)`. They lie half a
        step further, so that no rounding moves them.

        Raises:
            ValueError: If no level lies inside, or they are not a vector from noise to signal.
        """
        levels = as_axis(
            sigmas,
            "sigmas",
            "hold levels that do not rise and are not negative",
            lambda sigma: np.all(np.diff(sigma) <= 0) and sigma[-1] >= 0,
        )
        levels = levels[:-1] if len(levels) > 1 and levels[-1] == 0 else levels
        inside = np.flatnonzero([self.contains(level) for level in levels])
        if len(inside) == 0:
            self._refuse(levels.max(), levels.min())
        first, last = int(inside[0]), int(inside[-1])
        return {
            "first_step": first,
            "last_step": last,
            "num_steps": len(levels),
            "start": (first + 0.5) / len(levels),
            "stop": min((last + 1.5) / len(levels), 1.0),
        }

    def timesteps(
        self, pipe: Any, num_steps: int = 50, *, size: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """What `steps` says of a pipeline of diffusers, and its guided `timesteps`, the noisiest first.

        A step has one timestep; what schedulers of second order evaluate besides, in the middle of a step
        or at its end, is not among them.

        Args:
            pipe: One of `FAMILIES`, or a scheduler: its own spacing, which is not that of FLUX.
            num_steps: Steps that it takes.
            size: Height and width of its pictures in pixels, which matter where they shift the levels; as of
                `from_pipeline` by default.

        Raises:
            ValueError: If the pipeline or the scheduler is unknown or cannot take this number of steps, or
                none of them lies inside.

        Warns:
            UserWarning: If the levels of a scheduler depend on its pipeline and it is given alone.
        """
        from model_bridges.pipelines.steps import stepped

        levels = stepped(pipe, size).levels(num_steps)
        found = self.steps([sigma for _, sigma in levels])
        return found | {"timesteps": [time for time, sigma in levels if self.contains(sigma)]}

    def _refuse(self, high: float, low: float) -> NoReturn:
        raise ValueError(
            f"No level of the sampler lies in ({self[0]:.3g}, {self[1]:.3g}]; it has {high:.3g} to "
            f"{low:.3g}."
        )


@dataclass(frozen=True, eq=False)
class WindowDifference:
    """How much noisier one variable is decided than another, in log sigma; paired by batches.

    Positive: `coarse` is decided at higher noise than `fine`. Each entry is an estimate of
    `log sigma(coarse) - log sigma(fine)` of one mark of the curves.
    """

    coarse: str
    fine: str
    half_entropy: Estimate | None
    low: Estimate | None
    high: Estimate | None
    peak: Estimate

    def verdict(self) -> str:
        """What the half-entropy points, or else the peaks, say at 95 %."""
        mark = self.peak if self.half_entropy is None else self.half_entropy
        low, high = mark.interval()
        if low > 0:
            return f"{self.coarse} is decided at higher noise than {self.fine}"
        if high < 0:
            return f"{self.coarse} is decided at lower noise than {self.fine}"
        return f"no difference between {self.coarse} and {self.fine} is resolved"


def compare_windows(
    coarse: EntropyCurve,
    fine: EntropyCurve,
    names: tuple[str, str] = ("coarse", "fine"),
    mass: float = 0.8,
) -> WindowDifference:
    """The paired difference of two variables' windows on the same images and noise.

    Both curves are resampled by the same weights of their batches, so what they share cancels.

    Raises:
        ValueError: If a curve has no batches, the two have not the same number of them, or `mass` is not
            inside (0, 1).
        TypeError: If one is no curve.
    """
    for curve in (coarse, fine):
        expect(curve, EntropyCurve, "`mb.entropy_curve` gives one.")
    as_values(mass, "mass", "lie inside (0, 1)", lambda m: m.ndim == 0 and 0 < m < 1)
    if len(names) != 2:
        raise ValueError(
            f"`names` must be two, of the coarse and the fine variable; got {names!r}."
        )
    if coarse.batches is None or fine.batches is None:
        raise ValueError("A paired difference needs curves with batches, as sampled curves have.")
    pairs = len(coarse.batches.entropy), len(fine.batches.entropy)
    if pairs[0] != pairs[1]:
        raise ValueError(
            f"The curves must come from the same batches; got {pairs[0]} and {pairs[1]}."
        )

    def difference(mark: Callable[[EntropyCurve, bool], Estimate]) -> Estimate | None:
        try:
            value = mark(coarse, False).value - mark(fine, False).value
        except ValueError:  # a curve that never crosses the level has no such mark
            return None
        again = [
            float(mark(one, True).value - mark(other, True).value)
            for one, other in zip(_replicates(coarse), _replicates(fine), strict=True)
        ]
        noise = bootstrap.error(value, np.array(again), pairs[0])
        beside = mark(_read(coarse, coarse.displaced), True) - mark(
            _read(fine, fine.displaced), True
        )
        stderr = np.hypot(noise.stderr, np.asarray(beside.value) - value)
        return replace(noise, stderr=stderr).map(lambda log_snr: -log_snr / 2)  # log sigma

    # One at an end of the levels is said by the checks.
    peak = difference(lambda curve, _: curve.peak(at_end=True).log_snr)
    assert peak is not None  # every curve has a largest rate
    return WindowDifference(
        *names,
        difference(lambda curve, free: curve.crossing(curve.prior_entropy / 2, at_end=free)),
        difference(lambda curve, free: curve.window(mass, at_end=free).high),
        difference(lambda curve, free: curve.window(mass, at_end=free).low),
        peak,
    )


def _replicates(curve: EntropyCurve) -> Iterator[EntropyCurve]:
    """The curve as other batches might have shown it, read as the whole is."""
    assert curve.batches is not None
    for one in curve.batches.replicates(np.stack([curve.entropy.value, curve.rate.value])):
        yield _read(curve, one)


def _read(curve: EntropyCurve, values: Float[np.ndarray, "2 T"]) -> EntropyCurve:
    entropy, rate = values
    return replace(
        curve,
        entropy=replace(curve.entropy, value=entropy),
        rate=replace(curve.rate, value=rate),
        batches=None,
    )
