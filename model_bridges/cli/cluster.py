"""`--cluster`: a command on every worker of a Dask cluster, sharing the run's folder with the others.

W workers run the same command line as processes 1 to W of W + 1 (`runs.folder`), so none of them reports;
when they are through, the driver runs it as a single process, which finds everything done. Only the words
of the command line travel. What the driver could not run itself it refuses before it connects.
"""

import itertools
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gmm_speciation.clusters import Ended, connect, run_child, sign
from gmm_speciation.progress import Progress
from gmm_speciation.reporting import terminal

_OWN = ("--cluster", "--out")  # what the driver does itself
_COUNT = 5  # seconds between looks at what is in the folder


def spread(
    address: str,
    folder: Path | None,
    check: Callable[[], object],
    *,
    plan: bool = False,
    quiet: bool = False,
) -> int:
    """Do the work of the running command on a cluster; the number of workers.

    Args:
        address: Of the Dask scheduler.
        folder: Of the run.
        check: Called before anything is connected; raises what would keep the command from running here.
        plan: Count the workers and do nothing.
        quiet: Show no progress.

    Raises:
        ValueError: If there is no folder, no scheduler, no worker, several drivers; with what a worker's
            process said, if it failed.
        OSError: If the scheduler or all processes were lost, or the folder cannot be written.
    """
    from model_bridges.runs.folder import process_place  # loads torch

    if process_place()[1] > 1:
        raise ValueError(
            "`--cluster` starts a process beside every worker; run the command once, not under a launcher."
        )
    if folder is None and not plan:
        raise ValueError(
            "`--cluster` needs `--folder DIR`: the workers share the run through it, and all must reach it "
            "under this path."
        )
    terminal.check_place(None, None if plan else folder)
    check()
    with terminal.progress(quiet=quiet) as bar, connect(address) as client:
        workers = list(client.nthreads())
        if not workers:
            raise ValueError(f"The Dask scheduler at {address!r} has no workers; start some.")
        if folder is not None and not plan:
            _work(client, workers, folder, bar)
        return len(workers)


def _work(client: Any, workers: Sequence[str], folder: Path, bar: Progress) -> None:
    name, *words = _words(shlex.split(terminal.command_line() or "")[1:])
    number = len(workers)
    bar.step(f"on {number} workers")
    with sign(folder.absolute()) as (path, renew):
        tasks = [
            client.submit(
                run_child,
                "model_bridges.cli",
                [name, "--quiet", *words],
                os.getcwd(),
                {"RANK": str(rank), "WORLD_SIZE": str(number + 1)},
                str(path),
                pure=False,
                workers=[worker],
                allow_other_workers=True,
            )
            for rank, worker in enumerate(workers, start=1)
        ]
        place = {task.key: worker for task, worker in zip(tasks, workers, strict=True)}
        lost, left, there = 0, list(tasks), set(workers)
        for second in itertools.count():
            renew()
            for task in [task for task in left if task.done()]:
                left.remove(task)
                ended = _ended(task)
                if ended.code is None or ended.code < 0:
                    lost += 1
                    where = next(iter(client.who_has([task]).get(task.key, ())), place[task.key])
                    bar.say(
                        f"the process beside {where} was lost ({_reason(ended)}); the others go on"
                    )
            if not left:
                break
            if second % _COUNT == 0:
                for worker in sorted(there - _present(client, there)):
                    there.remove(worker)
                    bar.say(f"the worker {worker} is gone; another begins anew what it was at")
                chunks = sum(1 for _ in folder.rglob("*.chunk"))
                bar.part(number - len(left), number, f"{chunks:,} chunks in {folder}")
            time.sleep(1)
    if lost == number:
        raise OSError(
            f"All processes on the cluster were lost. What is finished is in {folder}; the same command "
            "continues there."
        )


def _present(client: Any, known: set[str]) -> set[str]:
    """Workers that the scheduler has now; those known where it does not answer, which the tasks will say."""
    try:
        return set(client.nthreads())
    except (OSError, TimeoutError):
        return known


def _reason(ended: Ended) -> str:
    return ended.words if ended.code is None else f"signal {-ended.code}"


def _words(words: Sequence[str]) -> Iterator[str]:
    """A command line without what the driver does itself."""
    left = iter(words)
    for word in left:
        name, given, _ = word.partition("=")
        if name not in _OWN:
            yield word
        elif not given:
            next(left, None)


def _ended(task: Any) -> Ended:
    """How the process of a task ended, where that was not by a mistake of the user's."""
    from distributed import KilledWorker

    if task.status in ("cancelled", "lost"):
        raise OSError("The Dask scheduler is gone; what is finished stays in the run's folder.")
    if task.status == "error":
        error = task.exception()
        if isinstance(error, KilledWorker):
            return Ended(None, "its workers died one after the other")
        raise ValueError(f"A worker could not begin: {error}.") from error
    ended: Ended = task.result()
    if ended.code is not None and ended.code > 0:
        lines = ended.words.strip().splitlines() or [f"exit code {ended.code}"]
        raise ValueError(f"On a worker: {lines[-1].removeprefix('error: ')}")
    return ended
