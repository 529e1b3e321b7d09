"""Do 95 % intervals hold the truth 95 times in 100?

The levels of one run share their samples, so a run counts once, at the level where the truth is nearest
half of H(C). Over four tasks and 100 seeds each the hits of an honest interval are binomial with
probability 0.95; the two-sided test on all of them together rejects at one percent.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from gmm_speciation.benchmark.scores import intervals
from gmm_speciation.curves import EntropyCurve

TASKS = ("pair-d16", "pair-w0.9", "equidistant-k4", "toy-first")
LEVEL = 0.95
SIGNIFICANCE = 0.01


class Coverage(NamedTuple):
    """Hits of one estimator that claims an interval."""

    estimator: str
    hits: dict[str, int]  # by task
    runs: dict[str, int]
    share: float
    p_value: float  # of the share being 0.95
    verdict: str


def coverage(
    rows: Sequence[Mapping[str, Any]], truths: Mapping[str, EntropyCurve]
) -> list[Coverage]:
    """One line an estimator that claims an interval, in the order of the rows."""
    hits: dict[str, dict[str, list[bool]]] = {}
    for row in rows:
        claimed = intervals(row) if row["status"] == "ok" else None
        if claimed is None:
            continue
        exact = truths[row["task"]]
        entropy = np.asarray(exact.entropy.value)
        level = int(np.argmin(np.abs(entropy - exact.prior_entropy / 2)))
        low, high = (np.asarray(end)[level] for end in exact.entropy.interval())
        inside = bool(claimed[0][level] <= high and claimed[1][level] >= low)
        hits.setdefault(row["estimator"], {}).setdefault(row["task"], []).append(inside)
    found = []
    for name, of in hits.items():
        every = [one for task in of.values() for one in task]
        p_value = float(binomtest(sum(every), len(every), LEVEL).pvalue)
        share = float(np.mean(every))
        verdict = "holds"
        if p_value < SIGNIFICANCE:
            verdict = "too narrow, or biased" if share < LEVEL else "too wide"
        counts = {task: sum(inside) for task, inside in of.items()}
        runs = {task: len(inside) for task, inside in of.items()}
        found.append(Coverage(name, counts, runs, share, p_value, verdict))
    return found


def table(found: Sequence[Coverage]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of text."""
    tasks = list(dict.fromkeys(task for one in found for task in one.runs))
    rows = [
        [
            one.estimator,
            *(f"{one.hits[t]}/{one.runs[t]}" if t in one.runs else "—" for t in tasks),
            f"{100 * one.share:.1f} %", f"{one.p_value:.2g}", one.verdict,
        ]
        for one in found
    ]  # fmt: skip
    return ["estimator", *tasks, "all", "p", "95 %"], rows
