"""The leaderboard and the other tables of a sweep, from its rows.

Estimators are compared at the largest number of samples of each task; other sizes show how errors fall.
RMSE is over tasks, seeds and levels; spread the standard deviation over seeds at one task and level; both
in nats. The relative error is the median over tasks of RMSE over H(C), so that neither a task of a
thousand classes nor one that an estimator cannot do at all outweighs the others. Seconds are those of the
quickest seed, since the first run of a shape compiles.

An estimator that did not run on every task is compared on fewer: the table counts them, and ranks by
`place`, the mean over all tasks of its rank there, where not to finish is to be last.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gmm_speciation.benchmark.scores import score
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimators.base import Estimator, Kind

Rows = Sequence[Mapping[str, Any]]


class Scored(NamedTuple):
    """A row, its scores, and the entropy H(C) of its task."""

    row: Mapping[str, Any]
    scores: dict[str, float | None]
    prior_entropy: float


class Standing(NamedTuple):
    """One line of the leaderboard."""

    estimator: str
    title: str
    kind: Kind
    access: str
    family: str
    place: float  # mean rank over tasks
    rmse: float  # nats
    relative: float  # RMSE over H(C), median over tasks
    bias: float  # nats
    spread: float | None  # nats, over seeds
    rate: float  # nats per unit log-SNR
    peak: float  # log-SNR, median
    window: float | None  # log-SNR, median
    inside: float | None  # share of levels covered
    violation: float | None  # nats, largest
    seconds: float  # of the quickest seed, median over tasks
    mib: float | None
    evaluations: float
    tasks: int  # tasks with a result
    failed: int  # runs without one


def scored(
    rows: Rows, truths: Mapping[str, EntropyCurve], estimators: Mapping[str, type[Estimator]]
) -> list[Scored]:
    """The rows that are ok, with their scores."""
    return [
        Scored(
            row,
            score(row, truths[row["task"]], estimators[row["estimator"]].kind),
            truths[row["task"]].prior_entropy,
        )
        for row in rows
        if row["status"] == "ok"
    ]


def leaderboard(
    rows: Rows, found: Sequence[Scored], estimators: Mapping[str, type[Estimator]]
) -> list[Standing]:
    """One line an estimator, best place first; those without any result are left out."""
    rows, found = at_largest(rows), _at_largest(rows, found)
    tasks = sorted({row["task"] for row in rows})
    places = _places(found, tasks, list(estimators))
    errors = _by_task(found)
    lines = []
    for name, estimator in estimators.items():
        own = [one for one in found if one.row["estimator"] == name]
        if not own:
            continue
        every = [r for r in rows if r["estimator"] == name and r["status"] != "not-applicable"]
        lines.append(
            Standing(
                estimator=name,
                title=estimator.title,
                kind=estimator.kind,
                access=str(estimator.access),
                family=estimator.family,
                place=places[name],
                rmse=_rms([_number(one, "error") for one in own]),
                relative=float(np.median([e for (who, _), e in errors.items() if who == name])),
                bias=float(np.mean([_number(one, "bias") for one in own])),
                spread=_spread(own),
                rate=_rms([_number(one, "rate") for one in own]),
                peak=float(np.median([_number(one, "peak") for one in own])),
                window=_middle([one.scores["window"] for one in own]),
                inside=_average([one.scores["inside"] for one in own]),
                violation=max(
                    (v for one in own if (v := one.scores["violation"]) is not None), default=None
                ),
                seconds=_seconds(own),
                mib=_middle([one.row.get("peak_mib") for one in own]),
                evaluations=float(np.median([one.row["evaluations"] for one in own])),
                tasks=len({one.row["task"] for one in own}),
                failed=len(every) - len(own),
            )
        )
    return sorted(lines, key=lambda line: line.place)


def at_largest(rows: Rows) -> Rows:
    """The rows with the most samples of their task."""
    most: dict[str, int] = {}
    for row in rows:
        most[row["task"]] = max(row["n"], most.get(row["task"], 0))
    return [row for row in rows if row["n"] == most[row["task"]]]


def _at_largest(rows: Rows, found: Sequence[Scored]) -> list[Scored]:
    kept = {id(row) for row in at_largest(rows)}
    return [one for one in found if id(one.row) in kept]


def by_task(rows: Rows, found: Sequence[Scored]) -> dict[tuple[str, str], float]:
    """RMSE over H(C), by estimator and task, at the most samples of the task."""
    return _by_task(_at_largest(rows, found))


def _by_task(found: Sequence[Scored]) -> dict[tuple[str, str], float]:
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in found:
        key = one.row["estimator"], one.row["task"]
        groups[key].append(_number(one, "error") / one.prior_entropy)
    return {key: _rms(values) for key, values in groups.items()}


def by_size(found: Sequence[Scored]) -> dict[str, dict[int, float]]:
    """RMSE over H(C) against n, on the tasks that the estimator ran at every size."""
    sizes: dict[tuple[str, str], set[int]] = defaultdict(set)
    for one in found:
        sizes[one.row["estimator"], one.row["task"]].add(one.row["n"])
    table: dict[str, dict[int, float]] = {}
    for name in {key[0] for key in sizes}:
        sets = [frozenset(s) for (other, _), s in sizes.items() if other == name]
        common = max(set(sets), key=lambda s: sets.count(s) * len(s))
        own = [
            one
            for one in found
            if one.row["estimator"] == name and sizes[name, one.row["task"]] == common
        ]
        table[name] = {
            n: _rms([_number(o, "error") / o.prior_entropy for o in own if o.row["n"] == n])
            for n in sorted(common)
        }
    return table


def by_dimension(found: Sequence[Scored], tasks: Mapping[str, int]) -> dict[str, dict[int, float]]:
    """RMSE in nats against d, on tasks given with their dimension, at the one number of samples that has the
    most results; the largest of several."""
    own = [one for one in found if one.row["task"] in tasks]
    ran: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for one in own:
        ran[one.row["n"]].add((one.row["estimator"], one.row["task"]))
    size = max(ran, key=lambda n: (len(ran[n]), n), default=0)
    groups: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in own:
        if one.row["n"] == size:
            groups[one.row["estimator"]][tasks[one.row["task"]]].append(_number(one, "error"))
    return {
        name: {d: _rms(values) for d, values in sorted(of.items())} for name, of in groups.items()
    }


def _places(
    found: Sequence[Scored], tasks: Sequence[str], names: Sequence[str]
) -> dict[str, float]:
    table = _by_task(found)
    ranks: dict[str, list[float]] = {name: [] for name in names}
    for task in tasks:
        errors = np.array([table.get((name, task), np.inf) for name in names])
        order = np.argsort(np.argsort(errors, kind="stable"))
        finished = int(np.isfinite(errors).sum())
        for name, place, error in zip(names, order, errors, strict=True):
            # All that did not finish share the places after the last that did.
            last = (finished + 1 + len(names)) / 2
            ranks[name].append(float(place) + 1 if np.isfinite(error) else last)
    return {name: float(np.mean(places)) for name, places in ranks.items()}


def _number(one: Scored, name: str) -> float:
    value = one.scores[name]
    assert value is not None  # error, bias, rate and peak always are numbers
    return value


def _spread(own: Sequence[Scored]) -> float | None:
    groups: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    for one in own:
        groups[one.row["task"], one.row["n"]].append(np.asarray(one.row["entropy"], float))
    repeated = [curves for curves in groups.values() if len(curves) > 1]
    variances = [np.var(curves, axis=0, ddof=1).mean() for curves in repeated]
    return float(np.sqrt(np.mean(variances))) if variances else None


def _seconds(own: Sequence[Scored]) -> float:
    quickest: dict[tuple[str, int], float] = {}
    for one in own:
        key = one.row["task"], one.row["n"]
        quickest[key] = min(one.row["seconds"], quickest.get(key, np.inf))
    return float(np.median(list(quickest.values())))


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
