"""Digits that are easily lost: float32 in high dimension, and the ends of every range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from theory_contracts import random_mixtures

import gmm_speciation as gs
from gmm_speciation.inference import score_spread
from gmm_speciation.posteriors import class_spread
from gmm_speciation.sampling.monte_carlo import posterior_statistics

DIM = 16384


def _means_and_data(offset: float, seed: int = 0):
    """Ten classes with decision SNR of order 1 in 16384 dimensions, shifted, rounded to float32."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(10, DIM)) * np.sqrt(2.0 / DIM) + offset
    x = means[rng.integers(10, size=256)] + rng.normal(size=(256, DIM))
    return means.astype(np.float32), x.astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
def test_float32_posteriors_keep_their_digits_in_high_dimension(offset, kind):
    """Within 2e-6 of float64 on the same rounded inputs, clean and after a forward step."""
    means, x = _means_and_data(offset)
    variance = (
        np.float32(1.0) if kind == "isotropic" else np.linspace(0.5, 1.5, DIM, dtype=np.float32)
    )
    make = getattr(gs.GaussianMixture, kind)
    single = make(means, variance)
    assert single.centre.dtype == jnp.float32
    double = make(means.astype(float), np.asarray(variance, float))
    truth = double.posterior(jnp.asarray(x, jnp.float64))
    assert 0.05 < float(truth.max(-1).mean()) < 0.95  # undecided: the test has something to lose
    posterior = single.posterior(jnp.asarray(x))
    assert posterior.dtype == jnp.float32
    assert float(jnp.abs(posterior - truth).max()) < 2e-6

    alpha, sigma = np.float32(0.8), np.float32(0.6)
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    x_t = alpha * x + sigma * noise
    truth = double.perturb(float(alpha), float(sigma)).posterior(jnp.asarray(x_t, jnp.float64))
    posterior = single.perturb(alpha, sigma).posterior(jnp.asarray(x_t))
    assert float(jnp.abs(posterior - truth).max()) < 2e-6


def test_the_common_part_would_cost_these_digits():
    """Without centring, the textbook formula in float32 is off by far more: the test above is sharp."""
    means, x = _means_and_data(10.0)
    truth = gs.GaussianMixture.isotropic(means.astype(float), 1.0).posterior(jnp.asarray(x, float))
    squares = ((x**2).sum(1)[:, None] - 2 * x @ means.T + (means**2).sum(1)[None]).astype(
        np.float32
    )
    naive = jax.nn.softmax(jnp.asarray(-squares / 2), -1)
    assert float(jnp.abs(naive - truth).max()) > 1e-3


def test_no_array_of_samples_components_dimensions():
    """The compiled posterior of isotropic and diagonal mixtures holds no (n, K, d) array."""
    n, num, dim = 64, 10, 4096
    for v in (jnp.ones(num), jnp.linspace(0.5, 1.5, num)):
        x = jnp.ones((n, dim))

        def posterior(means, x, v=v):
            mixture = gs.GaussianMixture.isotropic(means, v)
            return mixture.posterior(x), mixture.score(x)

        memory = jax.jit(posterior).lower(jnp.ones((num, dim)), x).compile().memory_analysis()
        assert memory.temp_size_in_bytes < n * num * dim * 8 / 2


LEVELS = np.array([np.inf, 800.0, 200.0, 60.0, 0.0, -60.0, -200.0, -800.0, -np.inf])


def _edge_mixtures():
    mixtures = random_mixtures()
    means = np.asarray(mixtures["full"].means)
    make = gs.GaussianMixture
    mixtures |= {
        "points": make.isotropic(means, 0.0),
        "point and cloud": make.isotropic(means, [0.0, 0.5, 1.0]),
        "rank-deficient": make.full(means, np.diag([1.0, 1.0, 0.0, 0.0])),
        "rank-deficient, not shared": make.full(
            means, np.stack([np.diag([1.0, 1, 0, 0]), np.diag([0.0, 1, 1, 0]), np.eye(4)])
        ),
        "flat diagonal": make.diagonal(means, [0.0, 0.0, 1.0, 1.0]),
        "weight zero": make.isotropic(means, 1.0, [0.5, 0.5, 0.0]),
        "weight 1e-300": make.isotropic(means, 1.0, [0.5, 0.5, 1e-300]),
        "weight one": make.isotropic(means, 1.0, [1.0, 0.0, 0.0]),
        "one class": make.isotropic(means[:1], 1.0),
        "coincident": make.isotropic(means * 0, 1.0),
        "coincident points": make.isotropic(means * 0, 0.0),
        "far": make.isotropic(means * 1e8, 1.0),
    }
    return mixtures


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name in ("isotropic", "one-component")
        else name
        for name in _edge_mixtures()
    ],
)
def test_no_nan_at_the_ends(name, precision):
    mixture = _edge_mixtures()[name]
    k = mixture.num_components
    entropy = gs.class_entropy(mixture, LEVELS, method="monte-carlo", num_samples=64)
    rate = gs.entropy_rate(mixture, LEVELS, method="monte-carlo", num_samples=64)
    for values in (entropy.value, entropy.stderr, rate.value, rate.stderr):
        assert np.all(np.isfinite(values))
    total = float(gs.prior_entropy(mixture))
    np.testing.assert_allclose(
        float(entropy.value[-1]), total, atol=1e-5
    )  # pure noise knows nothing
    assert np.all(entropy.value >= -1e-6)
    assert np.all(entropy.value <= np.log(k) + 1e-6)
    np.testing.assert_allclose(np.asarray(rate.value)[[0, -1]], 0.0, atol=1e-6)
    # Squares of the noise must exist in the dtype: 1e15 in float32, 1e150 in float64.
    largest = 1e15 if mixture.centre.dtype == jnp.float32 else 1e150
    for alpha, sigma in [(1.0, 0.0), (1.0, 1e-30), (1.0, largest), (0.0, 1.0)]:
        noisy = mixture.perturb(alpha, sigma)
        x = noisy.sample(jax.random.key(0), 16)[0]
        posterior = noisy.posterior(x)
        assert np.all(np.isfinite(posterior))
        np.testing.assert_allclose(posterior.sum(-1), 1.0, rtol=1e-5)


def test_points_without_noise_are_certain(precision):
    mixture = _edge_mixtures()["points"]
    np.testing.assert_allclose(mixture.posterior(mixture.means), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("name", ["full", "isotropic", "diagonal-shared", "weight zero", "points"])
def test_gradients_of_the_kernel_are_finite_and_right(name, key):
    """d/dlambda and d/dmeans of the sampled entropy at fixed base normals."""
    mixture = _edge_mixtures()[name]
    normals = jax.random.normal(key, (256, mixture.dim))
    component = jax.random.categorical(jax.random.key(5), mixture.log_weights, shape=(256,))

    def entropy(level, offsets):
        level = jnp.asarray(level)
        import equinox as eqx

        moved = eqx.tree_at(lambda m: m.offsets, mixture, offsets)
        return posterior_statistics(moved, level, normals, component).entropy.mean()

    by_level, by_means = jax.jit(jax.grad(entropy, (0, 1)))(jnp.asarray(0.3), mixture.offsets)
    assert np.all(np.isfinite(by_means))
    step = 1e-5
    numeric = (entropy(0.3 + step, mixture.offsets) - entropy(0.3 - step, mixture.offsets)) / (
        2 * step
    )
    np.testing.assert_allclose(by_level, numeric, rtol=1e-5, atol=1e-9)
    direction = jax.random.normal(jax.random.key(6), mixture.offsets.shape)
    up, down = (entropy(0.3, mixture.offsets + sign * step * direction) for sign in (1, -1))
    np.testing.assert_allclose(
        (by_means * direction).sum(), (up - down) / (2 * step), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("groups", [None, 4])
@pytest.mark.parametrize("count", [5, 60, 1100])
def test_a_spread_keeps_its_digits_where_a_class_is_certain(count, groups, dtype, rng):
    """By pairs, by moments, by classes and in blocks, against differences in extended precision."""
    vectors = (rng.normal(size=(count, 3)) + 2).astype(dtype)
    labels = np.arange(count) % (groups or count)
    logits = np.array([0, 20, 60])[:, None] * (np.arange(count) == 1) + rng.normal(size=(3, count))
    log_posterior = (logits - special.logsumexp(logits, 1, keepdims=True)).astype(dtype)
    found = class_spread(jnp.asarray(vectors), gs.Partition(labels))(jnp.asarray(log_posterior))

    weights = np.exp(log_posterior.astype(np.longdouble))
    member = (labels == np.arange(labels.max() + 1)[:, None]).astype(np.longdouble)
    classes = weights @ member.T
    means = np.einsum("nk,ck,kd->ncd", weights, member, vectors) / classes[..., None]
    truth = [
        np.sum(p * np.sum(p[:, None] * np.sum((a - a[:, None]) ** 2, -1), 0)) / 2
        for p, a in zip(classes, means, strict=True)
    ]
    np.testing.assert_allclose(found, np.array(truth, float), rtol=300 * np.finfo(dtype).eps)


POINTS = {
    "isotropic": lambda means, d: gs.GaussianMixture.isotropic(means, d(0)),
    "diagonal": lambda means, d: gs.GaussianMixture.diagonal(
        means, np.full(len(means[0]), d(1e-9))
    ),
    "full": lambda means, d: gs.GaussianMixture.full(
        means, d(1e-9) * np.eye(len(means[0]), dtype=d)
    ),
    "factors": lambda means, d: gs.GaussianMixture.low_rank(
        means, np.full((len(means[0]), 1), d(1e-5)), d(1e-9)
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", POINTS)
@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.usefixtures("optimised")  # products round otherwise where they are not
def test_nothing_is_decided_beyond_the_last_decision(count, kind, dtype, rng):
    """All but points: from a log-SNR of 15 on one class is certain, and the rate is 0 to the last digit."""
    lattice = rng.permutation(np.indices((4, 4, 4)).reshape(3, -1).T)[:count]
    means = (2 * lattice + rng.uniform(size=lattice.shape) / 2).astype(dtype)
    mixture = POINTS[kind](means, dtype)
    curve = gs.entropy_curve(mixture, np.r_[np.arange(25, 14, -1), -2].astype(dtype))
    for values in (curve.rate.value, curve.rate.stderr, curve.entropy.value):
        np.testing.assert_array_equal(np.asarray(values)[:-1], 0)
    assert curve.rate.value[-1] > 0.1
    spread = score_spread(mixture.perturb(dtype(1), dtype(1e-3)), means + dtype(1e-4))
    np.testing.assert_array_equal(spread, 0)
