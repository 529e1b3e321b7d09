"""Many devices and many draws: the result depends on neither how many devices nor how they are cut."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from theory_contracts import assert_within, products, random_mixtures

import gmm_speciation as gs
from gmm_speciation.inference import score_spread
from gmm_speciation.posteriors import PosteriorStatistics, class_spread, pair_spread
from gmm_speciation.reduction import reduced_statistics
from gmm_speciation.sampling.averages import NUM_BATCHES, Chunks, Source, level_averages
from gmm_speciation.sampling.monte_carlo import _Draws, data_levels, posterior_statistics

MIXTURES = {k: m for k, m in random_mixtures(num=5).items() if m.num_components == 5}
PARTITION = gs.Partition([0, 1, 0, 1, 2])
GRID = np.linspace(2, -2, 3)


class Given(Source):
    """The rows themselves, scaled by the level: any numbers, in any chunks."""

    def draw(self, index, rows):
        return rows[:, 0]

    def statistics(self, log_snr, drawn):
        return PosteriorStatistics(log_snr * drawn, drawn + log_snr, drawn)


@pytest.mark.parametrize("number", [32, 1000, 1037])
@pytest.mark.parametrize("size", [64, 128, 4096])
def test_moments_of_chunks_are_the_moments_of_all_draws(number, size, rng):
    """Mean, standard error and batch means of 1 to 17 chunks, the last one ragged, against numpy."""
    values = 1e3 + rng.normal(size=(number, 1))
    chunks, seen = Chunks(number, min(size, number)), []
    levels = level_averages(
        Given(),
        jnp.asarray(GRID),
        chunks,
        rows=lambda i: chunks.rows(values, i, float),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (number, number)
    assert len(seen) == len(chunks)
    rates = values[:, 0] + GRID[:, None]
    np.testing.assert_allclose(levels.mean.rate, rates.mean(1), rtol=1e-14)
    np.testing.assert_allclose(
        levels.stderr.rate, rates.std(1, ddof=1) / np.sqrt(number), rtol=1e-9
    )
    whole = rates[:, : number // NUM_BATCHES * NUM_BATCHES]
    batches = whole.reshape(len(GRID), -1, NUM_BATCHES).mean(1)
    np.testing.assert_allclose(levels.batches.rate, batches, rtol=1e-14)
    assert levels.dof == number - 1


@pytest.mark.parametrize("partition", [None, PARTITION], ids=["components", "classes"])
def test_chunked_draws_average_to_the_statistics_of_all_of_them(partition, key):
    """Four chunks through the devices against the pure kernel on all their draws together."""
    mixture = MIXTURES["diagonal"]
    classes = gs.Partition.trivial(5) if partition is None else partition
    source = _Draws(mixture, classes, key, 256)
    levels = level_averages(source, jnp.asarray(GRID), Chunks(1000, 256))
    drawn = [source.draw(jnp.asarray(i), None) for i in range(4)]
    normals, component = (jnp.concatenate(parts)[:1000] for parts in zip(*drawn, strict=True))
    for t, level in enumerate(GRID):
        every = posterior_statistics(mixture, jnp.asarray(level), normals, component, classes)
        for name in ("entropy", "rate", "agreement"):
            values = np.asarray(getattr(every, name))
            np.testing.assert_allclose(getattr(levels.mean, name)[t], values.mean(), rtol=1e-12)
            error = values.std(ddof=1) / np.sqrt(1000)
            np.testing.assert_allclose(getattr(levels.stderr, name)[t], error, rtol=1e-9)


def test_streamed_draws_and_data_agree_with_the_integral(monkeypatch, key):
    """Chunks of 64 rows: drawn, given in memory and given on disk, against `exact`."""
    monkeypatch.setattr("gmm_speciation.sampling.averages._MOST_ROWS", 128)
    monkeypatch.setattr("gmm_speciation.sampling.averages._CHUNK_NUMBERS", 1)
    mixture = gs.families.symmetric_pair(3)
    truth = gs.entropy_curve(mixture, GRID, method="exact")
    samples = np.asarray(mixture.sample(key, 4000)[0])
    for curve in (
        gs.entropy_curve(mixture, GRID, method="monte-carlo", num_samples=4000),
        gs.entropy_curve(mixture, GRID, samples=samples),
        gs.entropy_curve(mixture, GRID, samples=jnp.asarray(samples)),
    ):
        assert_within(curve.entropy, truth.entropy.value)
        assert_within(curve.rate, truth.rate.value)


def test_given_data_do_not_depend_on_where_they_lie(tmp_path, rng):
    samples = rng.normal(size=(300, 4))
    on_disk = np.memmap(tmp_path / "samples", float, "w+", shape=samples.shape)
    on_disk[:] = samples
    for mixture in (MIXTURES["isotropic-shared"], MIXTURES["full"]):
        first, second = (
            data_levels(mixture, jnp.asarray(GRID), x) for x in (jnp.asarray(samples), on_disk)
        )
        jax.tree.map(np.testing.assert_array_equal, first, second)


def test_data_that_are_not_finite_are_refused(rng):
    samples = rng.normal(size=(300, 4))
    samples[7, 2] = np.nan
    for mixture in (MIXTURES["isotropic-shared"], MIXTURES["diagonal"]):
        with pytest.raises(ValueError, match="`samples` must be finite; rows 0 to 299"):
            gs.entropy_curve(mixture, GRID, samples=samples)


@pytest.mark.parametrize("name", ["isotropic-shared", "full-shared", "diagonal"])
def test_spread_of_crowded_classes_is_that_of_their_scores(name, key):
    """Nearly all of the spread of the component scores lies inside the classes."""
    mixture, labels = MIXTURES[name], [0, 0, 0, 0, 1]
    x = mixture.sample(key, 6)[0]
    difference = gs.class_scores(mixture, x, labels) - mixture.score(x)[:, None]
    expected = jnp.sum(gs.class_posterior(mixture, x, labels) * jnp.sum(difference**2, -1), -1)
    np.testing.assert_allclose(score_spread(mixture, x, labels), expected, rtol=1e-9)
    assert np.all(np.asarray(score_spread(mixture, x, [0] * 5)) <= 1e-28)


def test_spread_keeps_its_digits_where_a_class_is_certain():
    """p = (1 - 2e, e, e): the spread is 2e times the squared distance, for any e."""
    log_posterior = jnp.log(jnp.array([[1 - 2e-30, 1e-30, 1e-30]]))
    distances = jnp.array([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]])
    apart = pair_spread(log_posterior, distances, gs.Partition([0, 1, 2]))
    np.testing.assert_allclose(apart, 5e-30, rtol=1e-12)
    # The class of the last two has its mean at 1.5 on the line 0, 1, 2.
    line = jnp.array([[0.0], [1.0], [2.0]])
    for found in (
        pair_spread(log_posterior, distances, gs.Partition([0, 1, 1])),
        class_spread(line, gs.Partition([0, 1, 1]))(log_posterior),
    ):
        np.testing.assert_allclose(found, 2e-30 * 1.5**2, rtol=1e-12)


def test_spread_of_many_vectors_keeps_its_digits_where_a_class_is_certain():
    """Two classes on a line, by their means: p (1 - p) times the squared distance of these, for any p."""
    line, labels = jnp.arange(40.0)[:, None], np.arange(40) % 2
    posterior = np.where(labels == 0, 1 / 20, 1e-30 / 20)
    spread = class_spread(line, gs.Partition(labels))(jnp.log(jnp.asarray(posterior))[None])
    np.testing.assert_allclose(spread, 1e-30, rtol=1e-12)  # the means are 19 and 20


@pytest.mark.parametrize("apart", [1.0, 1e-7], ids=["even", "close pairs far from the centre"])
@pytest.mark.parametrize("count", [6, 40])
def test_spread_of_many_vectors_in_few_dimensions(count, apart, rng):
    """Against sums of differences in extended precision, however the vectors lie."""
    places = rng.normal(size=(count // 2, 2))
    vectors = np.concatenate([places, places + apart * rng.normal(size=places.shape)])
    posterior = np.zeros((3, count))
    posterior[:, :: count // 2] = 0.5  # a vector and its neighbour
    posterior[1] = rng.dirichlet(np.ones(count))
    wide = vectors.astype(np.longdouble)
    squares = ((wide[:, None] - wide[None, :]) ** 2).sum(-1)
    expected = np.einsum("nj,jk,nk->n", posterior, squares, posterior) / 2
    spread = class_spread(jnp.asarray(vectors), gs.Partition(range(count)))
    found = spread(jnp.log(jnp.asarray(posterior)))
    np.testing.assert_allclose(found, expected.astype(float), rtol=1e-7)


@pytest.mark.parametrize("name", MIXTURES)
def test_every_product_asks_for_full_precision(name, key):
    """Off the CPU a product without a word of precision drops to bfloat16 or TF32."""
    mixture = MIXTURES[name]
    x, _ = mixture.sample(key, 8)
    normals, component = jnp.ones((8, mixture.dim)), jnp.zeros(8, int)
    functions = {
        "posterior": lambda m: m.perturb(0.6, 0.8).log_posterior(x),
        "log_prob": lambda m: m.log_prob(x),
        "score": lambda m: m.perturb(0.6, 0.8).score(x),
        "spread": lambda m: score_spread(m, x),
        "class_scores": lambda m: gs.class_scores(m, x, PARTITION),
        "denoiser": lambda m: gs.denoiser(m, x, 0.6, 0.8),
        "moments": lambda m: m.moments(),
        "posterior_covariance": lambda m: gs.posterior_covariance(m, x[0], 0.6, 0.8),
        "statistics": lambda m: posterior_statistics(
            m, jnp.asarray(0.3), normals, component, PARTITION
        ),
    }
    if mixture.covariance.shared or name == "isotropic":
        reduced = gs.reduce(mixture)
        base = jnp.ones((8, reduced.num_normals)), jnp.ones(8), component
        functions["reduction"] = lambda m: reduced_statistics(
            reduced, jnp.asarray(0.3), *base, PARTITION
        )
    for what, function in functions.items():
        found = list(products(jax.make_jaxpr(function)(mixture).jaxpr))
        assert found or what in ("moments", "reduction"), f"no product in {what}"
        for equation, _ in found:
            asked = equation.params["precision"]
            assert asked == (jax.lax.Precision.HIGHEST,) * 2, f"{what}: {equation}"


PROGRAM = """
import json, resource, sys
import jax
import numpy as np
jax.config.update("jax_enable_x64", True)
arguments = json.loads(sys.argv[1])
if "process" in arguments:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(arguments["address"], 2, arguments["process"])
import gmm_speciation as gs
from gmm_speciation.sampling.monte_carlo import data_levels, sampled_levels
from gmm_speciation.sampling.quasi_monte_carlo import quasi_monte_carlo_levels
rng = np.random.default_rng(0)
grid = jax.numpy.linspace(2.0, -2.0, 3)
def numbers(levels):
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(levels)]
def results(mesh):
    own = gs.GaussianMixture.diagonal(rng0.normal(size=(3, 6)), rng0.uniform(0.2, 1, (3, 6)))
    shared = gs.GaussianMixture.isotropic(own.means, 0.5)
    data, labels = rng0.normal(size=(40_000, 6)), gs.Partition([0, 1, 0])
    return [
        numbers(sampled_levels(own, grid, num_samples=70_000, partition=labels, mesh=mesh)),
        numbers(data_levels(shared, grid, data, mesh=mesh)),
        numbers(quasi_monte_carlo_levels(gs.reduce(shared), grid, num_samples=2048, mesh=mesh)),
    ]
"""
SHARDED = """
found = {}
for count in arguments["counts"]:
    rng0 = np.random.default_rng(0)
    mesh = None if count is None else jax.sharding.Mesh(jax.devices()[:count], ("any",))
    found[str(count)] = results(mesh)
print(json.dumps({"devices": len(jax.devices()), "found": found}))
"""
STREAMED = """
mixture = gs.GaussianMixture.isotropic(rng.normal(size=(10, 64)), 0.7)
sampled_levels(mixture, grid[:1], num_samples=2**14)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
levels = sampled_levels(mixture, grid[:1], num_samples=arguments["num_samples"])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"growth": after - before, "dof": levels.dof}))
"""


def _start(script: str, arguments: dict, devices: int = 1) -> subprocess.Popen:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + script, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(gs.__file__).parent.parent,
    )


def _finish(process: subprocess.Popen) -> dict:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


def test_the_number_of_devices_and_hosts_does_not_enter():
    """1, 3 and 8 devices of one process, and two processes of one device each."""
    eight = _finish(_start(SHARDED, {"counts": [1, 3, None]}, devices=8))
    assert eight["devices"] == 8
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    hosts = [
        _start(SHARDED, {"counts": [None], "process": i, "address": address}) for i in range(2)
    ]
    hosts = [_finish(host) for host in hosts]
    assert [host["devices"] for host in hosts] == [2, 2]
    several = eight["found"]["3"]
    assert eight["found"]["None"] == several
    assert [host["found"]["None"] for host in hosts] == [several, several]
    # For one device the compiler orders a few sums otherwise: the last digits of float64.
    for one, many in zip(eight["found"]["1"], several, strict=True):
        for a, b in zip(one, many, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


def test_memory_does_not_grow_with_the_draws():
    """2^20 draws in 64 dimensions: the normals alone would fill 512 MB."""
    found = _finish(_start(STREAMED, {"num_samples": 2**20}))
    assert found["dof"] == 2**20 - 1
    assert found["growth"] < 64 * 1024  # kilobytes
