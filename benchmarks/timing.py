"""Times that survive a noisy machine: pairs in alternating order.

A ratio of two times is taken inside a pair, subject and reference run one right after the other, so
that slow drifts of the machine cancel; the order alternates, so that what the first run leaves in the
caches helps each side as often. A run repeats its call until it lasts `min_seconds`, and waits for
every result. The first call, which compiles, is timed apart. Results are medians with quartiles.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

Work = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    min_seconds: float = 0.02  # one run
    num_pairs: int = 15  # at most
    row_seconds: float = 3.0  # after which a row makes do with `MIN_PAIRS`


MIN_PAIRS = 3


@dataclass(frozen=True)
class Measured:
    """One number with its quartiles, and the times (seconds, one call) that it came from."""

    value: float
    quartiles: tuple[float, float]
    seconds: float | None = None
    reference_seconds: float | None = None
    first_call_seconds: float | None = None
    num_pairs: int | None = None
    detail: str = ""

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray, **more: Any) -> "Measured":
        """Median and quartiles of the values.

        Raises:
            ValueError: If there are no values, or one is not finite.
        """
        values = np.asarray(values, float)
        if not values.size or not np.isfinite(values).all():
            raise ValueError(f"A measurement needs finite values; got {values}.")
        low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
        return cls(median, (low, high), **more)


def in_turn(*works: Work) -> Work:
    """The works one after the other, each waited for."""

    def run() -> None:
        for work in works:
            jax.block_until_ready(work())

    return run


def first_call(work: Work) -> float:
    """Seconds of the first call, compilation included."""
    return _run(work, 1)


def num_calls(work: Work, min_seconds: float) -> int:
    """Calls in a row that take at least `min_seconds`; the work is warm afterwards."""
    calls = 1
    while (seconds := _run(work, calls)) < min_seconds:
        calls = math.ceil(calls * min(1.2 * min_seconds / max(seconds, 1e-9), 100.0))
    return calls


def paired(subject: Work, reference: Work, effort: Effort) -> Measured:
    """`subject` time over `reference` time, both measured side by side."""
    compiled = first_call(subject)
    first_call(reference)
    works = (subject, reference)
    calls = [num_calls(work, effort.min_seconds) for work in works]
    times: list[list[float]] = [[], []]
    start = time.perf_counter()
    for pair in range(effort.num_pairs):
        if pair >= MIN_PAIRS and time.perf_counter() - start > effort.row_seconds:
            break
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            times[side].append(_run(works[side], calls[side]) / calls[side])
    ours, theirs = np.array(times)
    return Measured.of(
        ours / theirs,
        seconds=float(np.median(ours)),
        reference_seconds=float(np.median(theirs)),
        first_call_seconds=compiled,
        num_pairs=len(ours),
    )


def alone(subject: Work, effort: Effort) -> Measured:
    """Seconds of one call, where the target is a time and not a ratio."""
    compiled = first_call(subject)
    calls = num_calls(subject, effort.min_seconds)
    times: list[float] = []
    while len(times) < effort.num_pairs:
        if len(times) >= MIN_PAIRS and sum(times) > effort.row_seconds:
            break
        times.append(_run(subject, calls))
    seconds = np.array(times) / calls
    return Measured.of(
        seconds,
        seconds=float(np.median(seconds)),
        first_call_seconds=compiled,
        num_pairs=len(times),
    )


def _run(work: Work, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(work())
    return time.perf_counter() - start
