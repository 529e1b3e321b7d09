"""Boards: what a sweep says, one for each access, kind and number of samples.

The error of a method on a task is the root mean square over seeds and levels, over H(C) of the task, after
clipping. What is *not applicable* is left out. A run that failed has no error that any method would be
beaten by; so has one that did not end within the stated budget of processor seconds, and the two are
counted apart.

A method stands by its median over the tasks that apply to it, a number of its own: two methods change
places for no third one. How sure the number is says a bootstrap over families of tasks, and over the tasks
of each, since like tasks err alike. Two methods are compared on the draws that both had: how often one is
nearer the truth, and the median over tasks of the log ratio of their errors, with its interval by the same
bootstrap; where that holds 0 they are not resolved. Going down a board, a method that is not resolved from
the first of its group is in that group.

A handful of families says little of others: of two methods that are equally good one is nearer in all of F
families by chance with probability 2^(1 - F), below 5 % from six on. With fewer there is no interval, and
nothing is resolved.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.benchmark.rows import cell_of
from gmm_speciation.benchmark.scores import score
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimators.base import Access, Kind

LEVEL = 0.95
_BOOTSTRAPS = 2000
_FEWEST = 6  # families
_SMALLEST = 1e-6  # of a relative error; the truth itself is known to 1e-4 nats


class Result(NamedTuple):
    """A cell that applies, with the relative error of its task."""

    row: Mapping[str, Any]
    scores: dict[str, float | None]  # empty where there is no result
    error: float  # over H(C); infinite where there is no result

    @property
    def board(self) -> tuple[str, str, int]:
        return self.row["access"], self.row["kind"], self.row["n"]


class Standing(NamedTuple):
    """One line of a board."""

    access: str
    kind: str
    n: int
    estimator: str
    group: int  # from 1; methods of one group are not resolved from its first
    error: float  # over H(C), median over tasks
    low: float  # its 95 % interval; NaN where tasks are of few families
    high: float
    beats_next: float | None  # share of paired runs nearer the truth than the next line
    bias: float | None  # over H(C), mean
    raw: float | None  # as `error`, before clipping
    inside: float | None  # share of levels covered
    violation: float | None  # nats, largest
    seconds: float | None  # of the quickest seed, median over tasks
    tasks: int  # that apply
    timed_out: int  # runs
    failed: int  # runs


class Comparison(NamedTuple):
    """Two methods on the draws that both had."""

    runs: int
    wins: float  # share of runs where the first is nearer the truth
    log_ratio: float  # of errors, median over tasks
    low: float
    high: float


class Pair(NamedTuple):
    """Two methods of a board, with the fields of `Comparison`."""

    access: str
    kind: str
    n: int
    estimator: str
    other: str
    runs: int
    wins: float
    log_ratio: float
    low: float
    high: float

    @property
    def resolved(self) -> bool:
        return self.low > 0 or self.high < 0


class Board(NamedTuple):
    """Methods of one access and kind at one number of samples, best first."""

    access: str
    kind: str
    n: int
    standings: list[Standing]
    pairs: list[Pair]
    errors: dict[tuple[str, str], float]  # by estimator and task


class Clusters(NamedTuple):
    """Tasks, their families, and draws of them."""

    tasks: Sequence[str]
    families: np.ndarray
    draws: Int[np.ndarray, "draws most"]

    @classmethod
    def of(cls, tasks: Iterable[str], families: Mapping[str, str]) -> "Clusters":
        """Tasks whose families are known, in whatever order; of others each is its own."""
        tasks = sorted(tasks)  # the draws are of places
        own = [families.get(task, task) for task in tasks]
        return cls(tasks, np.array(own), resampled(own))

    def interval(self, values: Float[np.ndarray, " tasks"]) -> tuple[float, float]:
        """Of the median, by percentiles that are values of the sample, since some may be infinite."""
        if len(set(self.families[~np.isnan(values)])) < _FEWEST:
            return np.nan, np.nan
        medians = np.asarray(_median(np.append(values, np.nan)[self.draws]))
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        low, high = np.quantile(medians[~np.isnan(medians)], ends, method="nearest")
        return float(low), float(high)


def results(rows: Sequence[Mapping[str, Any]], truths: Mapping[str, EntropyCurve]) -> list[Result]:
    """Rows that apply, with their scores."""
    found = []
    for row in rows:
        if row["status"] == "not-applicable":
            continue
        if row["status"] != "ok":
            found.append(Result(row, {}, np.inf))
            continue
        exact = truths[row["task"]]
        scores = score(row, exact)
        error = scores["error"]
        assert error is not None  # of what is ok
        found.append(Result(row, scores, max(error / exact.prior_entropy, _SMALLEST)))
    return found


def boards(
    found: Sequence[Result], families: Mapping[str, str], priors: Mapping[str, float]
) -> list[Board]:
    """All boards, in the order of access, kind and size.

    Args:
        found: Of all boards.
        families: Of the tasks.
        priors: H(C) of the tasks, nats.
    """
    groups: dict[tuple[str, str, int], list[Result]] = defaultdict(list)
    for one in found:
        groups[one.board].append(one)
    accesses, kinds = [str(one) for one in Access], [str(one) for one in Kind]
    order = sorted(groups, key=lambda key: (accesses.index(key[0]), kinds.index(key[1]), key[2]))
    return [_board(key, groups[key], families, priors) for key in order]


def _board(
    key: tuple[str, str, int],
    found: Sequence[Result],
    families: Mapping[str, str],
    priors: Mapping[str, float],
) -> Board:
    found = sorted(found, key=lambda one: cell_of(one.row))  # in whatever order they came
    names = list(dict.fromkeys(sorted(one.row["estimator"] for one in found)))
    of: dict[str, dict[str, dict[int, float]]] = {name: {} for name in names}
    for one in found:
        of[one.row["estimator"]].setdefault(one.row["task"], {})[one.row["seed"]] = one.error
    errors = {
        (name, task): _rms(list(runs.values()))
        for name, own in of.items()
        for task, runs in own.items()
    }
    clusters = Clusters.of({one.row["task"] for one in found}, families)
    table = {
        name: np.array([errors.get((name, task), np.nan) for task in clusters.tasks])
        for name in names
    }
    medians = {name: float(_median(row)) for name, row in table.items()}
    ranked = sorted(names, key=lambda name: medians[name])
    pairs = [
        Pair(*key, name, other, **compare(of[name], of[other], clusters)._asdict())
        for index, name in enumerate(ranked)
        for other in ranked[index + 1 :]
    ]
    by_names = {(pair.estimator, pair.other): pair for pair in pairs}
    standings: list[Standing] = []
    group, leader = 0, ""
    for index, name in enumerate(ranked):
        if not leader or by_names[leader, name].resolved:
            group, leader = group + 1, name
        low, high = clusters.interval(table[name])
        following = by_names.get((name, ranked[index + 1])) if index + 1 < len(ranked) else None
        own = [one for one in found if one.row["estimator"] == name]
        standings.append(
            Standing(
                *key,
                name,
                group,
                medians[name],
                low,
                high,
                None if following is None or not following.runs else following.wins,
                *_rest(own, priors),
            )
        )
    return Board(*key, standings, pairs, errors)


def _rest(own: Sequence[Result], priors: Mapping[str, float]) -> tuple:
    """The columns from `bias` on."""
    ok = [one for one in own if one.scores]

    def over_prior(name: str) -> list[float]:
        return [(one.scores[name] or 0.0) / priors[one.row["task"]] for one in ok]

    def known(name: str) -> list[float]:
        return [value for one in ok if (value := one.scores[name]) is not None]

    inside, violation = known("inside"), known("violation")
    quickest: dict[str, float] = {}
    for one in ok:
        if one.row.get("seconds") is not None:
            task = one.row["task"]
            quickest[task] = min(one.row["seconds"], quickest.get(task, np.inf))
    statuses = [one.row["status"] for one in own]
    return (
        float(np.mean(over_prior("bias"))) if ok else None,
        float(np.median(over_prior("raw"))) if ok else None,
        float(np.mean(inside)) if inside else None,
        max(violation, default=None),
        float(np.median(list(quickest.values()))) if quickest else None,
        len({one.row["task"] for one in own}),
        statuses.count("time-out"),
        sum(status not in ("ok", "time-out") for status in statuses),
    )


def resampled(families: Sequence[str], seed: int = 0) -> Int[np.ndarray, "draws most"]:
    """Indices of tasks in every bootstrap draw: families with replacement, then the tasks of each.

    Draws of fewer tasks than others are filled up by an index beyond the last task.
    """
    rng = np.random.default_rng(seed)
    members = [
        np.flatnonzero([family == one for one in families]) for family in dict.fromkeys(families)
    ]
    number, most = len(members), max(map(len, members))
    sizes = np.array([len(tasks) for tasks in members])
    table = np.full((number, most), len(families))
    for row, tasks in zip(table, members, strict=True):
        row[: len(tasks)] = tasks
    chosen = rng.integers(number, size=(_BOOTSTRAPS, number, 1))
    places = rng.integers(sizes[chosen], size=(_BOOTSTRAPS, number, most))
    drawn = np.where(np.arange(most) < sizes[chosen], table[chosen, places], len(families))
    return drawn.reshape(_BOOTSTRAPS, -1)


def compare(
    own: Mapping[str, Mapping[int, float]],
    theirs: Mapping[str, Mapping[int, float]],
    clusters: Clusters,
) -> Comparison:
    """Two methods on the draws that both had.

    Args:
        own: Relative errors of the first by task and seed; infinite where there is no result.
        theirs: Of the other.
        clusters: The tasks.
    """
    # NaN where one does not apply, or neither has a result.
    ratios = np.full(len(clusters.tasks), np.nan)
    wins: list[float] = []
    for index, task in enumerate(clusters.tasks):
        first, second = own.get(task, {}), theirs.get(task, {})
        common = sorted(first.keys() & second.keys())
        if not common:
            continue
        errors = np.array([[runs[seed] for seed in common] for runs in (first, second)])
        with np.errstate(invalid="ignore"):
            ratios[index] = np.log(_rms(errors[0])) - np.log(_rms(errors[1]))
        known = errors[:, np.isfinite(errors).any(0)]
        wins += list(0.5 * (known[0] < known[1]) + 0.5 * (known[0] <= known[1]))
    low, high = clusters.interval(ratios)
    share = float(np.mean(wins)) if wins else np.nan
    return Comparison(len(wins), share, float(_median(ratios)), low, high)


def _median(values: Float[np.ndarray, "*batch tasks"]) -> Any:
    """Of what is known, NaN where nothing is; a middle between a number and infinity is infinite."""
    ordered = np.sort(values)  # NaN last
    known = np.sum(~np.isnan(ordered), -1, keepdims=True)
    low, high = (
        np.take_along_axis(ordered, np.maximum(index, 0), -1)[..., 0]
        for index in ((known - 1) // 2, np.minimum(known // 2, values.shape[-1] - 1))
    )
    with np.errstate(invalid="ignore"):
        return np.where(low == high, low, (low + high) / 2)


def _rms(values: Sequence[float] | np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def by_size(
    found: Sequence[Result], families: Mapping[str, str]
) -> dict[tuple[str, str], dict[str, dict[str, dict[int, float]]]]:
    """Median relative error over the tasks of a family: by (access, kind), family, estimator and size.

    Over the tasks that an estimator had at all its sizes there: another task must not look like more samples.
    """
    cells: dict[tuple[str, str, str, str], dict[int, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for one in found:
        row, family = one.row, families.get(one.row["task"], one.row["task"])
        key = row["access"], row["kind"], family, row["estimator"]
        cells[key][row["n"]][row["task"]].append(one.error)
    table: dict[tuple[str, str], dict[str, dict[str, dict[int, float]]]] = {}
    for (access, kind, family, estimator), sizes in sorted(cells.items()):
        shared = set.intersection(*map(set, sizes.values()))
        if shared:
            line = table.setdefault((access, kind), {}).setdefault(family, {})
            line[estimator] = {
                n: float(_median(np.array([_rms(of[task]) for task in shared])))
                for n, of in sorted(sizes.items())
            }
    return table
