"""How many programs new shapes compile, and what of them stays in memory."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation.programs import MOST, _compiled, program

GRID = np.linspace(8, -8, 24)


def matrix(dim):
    root = np.random.default_rng(dim).normal(size=(dim, dim))
    return root @ root.T / dim + np.eye(dim)


def mixture(kind, dim, num=4):
    means = np.random.default_rng(dim).normal(size=(num, dim))
    return {
        "isotropic": lambda: gs.GaussianMixture.isotropic(means, 1.0),
        "variances": lambda: gs.GaussianMixture.isotropic(means, np.linspace(0.5, 2, num)),
        "equal means": lambda: gs.families.equal_means(dim, (0.5, 1.0, 2.0), reduced=True),
        "equidistant": lambda: gs.families.equidistant(num, dim, 3.0, reduced=True),
        "diagonal": lambda: gs.GaussianMixture.diagonal(means, 1.0 + np.arange(dim) % 2),
        "full": lambda: gs.GaussianMixture.full(means, matrix(dim)),
        "low rank": lambda: gs.GaussianMixture.low_rank(means, means[:2].T, 1.0),
        "differ": lambda: gs.GaussianMixture.full(
            means, matrix(dim) * np.arange(1, num + 1)[:, None, None]
        ),
    }[kind]()


@pytest.fixture
def compiled():
    """What is compiled from now on, one entry a program."""
    found = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("isotropic", 0),
        ("variances", 0),
        ("equal means", 0),
        ("equidistant", 0),
        ("diagonal", 0),
        ("full", 2),  # an eigenspace a dimension
        ("low rank", 2),  # its decomposition in d dimensions
        ("differ", 1),  # draws in d dimensions
    ],
)
def test_another_dimension_compiles_little(kind, most, compiled):
    _compiled.cache_clear()
    gs.entropy_curve(mixture(kind, 12), GRID, num_samples=64)
    first = len(compiled)
    assert first > 0  # the listener hears what is compiled
    gs.entropy_curve(mixture(kind, 15), GRID, num_samples=64)
    assert len(compiled) - first <= most


def test_levels_of_nearly_one_number_share_a_program_and_agree(compiled):
    law = mixture("variances", 7)
    whole = gs.entropy_curve(law, np.linspace(8, -8, 40), num_samples=64)
    first = len(compiled)
    part = gs.entropy_curve(law, np.linspace(8, -8, 40)[:37], num_samples=64)
    assert len(compiled) == first
    for name in ("entropy", "rate"):
        assert np.array_equal(getattr(part, name).value, getattr(whole, name).value[:37])
        assert np.array_equal(getattr(part, name).stderr, getattr(whole, name).stderr[:37])
    assert part.batches.entropy.shape == (16, 37)


def test_a_program_is_kept_until_enough_others_were_used(compiled):
    double = program(lambda x, scale, flag: {"x": scale * x if flag else x})
    assert double(np.ones(3), 2, True)["x"].tolist() == [2, 2, 2]
    # A number that equals another of a different type is another argument.
    assert double(np.ones(3), 2.0, True)["x"].tolist() == [2, 2, 2]
    assert double(np.ones(3), 1, flag=True)["x"].tolist() == [1, 1, 1]
    assert double(np.ones(3), True, flag=True)["x"].tolist() == [1, 1, 1]
    before = len(compiled)
    double(np.ones(3), 2, True)
    assert len(compiled) == before
    for size in range(4, 4 + MOST):
        double(np.ones(size), 2, True)
    before = len(compiled)
    double(np.ones(3), 2, True)
    assert len(compiled) == before + 1


def test_dimensions_beyond_whole_numbers_of_32_bits(precision):
    reduced = gs.families.equal_means(10**12, (1.0, 1.000001), reduced=True)
    assert (reduced.dim, int(reduced.radial_dof)) == (10**12, 10**12)
    assert gs.families.equidistant(3, 10**12, 2.0, reduced=True).dim == 10**12


def test_a_traced_reduction_without_its_dimension_says_what_to_do():
    reduced = gs.reduce(mixture("variances", 9, 2))
    many = gs.families.equal_means(9, np.linspace(0.5, 2, 8), reduced=True)
    levels = jax.numpy.asarray(GRID[:2])
    assert reduced.has_radius
    with pytest.raises(ValueError, match="call `reduce` inside"):
        jax.jit(lambda law: gs.exact.quadrature_levels(law, levels).mean)(many)


LONG = """
import jax, numpy as np, psutil
jax.config.update("jax_enable_x64", True)
import gmm_speciation as gs
from test_programs import mixture

KINDS = ("isotropic", "variances", "diagonal", "full", "low rank", "differ")
here = psutil.Process()

def one(i):
    grid = np.linspace(8, -8, 8 + i % 40)
    law = mixture(KINDS[i % len(KINDS)], 10 + i // 2, 3 + i % 5)
    gs.entropy_curve(law, grid, num_samples=64 * (1 + i % 7))

one(0)
start, most = here.memory_info().rss, 0
for i in range(1, 201):
    one(i)
    most = max(most, here.memory_info().rss - start)
print(most)
"""


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_hundred_shapes_stay_below_a_gigabyte():
    """Of every kind, each with another dimension, K, number of levels or of samples; as a user runs it."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
    }
    folders = [os.path.dirname(__file__), *sys.path]
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    done = subprocess.run(
        [sys.executable, "-c", LONG], env=environment, capture_output=True, text=True, timeout=2300
    )
    assert done.returncode == 0, done.stderr
    most = int(done.stdout)
    assert 0 < most < 10**9, f"{most / 1e6:.0f} MB above the start"
