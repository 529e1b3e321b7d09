"""Runs that never ran: rows that are off the truth by a known part of H(C), of every kind and end."""

import numpy as np

from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.benchmark.cells import Cell
from gmm_speciation.benchmark.rows import cell_key
from gmm_speciation.benchmark.truth import truth

SOME = (
    "pair-d1",
    "pair-d16",
    "equal-means",
    "diagonal",
    "toy-first",
    "pair-w0.9",
    "rings",
    "heavy-d1",
)
FAMILIES = {id: TASKS[id].family for id in SOME}
TRUTHS = {id: truth(TASKS[id]) for id in SOME}
PRIORS = {id: curve.prior_entropy for id, curve in TRUTHS.items()}


def row(name, task, seed, error, status="ok"):
    """A run that is off by `error` of H(C) at every level, upwards where there is room."""
    exact, prior = np.asarray(TRUTHS[task].entropy.value), PRIORS[task]
    values = exact + error * prior * np.where(exact < prior / 2, 1, -1)
    of = {**cell_key(Cell(task, name, "noisy", 64, seed)), "kind": "estimate"}
    of |= {"status": status, "message": "", "entropy": list(values), "stderr": None, "rate": None}
    return of | {"seconds": 1.0, "dof": 1.0}


def random_rows(seed):
    """Methods that each win somewhere, fail here, run out of time there, and do not apply elsewhere."""
    rng = np.random.default_rng(seed)
    ends = ["ok"] * 12 + ["failed", "time-out", "not-applicable"]
    return [
        row(name, task, s, float(rng.uniform(0.01, 0.4)), str(rng.choice(ends)))
        for name in "abcdef"
        for task in SOME
        for s in (0, 1)
    ]
