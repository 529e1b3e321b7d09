"""Class posteriors, class scores, denoisers: identities that hold for every mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from theory_contracts import random_mixtures

import gmm_speciation as gs
from gmm_speciation.inference import score_spread

MIXTURES = {k: m for k, m in random_mixtures(num=5).items() if m.num_components == 5}
PARTITION = gs.Partition([0, 1, 0, 1, 2])
ALPHA, SIGMA = 0.8, 0.6


@pytest.fixture(params=MIXTURES)
def mixture(request):
    return MIXTURES[request.param]


def test_class_score_is_the_gradient_of_the_class_density(mixture, key):
    x = mixture.sample(key, 5)[0]
    scores = gs.class_scores(mixture, x, PARTITION)

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
