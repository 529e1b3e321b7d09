"""Do 95 % intervals hold the truth 95 times in 100?

The levels of one run share their samples, so a run counts once, at the level where the truth is nearest
half of H(C). Over four tasks and 100 seeds each the hits of an honest interval are binomial with
probability 0.95; the two-sided test on all of them together rejects at one percent. A rejected interval
is called biased where the mean error of a task is more than four of its standard errors from zero:
an interval says how far chance goes, not how far the method is off.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from gmm_speciation.benchmark.scores import intervals
from gmm_speciation.benchmark.summary import signed
from gmm_speciation.curves import EntropyCurve

TASKS = ("pair-d16", "pair-w0.9", "equidistant-k4", "toy-first")
LEVEL = 0.95
SIGNIFICANCE = 0.01
_BIASED = 4.0  # standard errors


class Coverage(NamedTuple):
    """Hits of one estimator that claims an interval."""

    estimator: str
    hits: dict[str, int]  # by task
    runs: dict[str, int]
    bias: dict[str, float]  # mean error at the level, nats
    bias_stderr: dict[str, float]
    share: float
    p_value: float  # of the share being 0.95
    verdict: str


def coverage(
    rows: Sequence[Mapping[str, Any]], truths: Mapping[str, EntropyCurve]
) -> list[Coverage]:
    """One line an estimator that claims an interval, in the order of the rows."""
    hits: dict[str, dict[str, list[bool]]] = {}
    errors: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        claimed = intervals(row) if row["status"] == "ok" else None
        if claimed is None:
            continue
        name, task = row["estimator"], row["task"]
        exact = truths[task]
        entropy = np.asarray(exact.entropy.value)
        level = int(np.argmin(np.abs(entropy - exact.prior_entropy / 2)))
        low, high = (np.asarray(end)[level] for end in exact.entropy.interval())
        inside = bool(claimed[0][level] <= high and claimed[1][level] >= low)
        hits.setdefault(name, {}).setdefault(task, []).append(inside)
        error = float(row["entropy"][level] - entropy[level])
        errors.setdefault(name, {}).setdefault(task, []).append(error)
    return [_line(name, hits[name], errors[name]) for name in hits]


def _line(name: str, of: dict[str, list[bool]], errors: dict[str, list[float]]) -> Coverage:
    every = [one for task in of.values() for one in task]
    p_value = float(binomtest(sum(every), len(every), LEVEL).pvalue)
    share = float(np.mean(every))
    bias = {task: float(np.mean(values)) for task, values in errors.items()}
    stderr = {
        task: float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf
        for task, values in errors.items()
    }
    verdict = "holds"
    if p_value < SIGNIFICANCE:
        verdict = "no: narrow" if share < LEVEL else "no: wide"
        if any(abs(bias[task]) > _BIASED * stderr[task] for task in bias):
            verdict = "no: biased"
    counts = {task: sum(inside) for task, inside in of.items()}
    runs = {task: len(inside) for task, inside in of.items()}
    return Coverage(name, counts, runs, bias, stderr, share, p_value, verdict)


HEADERS = ["estimator", "hits", "all", "p", "largest bias", "verdict"]


def table(found: Sequence[Coverage]) -> list[list[str]]:
    """Rows of text under `HEADERS`; hits in the order of the tasks."""
    return [
        [
            one.estimator,
            " ".join(str(one.hits[task]) if task in one.hits else "—" for task in TASKS),
            f"{100 * one.share:.1f} %",
            _p(one),
            signed(max(one.bias.values(), key=abs), 4),
            one.verdict.removeprefix("no: "),
        ]
        for one in found
    ]


def long_table(found: Sequence[Coverage]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of text, a column a task with hits and bias."""
    rows = [
        [
            one.estimator,
            *(
                f"{one.hits[t]}/{one.runs[t]}, {signed(one.bias[t], 4)} ± {1.96 * one.bias_stderr[t]:.4f}"
                if t in one.runs
                else "—"
                for t in TASKS
            ),
            f"{100 * one.share:.1f} %",
            _p(one),
            one.verdict,
        ]
        for one in found
    ]
    return ["estimator", *TASKS, "all", "p", "95 %"], rows


def _p(one: Coverage) -> str:
    return f"{one.p_value:.1g}" if one.p_value > 1e-99 else "< 1e-99"
