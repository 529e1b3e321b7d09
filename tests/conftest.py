"""Strict JAX for every test: float64 available, no silent rank promotion."""

import os

# Tests run in one process a core; threads of their own would only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", "cpu")


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
