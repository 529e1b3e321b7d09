"""The truth of a task, by exact integral or by quasi-Monte Carlo to 1e-4 nats.

Where the posterior has no statistic of few dimensions, scrambled Sobol points drive the state itself:
equally many points of every component, normals turned so that the leading ones go along the
directions in which the means differ, each point with its mirror image. Points are added in rounds of
16 independent scrambles until the widest 95 % interval of the entropy is within the tolerance; that
interval goes into every score. A crowd of points has a way of its own (`crowds`).

The truths of the catalogue are shipped; those of other tasks are computed once and kept beside the rows.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special
from scipy.stats import qmc

from gmm_speciation.benchmark.crowds import crowd_curve, is_crowd
from gmm_speciation.benchmark.tasks import Law, Task
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import entropy_curve, prior_entropy
from gmm_speciation.estimate import Estimate
from gmm_speciation.files import write_text
from gmm_speciation.reading import read_json
from gmm_speciation.reduction import NotReducibleError, reduce
from gmm_speciation.sampling.monte_carlo import posterior_statistics

TOLERANCE = 1e-4  # nats, half the 95 % interval
_SCRAMBLES = 16
_CHUNK = 4096
_SHIPPED = "truths.json"
_ARRAYS = ("log_snr", "entropy", "entropy_stderr", "rate", "rate_stderr")


def truth(task: Task, directory: Path | None = None) -> EntropyCurve:
    """Entropy and rate of a task on its grid, with their standard errors.

    Args:
        task: Whose; its own curve is taken where it has one.
        directory: Where truths of tasks outside the catalogue are kept.

    Raises:
        ValueError: If the tolerance cannot be reached, or the task's own curve has another H(C).
    """
    if task.curve is not None:
        prior = float(prior_entropy(task.law.mixture, task.law.classes))
        if abs(task.curve.prior_entropy - prior) > 1e-6:
            raise ValueError(
                f"The `curve` of task {task.id!r} must be of its classes, with H(C) = {prior:.6g} nats; got "
                f"one with {task.curve.prior_entropy:.6g}."
            )
        return task.curve
    shipped = _shipped().get(task.id)
    if shipped is not None and task is _catalogue().get(task.id):
        return _from_record(shipped)
    place = None if directory is None else directory / f"{task.id}-{digest(task)}.json"
    if place is not None and place.exists():
        return _from_record(read_json(place))
    curve = compute(task)
    if place is not None:
        write_text(place, json.dumps(record(curve)))
    return curve


def compute(task: Task, tolerance: float = TOLERANCE) -> EntropyCurve:
    """The truth, computed now.

    Raises:
        ValueError: If the tolerance cannot be reached with 2^24 points, or as `crowd_curve`.
    """
    law, grid = task.law, task.grid
    if law.entropy is not None:
        return _integral_curve(law, law.entropy, grid)
    if law.reduced is None and is_crowd(law):
        return crowd_curve(law, grid, tolerance)
    points = 2**14
    while True:
        curve = _attempt(law, grid, points)
        low, high = curve.entropy.interval()
        if float(np.max(high - low)) / 2 <= tolerance:
            return curve
        if points >= 2**24:
            raise ValueError(
                f"The entropy of task {task.id!r} is known to {np.max(high - low) / 2:.2g} nats after "
                f"{points} points, not to {tolerance:g}; give the task its `curve`, or fewer components."
            )
        points *= 4


def _integral_curve(law: Law, entropy: Callable[[float], float], grid: np.ndarray) -> EntropyCurve:
    """Of an exact integral; its slope by central differences of fourth order, good to 1e-9 of it."""
    step = 1e-2
    values = np.array([[entropy(level + j * step) for j in range(-2, 3)] for level in grid])
    rate = -values @ np.array([1, -8, 0, 8, -1]) / (12 * step)
    return EntropyCurve(
        grid,
        Estimate.exact(values[:, 2]),
        Estimate.exact(rate),
        float(prior_entropy(law.mixture, law.classes)),
        "exact",
    )


def _attempt(law: Law, grid: np.ndarray, points: int) -> EntropyCurve:
    try:
        reduced = law.reduced or reduce(law.mixture)
    except NotReducibleError:
        return _sobol_curve(law, grid, points)
    if reduced.num_normals <= 16 or reduced.num_components == 2 or law.reduced is not None:
        return entropy_curve(
            reduced, grid, partition=law.classes, num_samples=points, key=jax.random.key(1)
        )
    return _sobol_curve(law, grid, points)


@eqx.filter_jit
def _chunk_means(law_mixture, partition, log_snr, normals, component):
    """Statistics averaged over a chunk and its mirror image, at every level."""

    def at(level):
        def one(z):
            return jax.tree.map(
                jnp.mean, posterior_statistics(law_mixture, level, z, component, partition)
            )

        both = one(normals), one(-normals)
        return jax.tree.map(lambda a, b: (a + b) / 2, *both)

    return jax.lax.map(at, log_snr)


def _sobol_curve(law: Law, grid: np.ndarray, points: int) -> EntropyCurve:
    mixture, classes = law.mixture, law.classes
    weights = np.asarray(mixture.weights, float)
    # Directions of the means first: the leading Sobol coordinates are the best.
    spread = np.asarray(mixture.offsets, float)
    rotation = np.linalg.svd(spread - weights @ spread, full_matrices=True)[2]
    per = max(points // _SCRAMBLES, 1)
    levels = jnp.asarray(grid)
    means = []
    for scramble in range(_SCRAMBLES):
        rng = np.random.default_rng([7, scramble])
        uniform = qmc.Sobol(mixture.dim + 1, rng=rng).random(per)
        # The first coordinate walks through the components in proportion to their weights.
        component = np.searchsorted(np.cumsum(weights) / weights.sum(), uniform[:, 0], side="right")
        component = np.minimum(component, len(weights) - 1)
        normals = special.ndtri(np.clip(uniform[:, 1:], 2.0**-33, 1 - 2.0**-33)) @ rotation
        size = min(_CHUNK, per)
        parts = [
            _chunk_means(
                mixture,
                classes,
                levels,
                jnp.asarray(normals[i : i + size]),
                jnp.asarray(component[i : i + size]),
            )
            for i in range(0, per, size)
        ]
        means.append(jax.tree.map(lambda *p: np.mean(p, 0), *parts))
    entropy = np.array([one.entropy for one in means])
    rate = np.array([one.rate for one in means])
    return EntropyCurve(
        grid,
        Estimate.from_samples(entropy),
        Estimate.from_samples(rate),
        float(prior_entropy(mixture, classes)),
        "quasi-monte-carlo",
    )


def record(curve: EntropyCurve) -> dict:
    """A curve without its batches, as plain JSON."""
    return {
        "log_snr": np.asarray(curve.log_snr).tolist(),
        "entropy": np.asarray(curve.entropy.value).tolist(),
        "entropy_stderr": np.asarray(curve.entropy.stderr).tolist(),
        "rate": np.asarray(curve.rate.value).tolist(),
        "rate_stderr": np.asarray(curve.rate.stderr).tolist(),
        "dof": str(curve.entropy.dof),
        "prior_entropy": curve.prior_entropy,
        "method": curve.method,
    }


def _from_record(content: dict) -> EntropyCurve:
    dof = float(content["dof"])
    array = {name: np.asarray(content[name], float) for name in _ARRAYS}
    return EntropyCurve(
        array["log_snr"],
        Estimate(array["entropy"], array["entropy_stderr"], dof),
        Estimate(array["rate"], array["rate_stderr"], dof),
        content["prior_entropy"],
        content["method"],
    )


def shipped_grid(task: Task) -> np.ndarray | None:
    """The levels of a shipped truth, or None."""
    known = _shipped().get(task.id)
    if known is None or task is not _catalogue().get(task.id):
        return None
    return np.asarray(known["log_snr"], float)


@cache
def _shipped() -> dict[str, dict]:
    place = resources.files("gmm_speciation.benchmark") / _SHIPPED
    return json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}


def _catalogue() -> dict[str, Task]:
    from gmm_speciation.benchmark.catalogue import TASKS

    return TASKS


def digest(task: Task) -> str:
    """Of everything that the truth depends on: the distribution, the levels, the version of this package."""
    hasher = hashlib.sha256(importlib.metadata.version("gmm-speciation").encode())
    arrays = [*jax.tree.leaves(task.law.mixture), task.law.classes.labels, task.grid]
    for array in arrays:
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()[:16]
