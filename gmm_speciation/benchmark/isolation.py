"""Cells in a child process with a time-out and a memory cap; its end is a row, not ours.

The time-out counts processor time, which other work on the machine does not lengthen; a child that waits
without computing is stopped after `_PATIENCE` times as long, and one that gets a twentieth of a processor
does not wait. Each thread that runs cells keeps one child, started when first needed and again after it was
ended, or once it has grown by a quarter of the memory cap: compiled programs pile up (some 4 MiB a cell), and
the cap is for the cell's own. A child ends by itself when its stdin closes or its parent is gone, so none
outlives the sweep.
"""

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import psutil

from gmm_speciation.benchmark.cells import Cell
from gmm_speciation.benchmark.rows import cell_key

PER = 256  # samples
_POLL = 0.1  # seconds between looks at the memory
_START = 300.0  # processor seconds that a child may take to load its libraries
_GROWTH = 0.25  # of the memory cap, between two cells
_PATIENCE = 5.0  # elapsed time over the limit at which a child that does not compute is stuck
_SHORT = 20.0  # elapsed time over processor time of one that does, on a busy machine


class Limits(NamedTuple):
    """Of one cell; seconds of processor time with `PER` samples or fewer, in proportion above."""

    seconds: float = 120.0
    mib: float = 6000.0

    def at(self, num_samples: int) -> "Limits":
        """Of a cell with so many samples."""
        return self._replace(seconds=self.seconds * max(1.0, num_samples / PER))


def counted(elapsed: float, computed: float) -> float:
    """Seconds of a child that count against its limit, of those that went by and that it computed."""
    return max(computed, (elapsed - _SHORT * computed) / _PATIENCE)


class _Child:
    def __init__(self):
        self.sources: dict[str, str] = {}
        # One core a child: a sweep already has a child a core.
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        flags = os.environ.get("XLA_FLAGS", "")
        flags += " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gmm_speciation.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**_compiled(), **os.environ, **single, "XLA_FLAGS": flags.strip()},
        )
        self.seen = psutil.Process(self.process.pid)
        assert self.process.stdout is not None  # piped above
        self.answers = self.process.stdout
        os.set_blocking(self.answers.fileno(), False)
        self._pending = b""
        self._answer(Limits(_START, float("inf")))
        self.first_mib = self.usage()[1]

    def ask(self, cell: Cell, limits: Limits) -> dict[str, Any]:
        assert self.process.stdin is not None  # piped above
        self.process.stdin.write((json.dumps(list(cell)) + "\n").encode())
        self.process.stdin.flush()
        return self._answer(limits)

    def _answer(self, limits: Limits) -> dict[str, Any]:
        """The next line, or what stopped it: raises `_StoppedError`."""
        looked, (before, _) = time.monotonic(), self.usage()
        elapsed = spent = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if selector.select(_POLL):
                    chunk = os.read(self.answers.fileno(), 1 << 20)
                    if not chunk:
                        code = self.process.wait()
                        raise _StoppedError("crashed", f"the process ended with code {code}", spent)
                    self._pending += chunk
                seconds, used = self.usage()
                spent = max(spent, seconds - before)
                now = time.monotonic()
                # A sweep that is stopped itself looks at nothing for a while.
                elapsed, looked = elapsed + min(now - looked, 10 * _POLL), now
                if counted(elapsed, spent) > limits.seconds:
                    words = f"stopped after {limits.seconds:g} s"
                    if spent <= limits.seconds:
                        words = f"stopped: in {elapsed:.0f} s it computed for {spent:.0f}"
                    raise _StoppedError("time-out", words, spent)
                if used > limits.mib:
                    raise _StoppedError(
                        "memory", f"stopped at {used:.0f} MiB, the cap is {limits.mib:g}", spent
                    )
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def usage(self) -> tuple[float, float]:
        """Processor seconds and resident MiB; zero once the process has ended."""
        try:
            with self.seen.oneshot():
                times, memory = self.seen.cpu_times(), self.seen.memory_info()
        except psutil.Error:
            return 0.0, 0.0
        return times.user + times.system, memory.rss / 2**20

    def __del__(self):
        if hasattr(self, "process"):
            self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def _compiled() -> dict[str, str]:
    """Where JAX keeps compiled programs, so that the next child need not compile them again."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return {
        "JAX_COMPILATION_CACHE_DIR": os.path.join(cache, "gmm-speciation", "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }


class _StoppedError(Exception):
    def __init__(self, status: str, message: str, seconds: float):
        super().__init__(message)
        self.status, self.seconds = status, seconds


_own = threading.local()


def run_isolated(
    cell: Cell, limits: Limits, sources: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """The row of a cell, run in this thread's child.

    Args:
        cell: The cell.
        limits: Of it.
        sources: Hashes of modules by name; a child that may have loaded one before it was edited is ended.
    """
    child = getattr(_own, "child", None)
    if child is not None and (
        any(child.sources.get(m, h) != h for m, h in sources.items())
        or child.usage()[1] - child.first_mib > _GROWTH * limits.mib
    ):
        child.end()
        child = None
    if child is None:
        _own.child = _Child()
    _own.child.sources.update(sources)
    try:
        return _own.child.ask(cell, limits.at(cell.num_samples))
    except (_StoppedError, BrokenPipeError) as stopped:
        _own.child.end()
        _own.child = None
        status = getattr(stopped, "status", "crashed")
        seconds = round(getattr(stopped, "seconds", 0.0), 2)
        return {**cell_key(cell), "status": status, "message": str(stopped), "seconds": seconds}
