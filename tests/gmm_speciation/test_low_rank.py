"""Low-rank covariances are the full ones `F F^T + v I`, without their d x d arrays."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation.covariances import LowRank
from gmm_speciation.specs import mixture_from_spec

K, D, R = 3, 7, 2
RNG = np.random.default_rng(5)
MEANS = 2.0 + RNG.normal(size=(K, D))
FACTORS = RNG.normal(size=(K, D, R))
VARIANCES = np.array([0.3, 0.5, 0.2])
WEIGHTS = np.array([0.5, 0.3, 0.2])


def dense(factors, variances):
    return factors @ np.swapaxes(factors, -1, -2) + np.asarray(variances)[..., None, None] * np.eye(
        D
    )


PAIRS = {
    "shared": (
        gs.GaussianMixture.low_rank(MEANS, FACTORS[0], 0.3, WEIGHTS),
        gs.GaussianMixture.full(MEANS, dense(FACTORS[0], 0.3), WEIGHTS),
    ),
    "each": (
        gs.GaussianMixture.low_rank(MEANS, FACTORS, VARIANCES, WEIGHTS),
        gs.GaussianMixture.full(MEANS, dense(FACTORS, VARIANCES), WEIGHTS),
    ),
    "one factor, variances that differ": (
        gs.GaussianMixture.low_rank(MEANS, FACTORS[0], VARIANCES, WEIGHTS),
        gs.GaussianMixture.full(MEANS, dense(np.stack([FACTORS[0]] * K), VARIANCES), WEIGHTS),
    ),
    "rank deficient": (
        gs.GaussianMixture.low_rank(MEANS, FACTORS[:, :, [0, 0]], 0.4, WEIGHTS),
        gs.GaussianMixture.full(MEANS, dense(FACTORS[:, :, [0, 0]], np.full(K, 0.4)), WEIGHTS),
    ),
    "more factors than dimensions": (
        gs.GaussianMixture.low_rank(MEANS, np.tile(FACTORS, (1, 1, 5)), 0.1, WEIGHTS),
        gs.GaussianMixture.full(
            MEANS, dense(np.tile(FACTORS, (1, 1, 5)), np.full(K, 0.1)), WEIGHTS
        ),
    ),
    "no factor": (
        gs.GaussianMixture.low_rank(MEANS, np.zeros((D, 0)), 0.4, WEIGHTS),
        gs.GaussianMixture.full(MEANS, 0.4 * np.eye(D), WEIGHTS),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("level", [None, (0.8, 0.6), (1.0, 1e-3)])
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


def test_derivatives_in_means_factors_and_variance():
    x = jnp.asarray(RNG.normal(size=(4, D)) + 2)

    def log_prob(means, factors, variance, low):
        if low:
            mixture = gs.GaussianMixture.low_rank(means, factors, variance, WEIGHTS)
        else:
            matrices = factors @ factors.mT + variance[:, None, None] * jnp.eye(D)[None]
            inverse = jnp.linalg.inv(matrices)
            residual = x[:, None] - means[None]
            square = jnp.einsum("nki,kij,nkj->nk", residual, inverse, residual)
            volume = jnp.linalg.slogdet(matrices)[1]
            logs = (
                jnp.log(jnp.asarray(WEIGHTS))[None]
                - (square + volume[None] + D * jnp.log(2 * jnp.pi)) / 2
            )
            return jax.nn.logsumexp(logs, -1).sum()
        return mixture.log_prob(x).sum()

    arguments = tuple(map(jnp.asarray, (MEANS, FACTORS, VARIANCES)))
    gradients = [jax.grad(log_prob, (0, 1, 2))(*arguments, low) for low in (True, False)]
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)


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
