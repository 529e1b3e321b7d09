"""Runs cells one after the other, told by JSON lines on stdin, answering by JSON lines on stdout.

It is a process of its own, so that a cell that takes too long, eats the memory or takes the interpreter
down costs this process and nothing else. A row holds

    task, estimator, access, n, seed    the cell
    kind                        estimate, lower bound or upper bound
    status                      ok, failed, not-applicable (and, from outside: time-out, memory, crashed)
    message                     why not ok
    entropy, stderr, dof, rate  raw, one number a noise level; nats, nats per unit log-SNR
    noise                       standard error of a bound or of another number that claims no interval for H
    seconds, peak_mib           of the estimate alone, its compilation included; processor time
    evaluations                 calls of posterior or denoisers, one a state and class
    versions, device, date      where it was made
"""

import datetime
import json
import os
import platform
import sys
import threading
import time
from functools import cache
from typing import Any

import numpy as np

from gmm_speciation.benchmark.cells import Cell, estimator_of, task_of
from gmm_speciation.benchmark.columns import LARGEST
from gmm_speciation.benchmark.keys import versions
from gmm_speciation.benchmark.rows import cell_key
from gmm_speciation.estimators.base import Access, NotApplicableError, Problem

_task = cache(task_of)


def run_cell(cell: Cell) -> dict[str, Any]:
    """The row of one cell; an error of the estimator is a row, too."""
    row: dict[str, Any] = {**cell_key(cell), "status": "ok", "message": "", **_place()}
    problem, reset, start = None, False, time.process_time()
    try:
        task, estimator = _task(cell.task), estimator_of(cell.estimator)()
        grid = levels_of(task)
        law, of = task.law, (cell.num_samples, cell.seed, Access(cell.access), task.id)
        problem = Problem(law.mixture, law.classes, grid, *of)
        reset, start = _reset_peak(), time.process_time()
        outcome = estimator.curve(problem)
        found, claims = outcome.entropy, outcome.has_interval
        values = _at_all("entropy", found.value, grid)
        stderr = _at_all("standard error", np.broadcast_to(found.stderr, grid.shape), grid)
        row |= {
            "entropy": values,
            "stderr": stderr if claims else None,
            "noise": None if claims or not any(stderr) else stderr,
            "dof": min(float(found.dof), 1e9),
            "rate": None if outcome.rate is None else _at_all("rate", outcome.rate.value, grid),
        }
    except NotApplicableError as error:
        row |= {"status": "not-applicable", "message": _one_line(error)}
    except MemoryError as error:
        row |= {"status": "memory", "message": _one_line(error) or "out of memory"}
    except Exception as error:  # whatever an estimator raises is a result
        row |= {"status": "failed", "message": f"{type(error).__name__}: {_one_line(error)}"}
    row |= {
        "seconds": round(time.process_time() - start, 4),
        "peak_mib": _peak_mib() if reset else None,
        "evaluations": 0 if problem is None else int(problem.evaluations),
    }
    return row


def levels_of(task) -> np.ndarray:
    """The levels of the truth; those of a shipped one need no search."""
    from gmm_speciation.benchmark.truth import shipped_grid

    grid = shipped_grid(task)
    return task.grid if grid is None else grid


@cache
def _place() -> dict[str, Any]:
    import jax

    device = jax.devices()[0]
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    return {"versions": versions(), "device": f"{device.platform} {_processor()}", "date": date}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


def _at_all(name: str, values: Any, grid: np.ndarray) -> list[float]:
    """The numbers at the levels, as JSON holds them."""
    numbers = np.asarray(values, float)
    if numbers.shape != grid.shape or not (abs(numbers) < LARGEST).all():
        raise ValueError(
            f"The {name} must be finite at all {len(grid)} levels, below {LARGEST:g}; got "
            f"{np.round(numbers, 4)}."
        )
    return [round(float(value), 10) for value in numbers]


def _reset_peak() -> bool:
    """Forget the highest memory so far (Linux); False where that is not possible."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _peak_mib() -> float | None:
    with open("/proc/self/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("VmHWM"):
                return round(int(line.split()[1]) / 1024, 1)
    return None


def _end_with(parent: int) -> None:
    """A long cell reads no stdin; without this it would go on after its sweep was killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def serve() -> None:
    """Answer cells until stdin ends. Everything else that is printed goes to stderr."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, os.getcwd())  # the user's own tasks and estimators
    import jax

    jax.config.update("jax_enable_x64", True)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run_cell(Cell(*json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    serve()
