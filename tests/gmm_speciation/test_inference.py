"""Class posteriors, class scores, denoisers: identities that hold for every mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from theory_contracts import products, random_mixtures

import gmm_speciation as gs
from gmm_speciation.covariances.products import by_group
from gmm_speciation.inference import noised_log_posterior, score_spread, spread_of

MIXTURES = {k: m for k, m in random_mixtures(num=5).items() if m.num_components == 5}
PARTITION = gs.Partition([0, 1, 0, 1, 2])
ALPHA, SIGMA = 0.8, 0.6


@pytest.fixture(params=MIXTURES)
def mixture(request):
    return MIXTURES[request.param]


def test_class_score_is_the_gradient_of_the_class_density(mixture, key):
    x = mixture.sample(key, 5)[0]
    scores = gs.class_scores(mixture=mixture, x=x, partition=PARTITION)

    def class_log_prob(x, c):
        return gs.log_class_posterior(mixture, x, PARTITION)[c] + mixture.log_prob(x)

    for c in range(3):
        gradient = jax.vmap(jax.grad(class_log_prob), (0, None))(x, c)
        np.testing.assert_allclose(scores[:, c], gradient, rtol=1e-8, atol=1e-10)


def test_posterior_average_of_class_scores_is_the_score(mixture, key):
    x = mixture.sample(key, 5)[0]
    average = jnp.einsum(
        "nc,ncd->nd",
        gs.class_posterior(mixture, x, PARTITION),
        gs.class_scores(mixture, x, PARTITION),
    )
    np.testing.assert_allclose(average, mixture.score(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("partition", [None, PARTITION])
def test_spread_is_the_posterior_variance_of_the_class_score(mixture, key, partition):
    """The quadratic form in the Gram matrix against the class scores themselves."""
    x = mixture.sample(key, 5)[0]
    difference = gs.class_scores(mixture, x, partition) - mixture.score(x)[:, None]
    posterior = gs.class_posterior(mixture, x, partition)
    expected = jnp.sum(posterior * jnp.sum(difference**2, -1), -1)
    np.testing.assert_allclose(score_spread(mixture, x, partition), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "low-rank"])
@pytest.mark.parametrize("partition", [None, [0, 1, 0, 1, 2]])
@pytest.mark.parametrize(
    ("dtype", "rtol", "least"), [(np.float64, 1e-9, 0.01), (np.float32, 2e-4, 1.0)]
)
def test_spread_of_own_matrices_against_dense_inverses(
    kind, partition, dtype, rtol, least, rng, monkeypatch
):
    """States that a class is certain of and others, in blocks of rows; float32 with what it can resolve."""
    monkeypatch.setattr("gmm_speciation.inference._BLOCK_NUMBERS", 1)
    count, dim = 5, 7
    means = rng.normal(size=(count, dim)).astype(dtype)
    factors = rng.normal(size=(count, dim, 3)).astype(dtype) * np.array([3, 1e-1, 1e-3], dtype)
    dense = np.float64(factors) @ np.float64(factors).mT + least * np.eye(dim)
    weights = np.array([0.1, 0.2, 0.3, 0.15, 0.25], dtype)
    if kind == "full":
        mixture = gs.GaussianMixture.full(means, dense.astype(dtype), weights)
    else:
        mixture = gs.GaussianMixture.low_rank(means, factors, least, weights)
    x = np.concatenate([means + 0.05, rng.normal(size=(18, dim))]).astype(dtype)
    groups = gs.Partition(np.arange(count) if partition is None else partition)
    found = spread_of(
        mixture, mixture.centred(jnp.asarray(x)), mixture.log_posterior(jnp.asarray(x)), groups
    )
    inverse = np.linalg.inv(dense)
    offset = x[:, None].astype(float) - means[None]
    scores = -np.einsum("kij,nkj->nki", inverse, offset)
    log_joint = np.log(np.float64(weights)) + np.linalg.slogdet(inverse)[1] / 2
    log_joint = log_joint + np.einsum("nki,nki->nk", scores, offset) / 2
    posterior = np.exp(log_joint - np.logaddexp.reduce(log_joint, 1, keepdims=True))
    expected = np.zeros(len(x))
    mean = np.einsum("nk,nki->ni", posterior, scores)
    for c in range(groups.num_classes):
        own = posterior * (np.asarray(groups.labels) == c)
        with np.errstate(invalid="ignore"):
            of_class = np.einsum("nk,nki->ni", own, scores) / own.sum(1, keepdims=True)
        part = own.sum(1) * ((of_class - mean) ** 2).sum(1)
        expected += np.where(own.sum(1) > 0, part, 0.0)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * 1e-3)


def test_posteriors_along_the_noise_are_those_level_by_level(mixture, key, rng):
    clean = mixture.sample(key, 30)[0]
    noise, sigmas = (
        jnp.asarray(rng.normal(size=clean.shape)),
        jnp.array([1e-6, 1e-3, 0.1, 3.0, 1e4]),
    )
    found = noised_log_posterior(mixture, clean, noise, sigmas)
    for sigma, level in zip(sigmas, found, strict=True):
        expected = mixture.perturb(1.0, sigma).log_posterior(clean + sigma * noise)
        np.testing.assert_allclose(level, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("num", "count"), [(1, 5), (5, 5), (200, 3), (700, 5), (40, 60)])
def test_rows_of_a_group_are_all_of_its_rows(num, count, rng):
    """Groups of any size, also empty ones, against one row after the other."""
    index = rng.integers(count, size=num) // 2 * 2 % count  # odd groups are empty
    matrices, rows = rng.normal(size=(count, 6, 6)), rng.normal(size=(num, 6))
    found = by_group(
        lambda k, part: part @ jnp.asarray(matrices)[k],
        jnp.asarray(rows),
        jnp.asarray(index),
        count,
    )
    expected = np.einsum("ni,nij->nj", rows, matrices[index])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [4, 16])
def test_spread_of_own_matrices_forms_each_score_once(count, rng):
    """Two products with every matrix, whatever the number of classes, and one of contrasts and scores."""
    dim, num = 12, 40
    factors = rng.normal(size=(count, dim, dim))
    mixture = gs.GaussianMixture.full(rng.normal(size=(count, dim)), factors @ factors.mT)
    y = jnp.zeros((num, dim))
    posterior, groups = jnp.full((num, count), -np.log(count)), gs.Partition(np.arange(count))
    jaxpr = jax.make_jaxpr(lambda y: spread_of(mixture, y, posterior, groups))(y)
    total = 0  # of multiplications
    for equation, times in products(jaxpr.jaxpr):
        (contracted, _), _ = equation.params["dimension_numbers"]
        shared = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
        total += times * np.prod(equation.outvars[0].aval.shape) * shared
    assert 1 <= total / (num * count * dim**2) <= 2.5 + count / dim


def test_denoiser_is_tweedies_formula(mixture, key):
    noisy = mixture.perturb(ALPHA, SIGMA)
    x = noisy.sample(key, 5)[0]
    tweedie = (x + SIGMA**2 * noisy.score(x)) / ALPHA
    np.testing.assert_allclose(gs.denoiser(mixture, x, ALPHA, SIGMA), tweedie, rtol=1e-9)
    classes = gs.class_denoisers(mixture, x, ALPHA, SIGMA, PARTITION)
    scores = gs.class_scores(noisy, x, PARTITION)
    np.testing.assert_allclose(classes, (x[:, None] + SIGMA**2 * scores) / ALPHA, rtol=1e-9)


def test_denoiser_at_the_ends(mixture, key):
    x = mixture.sample(key, 5)[0]
    np.testing.assert_allclose(gs.denoiser(mixture, x, 1.0, 1e-9), x, rtol=1e-7)
    mean = jnp.broadcast_to(mixture.moments().mean, x.shape)
    np.testing.assert_allclose(gs.denoiser(mixture, x, 1.0, 1e9), mean, atol=1e-6)


def test_posterior_covariance_is_the_hessian(mixture, key):
    """`Cov[x_0 | x] = (sigma^2 / alpha^2) (I + sigma^2 grad^2 log p)`."""
    noisy = mixture.perturb(ALPHA, SIGMA)
    x = noisy.sample(key, 1)[0][0]
    hessian = jax.hessian(noisy.log_prob)(x)
    expected = (SIGMA / ALPHA) ** 2 * (jnp.eye(mixture.dim) + SIGMA**2 * hessian)
    np.testing.assert_allclose(
        gs.posterior_covariance(mixture, x, ALPHA, SIGMA), expected, rtol=1e-8, atol=1e-10
    )


def test_without_signal_the_covariance_is_the_priors(mixture, key):
    """Also without noise, where alpha = sigma = 0."""
    weights, means = np.asarray(mixture.weights), np.asarray(mixture.means)
    matrices = np.asarray(mixture.covariance.matrices(mixture.dim))
    within = np.tensordot(weights, np.broadcast_to(matrices, (5, *matrices.shape[1:])), 1)
    prior = within + np.cov(means.T, aweights=weights, ddof=0)
    for sigma in (0.0, 1.0):
        found = gs.posterior_covariance(mixture, jnp.zeros(mixture.dim), 0.0, sigma)
        np.testing.assert_allclose(found, prior, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_a_posterior_covariance_is_of_one_point(mixture):
    with pytest.raises(ValueError, match=r"`x` must be one point.*got \(2, .*`jax.vmap`"):
        gs.posterior_covariance(mixture, np.zeros((2, mixture.dim)), ALPHA, SIGMA)


def test_a_hopeless_class_still_has_a_score():
    """Far from every member the class posterior underflows; its score and denoiser must not."""
    mixture = gs.GaussianMixture.isotropic([[0.0], [2000.0], [2001.0]], 1.0)
    x = jnp.array([0.0])
    partition = gs.Partition([0, 1, 1])
    np.testing.assert_allclose(gs.class_scores(mixture, x, partition)[1], [2000.0])
    denoised = gs.class_denoisers(mixture, x, 1.0, 1.0, partition)[1]
    np.testing.assert_allclose(denoised, [1000.0])
    weightless = gs.GaussianMixture.isotropic([[0.0], [5.0]], 1.0, [1.0, 0.0])
    assert np.all(np.isfinite(gs.class_denoisers(weightless, x, 1.0, 1.0)))


def test_weights_that_do_not_average_are_refused(unchecked):
    law, x = gs.GaussianMixture.isotropic(np.eye(3), 0.1), np.zeros((1, 3))
    with pytest.raises(ValueError, match=r"must not be negative: .* smallest of -1"):
        gs.denoiser(law, x, 0.8, 0.6, [[2.0, -1.0, 0.0]])
    gs.denoiser(law, x, 0.8, 0.6, [[1.0, -1e-12, 0.0]])
    with pytest.raises(TypeError, match="Expected a `GaussianMixture`; got a tuple"):
        gs.denoiser(gs.families.paper_toy(), x, 0.8, 0.6)
