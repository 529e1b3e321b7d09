"""A discriminant is the posterior with its coefficients kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs

K, D = 5, 12
RNG = np.random.default_rng(3)
MEANS = 3.0 + RNG.normal(size=(K, D))
ROOT = RNG.normal(size=(D, D)) / 4
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1, 0.0])


def laws(num_components):
    mu, w = MEANS[:num_components], WEIGHTS[:num_components] / WEIGHTS[:num_components].sum()
    spread = RNG.uniform(0.5, 2.0, size=(num_components, D))
    return {
        "isotropic": gs.GaussianMixture.isotropic(mu, 0.7, w),
        "radial": gs.GaussianMixture.isotropic(mu, spread[:, 0], w),
        "diagonal": gs.GaussianMixture.diagonal(mu, spread, w),
        "shared diagonal": gs.GaussianMixture.diagonal(mu, spread[0], w),
        "shared full": gs.GaussianMixture.full(mu, ROOT @ ROOT.T + np.eye(D), w),
    }


@pytest.mark.parametrize("num_components", [2, K])
@pytest.mark.parametrize("name", list(laws(2)))
def test_it_is_the_textbook_posterior(name, num_components):
    mixture = laws(num_components)[name].perturb(0.8, 0.6)
    x = mixture.sample(jax.random.key(0), 40)[0]
    covariances = np.broadcast_to(mixture.covariance.matrices(D), (num_components, D, D))
    difference = np.asarray(x)[:, None] - np.asarray(mixture.means)[None]
    with np.errstate(divide="ignore"):
        log_joint = (
            np.log(mixture.weights)
            - np.linalg.slogdet(covariances)[1] / 2
            - np.einsum("nki,kij,nkj->nk", difference, np.linalg.inv(covariances), difference) / 2
        )
    log_posterior = log_joint - np.logaddexp.reduce(log_joint, -1, keepdims=True)
    discriminant = mixture.discriminant()
    np.testing.assert_allclose(discriminant.log_posterior(x), log_posterior, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(discriminant.posterior(x), np.exp(log_posterior), atol=1e-13)
    np.testing.assert_allclose(mixture.posterior(x), np.exp(log_posterior), atol=1e-13)


def test_it_works_for_one_point_and_for_batches():
    discriminant = laws(K)["diagonal"].discriminant()
    x = jnp.asarray(RNG.normal(size=(2, 3, D)) + 3)
    batch = discriminant.posterior(x)
    assert batch.shape == (2, 3, K)
    np.testing.assert_allclose(discriminant.posterior(x[1, 2]), batch[1, 2], atol=1e-14)


def test_covariances_that_differ_in_every_direction_have_none():
    matrices = np.stack([ROOT @ ROOT.T + k * np.eye(D) for k in range(1, K + 1)])
    with pytest.raises(ValueError, match=r"Use `posterior`"):
        gs.GaussianMixture.full(MEANS, matrices).discriminant()
