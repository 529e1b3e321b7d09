"""Low-rank covariances are the full ones `F F^T + v I`, without their d x d arrays."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation.cli.mixtures import mixture_from_spec
from gmm_speciation.covariances import LowRank
from gmm_speciation.sampling.monte_carlo import posterior_statistics

K, D, R = 3, 7, 2
RNG = np.random.default_rng(5)
MEANS = 2.0 + RNG.normal(size=(K, D))
FACTORS = RNG.normal(size=(K, D, R))
VARIANCES = np.array([0.3, 0.5, 0.2])
WEIGHTS = np.array([0.5, 0.3, 0.2])


def dense(factors, variances):
    return factors @ factors.mT + np.asarray(variances)[..., None, None] * np.eye(D)


def pair(factors, variances):
    """One law with low-rank covariances and with full ones."""
    low = gs.GaussianMixture.low_rank(MEANS, factors, variances, WEIGHTS)
    return low, gs.GaussianMixture.full(MEANS, dense(factors, variances), WEIGHTS)


PAIRS = {
    "shared": pair(FACTORS[0], 0.3),
    "each": pair(FACTORS, VARIANCES),
    "one factor, variances that differ": pair(FACTORS[0], VARIANCES),
    "rank deficient": pair(FACTORS[:, :, [0, 0]], 0.4),
    "more factors than dimensions": pair(np.tile(FACTORS, (1, 1, 5)), 0.1),
    "no factor": pair(np.zeros((D, 0)), 0.4),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    "level", [(0.8, 0.6), (1.0, 1e-3), pytest.param(None, marks=pytest.mark.slow)]
)
def test_every_law_is_that_of_the_full_covariance(name, level):
    low, full = PAIRS[name]
    alpha, sigma = level or (1.0, 0.5)
    x = full.sample(jax.random.key(0), 20)[0] * alpha + 0.1
    np.testing.assert_allclose(
        gs.denoiser(low, x, alpha, sigma), gs.denoiser(full, x, alpha, sigma), rtol=1e-9, atol=1e-10
    )
    if level is not None:
        low, full = low.perturb(alpha, sigma), full.perturb(alpha, sigma)
    np.testing.assert_allclose(low.log_prob(x), full.log_prob(x), rtol=1e-10)
    np.testing.assert_allclose(low.posterior(x), full.posterior(x), atol=1e-10)
    np.testing.assert_allclose(low.score(x), full.score(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(low.moments().covariance, full.moments().covariance, atol=1e-12)
    np.testing.assert_allclose(
        np.sort(low.covariance.eigenvalues(D)), np.sort(full.covariance.eigenvalues(D)), atol=1e-12
    )
    np.testing.assert_allclose(
        low.covariance.log_determinant(D), full.covariance.log_determinant(D), rtol=1e-10
    )


@pytest.mark.parametrize("name", ["shared", "each"])
def test_curves_and_criteria_are_those_of_the_full_covariance(name):
    low, full = PAIRS[name]
    grid = np.linspace(4.0, -4.0, 5)
    curves = [
        gs.entropy_curve(m, grid, num_samples=256, key=jax.random.key(1)) for m in (low, full)
    ]
    assert curves[0].method == curves[1].method
    truth, ours = curves[1].entropy, curves[0].entropy
    # One set of Sobol points where it is reduced; otherwise other roots turn the same normals.
    allowed = 5 * np.hypot(np.asarray(truth.stderr), np.asarray(ours.stderr)) + 1e-9
    assert np.all(np.abs(np.asarray(ours.value) - np.asarray(truth.value)) < allowed)
    np.testing.assert_allclose(
        gs.speciation.top_eigenvalue(low), gs.speciation.top_eigenvalue(full), rtol=1e-9
    )


@pytest.mark.parametrize("tilt", [0.0, 1e-3])
def test_the_symmetric_state_turns_where_that_of_the_full_covariance_does(tilt):
    """Two opposite means; a factor that differs a little takes the path of separate covariances."""
    means, factors = np.stack([MEANS[0], -MEANS[0]]), np.stack([FACTORS[0], FACTORS[0]])
    factors[1, :, 0] *= -1 - tilt  # the sign of a factor's column does not matter
    low = gs.GaussianMixture.low_rank(means, factors, 0.3)
    full = gs.GaussianMixture.full(means, dense(factors, np.full(2, 0.3)))
    assert not low.covariance.shared
    ours, theirs = (gs.speciation.curvature_point(m) for m in (low, full))
    assert (ours.log_snr is None) == (theirs.log_snr is None)
    if tilt == 0.0:
        np.testing.assert_allclose(ours.log_snr.value, theirs.log_snr.value, atol=1e-7)


def test_the_reduction_has_one_gram_matrix_an_axis_and_one_across():
    low, full = PAIRS["shared"]
    ours, theirs = gs.reduce(low), gs.reduce(full)
    assert ours.core.shape[0] == R + 1
    for level in (3.0, 0.0, -3.0):
        a, b = (np.asarray(one.locations(jnp.asarray(level))) for one in (ours, theirs))
        np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-9)


@pytest.mark.slow
def test_a_manifold_in_a_hundred_thousand_dimensions():
    """The posterior in d = 1e5 is that of the span of means and factors; no d x d array is formed."""
    dim, rng = 100_000, np.random.default_rng(0)
    frame = np.linalg.qr(rng.normal(size=(dim, 6)))[0]
    means, factors = RNG.normal(size=(3, 6)), RNG.normal(size=(3, 6, 2))
    high = gs.GaussianMixture.low_rank(means @ frame.T, frame @ factors, 0.5)
    low = gs.GaussianMixture.low_rank(means, factors, 0.5)
    x, _ = high.sample(jax.random.key(2), 8)
    np.testing.assert_allclose(high.posterior(x), low.posterior(x @ frame), atol=1e-9)
    np.testing.assert_allclose(high.score(x) @ frame, low.score(x @ frame), atol=1e-9)
    assert 0.4 < float(jnp.mean(jnp.sum((x - x @ frame @ frame.T) ** 2, -1)) / dim) < 0.6


X = jnp.asarray(RNG.normal(size=(4, D)) + 2)


def dense_log_prob(means, factors, variance):
    """By inverses and determinants, which are smooth in every F."""
    matrices = factors @ factors.mT + variance[:, None, None] * jnp.eye(D)[None]
    residual = X[:, None] - means[None]
    square = jnp.einsum("nki,kij,nkj->nk", residual, jnp.linalg.inv(matrices), residual)
    volume = jnp.linalg.slogdet(matrices)[1] + D * jnp.log(2 * jnp.pi)
    return jax.nn.logsumexp(jnp.log(WEIGHTS)[None] - (square + volume[None]) / 2, -1).sum()


def law(means, factors, variance):
    """As the constructor, less its checks, which take long to compile."""
    covariance, centre = LowRank.from_factors(factors, variance), means.mean(0)
    return gs.GaussianMixture(jnp.log(WEIGHTS), centre, means - centre[None], covariance)


def log_prob(means, factors, variance):
    return law(means, factors, variance).log_prob(X).sum()


SLOPES = [jax.jit(jax.grad(f, (0, 1, 2))) for f in (log_prob, dense_log_prob)]
FRAME = np.linalg.qr(FACTORS)[0]
POINTS = {
    "apart": FACTORS,
    "zero": np.zeros((K, D, R)),
    "equal columns": FACTORS[:, :, [0, 0]],
    "equal singular values": 1.5 * FRAME,
    "nearly equal singular values": FRAME * np.array([1.0, 1.0 + 1e-9]),
    "close singular values": FRAME * np.array([1.0, 1.0 + 1e-5]),
    "one zero column": FACTORS * np.array([1.0, 0.0]),
    "columns of every size": FRAME * np.array([1e3, 1e-3]),
    "more factors than dimensions": np.tile(FACTORS, (1, 1, 5)),
    "none": np.zeros((K, D, 0)),
}


@pytest.mark.parametrize("name", POINTS)
def test_derivatives_are_those_of_the_dense_density(name):
    """Also where singular values meet or vanish, and eigenvectors have no derivative."""
    arguments = tuple(map(jnp.asarray, (MEANS, POINTS[name], VARIANCES)))
    ours, theirs = (slopes(*arguments) for slopes in SLOPES)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-7, atol=1e-8 * max(1, np.abs(b).max(initial=0)))


@jax.jit
def entropy_and_rate(factors, variance):
    normals, component = jax.random.normal(jax.random.key(3), (64, D)), jnp.arange(64) % K
    mixture = law(jnp.asarray(MEANS), factors, variance)
    found = posterior_statistics(mixture, jnp.asarray(0.5), normals, component)
    return found.entropy.mean() + found.rate.mean()


entropy_slopes = jax.jit(jax.grad(entropy_and_rate, (0, 1)))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", [name for name in POINTS if POINTS[name].shape[-1] == R])
@pytest.mark.slow
def test_derivatives_of_the_entropy_are_its_differences(name, shared):
    """Through the square root that colours the draws, the posterior and the scores."""
    factors = jnp.asarray(POINTS[name][:1] if shared else POINTS[name])
    variance = jnp.asarray(VARIANCES[:1] if shared else VARIANCES)
    turn = jax.random.normal(jax.random.key(7), factors.shape) * (1e-3 + jnp.abs(factors))
    in_factors, in_variance = entropy_slopes(factors, variance)

    def difference(value, step=1e-5):
        one, two = ((value(h) - value(-h)) / (2 * h) for h in (step, 2 * step))
        return (4 * one - two) / 3  # of fourth order

    expected = difference(lambda h: entropy_and_rate(factors + h * turn, variance))
    np.testing.assert_allclose(jnp.sum(in_factors * turn), expected, rtol=1e-6, atol=1e-9)
    expected = difference(lambda h: entropy_and_rate(factors, variance + h))
    np.testing.assert_allclose(in_variance.sum(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_second_derivatives_where_singular_values_are_apart():
    means, factors, variance = map(jnp.asarray, (MEANS, FACTORS, VARIANCES))
    along = jax.random.normal(jax.random.key(1), factors.shape)

    def second(function):
        slope = jax.grad(lambda f: function(means, f, variance))
        return jax.jit(lambda f: jax.jvp(slope, (f,), (along,))[1])(factors)

    np.testing.assert_allclose(second(log_prob), second(dense_log_prob), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["shared", "each"])
@pytest.mark.slow
def test_posterior_covariances_and_class_scores(name):
    low, full = PAIRS[name]
    x = jnp.asarray(MEANS[0] + 0.3)
    ours, theirs = (gs.posterior_covariance(m, x, 0.8, 0.6) for m in (low, full))
    np.testing.assert_allclose(ours, theirs, atol=1e-11)
    ours, theirs = (gs.class_scores(m.perturb(0.8, 0.6), x, [0, 0, 1]) for m in (low, full))
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_float32_keeps_posteriors_far_from_the_origin_and_across_variances(shared):
    """An offset of 100 a coordinate, variances along the axes 1e6 times those across them."""
    axes = np.linalg.qr(RNG.normal(size=(64, 3)))[0] * np.array([30.0, 10.0, 1.0])
    factors = axes if shared else np.stack([axes, axes + 1e-3 * RNG.normal(size=axes.shape)])
    means = 100.0 + 5e-3 * RNG.normal(size=(2, 64))
    exact = gs.GaussianMixture.low_rank(means, factors, 1e-3)
    x = np.asarray(exact.sample(jax.random.key(0), 200)[0], np.float32)
    truth = exact.posterior(x.astype(float))
    assert np.mean(truth.min(-1) > 0.05) > 0.5
    with jax.enable_x64(False):
        single = gs.GaussianMixture.low_rank(means, factors, 1e-3).posterior(x)
    assert single.dtype == jnp.float32
    # Means are rounded too: eps |mu| = 1e-5 beside deviations of 0.03.
    np.testing.assert_allclose(single, truth, atol=1e-3)


def test_equal_eigenvalues_share_a_gram_matrix():
    count = {name: len(gs.reduce(PAIRS[name][0]).eigenvalues) for name in ("shared", "no factor")}
    assert count == {"shared": R + 1, "no factor": 1}
    flat = gs.GaussianMixture.low_rank(MEANS, FACTORS[0] * np.array([1.0, 0.0]), 0.3)
    assert len(gs.reduce(flat).eigenvalues) == 2
    with pytest.raises(gs.NotReducibleError, match="low-rank covariances"):
        gs.reduce(PAIRS["each"][0])


def test_points_on_the_manifold_are_finite():
    flat = gs.GaussianMixture.low_rank(MEANS, FACTORS, 0.0, WEIGHTS)
    x, component = flat.sample(jax.random.key(3), 30)
    posterior = np.asarray(flat.posterior(x))
    assert np.all(np.isfinite(posterior))
    assert np.all(posterior[np.arange(30), component] > 0.99)


def test_average_of_precisions():
    matrices = LowRank.from_factors(jnp.asarray(FACTORS), jnp.asarray(VARIANCES)).map(
        lambda v: 1 / v
    )
    weights = jnp.asarray(WEIGHTS)
    dense_average = jnp.einsum("k,kij->ij", weights, matrices.matrices(D))
    np.testing.assert_allclose(matrices.average(weights).matrices(D)[0], dense_average, atol=1e-12)


def test_files_and_errors(tmp_path):
    path = tmp_path / "manifold.json"
    content = {"means": MEANS.tolist(), "factors": FACTORS.tolist(), "variance": 0.3}
    path.write_text(json.dumps(content))
    assert isinstance(mixture_from_spec(str(path), {}).mixture.covariance, LowRank)
    path.write_text(json.dumps(content | {"variance": None, "variances": [1.0] * D}))
    with pytest.raises(ValueError, match="variance"):
        mixture_from_spec(str(path), {})
    with pytest.raises(ValueError, match=r"`factors` must have shape \(3, 7, r\)"):
        gs.GaussianMixture.low_rank(MEANS, FACTORS[:, :3], 0.3)
    with pytest.raises(ValueError, match="must not be negative"):
        gs.GaussianMixture.low_rank(MEANS, FACTORS, -0.1)
