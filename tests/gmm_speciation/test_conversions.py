"""Mixtures from and to scikit-learn: one law on both sides."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as Other
from theory_contracts import random_mixtures

import gmm_speciation as gs

MIXTURES = random_mixtures()
KINDS = {
    "isotropic-shared": "spherical",
    "isotropic": "spherical",
    "diagonal-shared": "diag",
    "diagonal": "diag",
    "full-shared": "tied",
    "full": "full",
    "low-rank-shared": "tied",
    "low-rank": "full",
    "one-component": "tied",
    "line": "spherical",
}


@pytest.mark.parametrize("name", KINDS)
def test_scikit_learn_agrees_with_the_mixture_it_was_made_from(name, key):
    mixture = MIXTURES[name]
    x = np.asarray(mixture.sample(key, 50)[0]) * 1.5
    model = gs.to_scikit_learn(mixture)
    assert model.covariance_type == KINDS[name]
    np.testing.assert_allclose(model.predict_proba(x), mixture.posterior(x), atol=1e-11)
    np.testing.assert_allclose(model.score_samples(x), mixture.log_prob(x), rtol=1e-10)
    np.testing.assert_array_equal(model.predict(x), np.argmax(mixture.posterior(x), -1))


@pytest.mark.parametrize("name", KINDS)
def test_there_and_back_is_the_same_law(name, key):
    mixture = MIXTURES[name]
    back = gs.from_scikit_learn(gs.to_scikit_learn(mixture))
    x = mixture.sample(key, 20)[0]
    np.testing.assert_allclose(back.weights, mixture.weights, rtol=1e-14)
    np.testing.assert_allclose(back.log_prob(x), mixture.log_prob(x), rtol=1e-11)
    np.testing.assert_allclose(back.score(x), mixture.score(x), rtol=1e-8)
    assert back.covariance.shared == mixture.covariance.shared


@pytest.mark.parametrize("kind", ["spherical", "diag", "full", "tied"])
def test_a_fitted_model_survives_the_round_trip_in_every_attribute(kind, rng):
    """The precisions and Cholesky factors are those that scikit-learn's own fit computes."""
    x = np.concatenate([rng.normal(size=(60, 3)) * 0.5 + shift for shift in (-2, 0, 3)])
    fitted = Other(3, covariance_type=kind, random_state=0).fit(x)
    again = gs.to_scikit_learn(gs.from_scikit_learn(fitted))
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(fitted, name), rtol=1e-8, atol=1e-10
        )
    np.testing.assert_allclose(again.bic(x), fitted.bic(x), rtol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_samples_of_the_model_have_the_moments_of_the_mixture(name):
    mixture = MIXTURES[name]
    model = gs.to_scikit_learn(mixture, random_state=0)
    x, _ = model.sample(20_000)
    moments = mixture.moments()
    variance = np.diag(moments.covariance)
    assert np.all(np.abs(x.mean(0) - moments.mean) < 5 * np.sqrt(variance / 20_000))
    error = 6 * np.sqrt(3) * np.sqrt(np.outer(variance, variance) / 20_000)
    assert np.all(np.abs(np.cov(x.T).reshape(error.shape) - moments.covariance) < error)


def test_a_float32_mixture_converts_in_float64():
    mixture = gs.GaussianMixture.full(jnp.eye(3, dtype=jnp.float32), jnp.eye(3, dtype=jnp.float32))
    model = gs.to_scikit_learn(mixture)
    assert model.covariances_.dtype == model.means_.dtype == np.float64


def test_what_scikit_learn_cannot_hold_is_refused():
    singular = gs.GaussianMixture.full(np.eye(2), np.ones((2, 2)))
    with pytest.raises(ValueError, match="add noise by"):
        gs.to_scikit_learn(singular)
    with pytest.raises(ValueError, match="singular"):
        gs.to_scikit_learn(gs.families.empirical(np.eye(3)))
    assert gs.to_scikit_learn(singular.perturb(1.0, 0.1)).predict(np.eye(2)).tolist() == [0, 1]
    wide = gs.GaussianMixture.low_rank(np.zeros((1, 20_000)), np.ones((20_000, 1)), 1.0)
    with pytest.raises(ValueError, match="dense covariances, 1 x 20000 x 20000"):
        gs.to_scikit_learn(wide)
    with pytest.raises(ValueError, match="not fitted"):
        gs.from_scikit_learn(Other(2))
