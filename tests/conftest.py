"""Strict JAX for every test: float64 available, no silent rank promotion.

Most of the time goes into compiling. The workers, the programs that tests start and later runs share what
has been compiled, in `.cache/jax`; the folder starts anew when it holds more than `LARGEST`.
"""

import functools
import gc
import os
import shutil
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from types import FunctionType

# Tests run in one process a core; threads of their own would only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Programs run for milliseconds here and would compile for seconds: XLA's older emitters, without optimisation
# and in one piece, take a fifth of the time. The slow tests are compiled as users' programs are, and so are
# those that compute for seconds (`optimised`). A flag that another version does not know ends the process.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    )

import jax
import jaxtyping
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", "cpu")

# Every collection walks over all that JAX and torch keep: at Python's thresholds a seventh of the time.
gc.set_threshold(100_000, 50, 100)

CHECKED_CALLS = 1_000
jaxtyped, calls = jaxtyping.jaxtyped, Counter()


def often_enough(*arguments, **options):
    """`jaxtyped` as the import hook calls it, for the first calls of every function.

    Small functions are called a hundred thousand times, and a check costs more than they do; to make one for
    a closure, which every call of its maker makes anew, costs milliseconds.
    """
    if arguments:
        return jaxtyped(*arguments, **options)

    def wrap(given):
        if not isinstance(given, FunctionType):
            return jaxtyped(given, **options)

        @functools.wraps(given)
        def call(*args, **kwargs):
            nonlocal checked
            calls[given.__code__] += 1
            if calls[given.__code__] > CHECKED_CALLS:
                return given(*args, **kwargs)
            checked = checked or jaxtyped(given, **options)
            return checked(*args, **kwargs)

        checked = None if "<locals>" in given.__qualname__ else jaxtyped(given, **options)
        return call

    return wrap


jaxtyping.jaxtyped = often_enough

COMPILED = Path(__file__).parent.parent / ".cache" / "jax"
LARGEST = 2 * 2**30  # bytes
MOST_MAPS = 10_000  # a program takes about nine, and a megabyte or two
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(COMPILED)  # for workers and programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_configure(config):
    first = not hasattr(config, "workerinput")  # workers start after it
    if first and sum(one.stat().st_size for one in COMPILED.glob("*")) > LARGEST:
        shutil.rmtree(COMPILED)


# Variants of a covariance that share most of their code with one that always runs; low-rank ones
# have tests of their own against full covariances.
SLOW_KINDS = {"diagonal-shared", "full-shared", "low-rank-shared", "low-rank", "line"}
# Files of a minute or more go first, longest first: no worker then waits at the end for another.
LONGEST = (
    "model_bridges/test_trust.py",
    "gmm_speciation/test_benchmark.py",
    "gmm_speciation/test_order.py",
    "model_bridges/test_studied.py",
    "gmm_speciation/test_exactness.py",
    "model_bridges/test_cli.py",
    "model_bridges/test_paper_command.py",
    "gmm_speciation/test_devices.py",
    "model_bridges/test_families_page.py",
    "gmm_speciation/test_speciation.py",
    "gmm_speciation/test_equidistant.py",
    "model_bridges/test_trust_checks.py",
    "tests/test_pages.py",
)


def pytest_collection_modifyitems(items):
    for item in items:
        values = getattr(getattr(item, "callspec", None), "params", {}).values()
        if any(isinstance(value, str) and value in SLOW_KINDS for value in values):
            item.add_marker(pytest.mark.slow)
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get("/".join(item.path.parts[-2:]), len(place)))


@pytest.fixture(scope="module", autouse=True)
def programs_are_dropped():
    """Every program holds memory maps, of which Linux gives a process a limited number."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def optimised():
    """For tests whose programs run longer than they compile: up to five times as long, unoptimised."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def key():
    return jax.random.key(20260209)


@pytest.fixture
def rng():
    return np.random.default_rng(20260209)


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Run a test as a float32 user (x64 off) and as a float64 user."""
    with jax.enable_x64(request.param == "float64"):
        yield {"float32": 1e-4, "float64": 1e-10}[request.param]


@pytest.fixture
def unchecked(monkeypatch):
    """Shapes and types go unchecked by jaxtyping, as they do for users."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(params=["jax", "torch"])
def array(request):
    """Run a test on arrays of both libraries: what makes one of numbers."""
    if request.param == "jax":
        return jax.numpy.asarray
    torch = pytest.importorskip("torch")
    return lambda values: torch.from_numpy(np.array(values))
