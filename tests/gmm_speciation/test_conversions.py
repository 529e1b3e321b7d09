"""Mixtures from and to scikit-learn: one law on both sides."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as Other
from sklearn.naive_bayes import GaussianNB
from sklearn.utils import all_estimators
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
    ours = gs.from_scikit_learn(fitted)
    np.testing.assert_allclose(ours.posterior(x), fitted.predict_proba(x), atol=1e-9)
    np.testing.assert_allclose(ours.log_prob(x), fitted.score_samples(x), rtol=1e-9)
    again = gs.to_scikit_learn(ours)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(fitted, name), rtol=1e-8, atol=1e-10
        )
    np.testing.assert_allclose(again.bic(x), fitted.bic(x), rtol=1e-12)


@pytest.mark.parametrize("kind", ["full", "tied"])
@pytest.mark.parametrize("offset", [1e4, 3e4, 1e5, 1e6])
def test_models_of_data_far_from_zero_convert(kind, offset):
    """Rounding of the squared means leaves tied covariances that are not symmetric, up to 1e-4 here."""
    parts = 0.0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = np.concatenate([rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3))] * 2)
        x = x + rng.integers(-1, 2, (120, 1)) + offset
        fitted = Other(3, covariance_type=kind, random_state=0).fit(x)
        ours = gs.from_scikit_learn(fitted)
        np.testing.assert_allclose(ours.posterior(x), fitted.predict_proba(x), atol=1e-8)
        np.testing.assert_allclose(ours.log_prob(x), fitted.score_samples(x), rtol=1e-8)
        parts = max(parts, float(np.abs(fitted.covariances_ - fitted.covariances_.mT).max()))
    assert parts > 1e-9 or kind == "full"


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


DISCRIMINANTS = {
    "gaussian-nb": lambda: GaussianNB(),
    "gaussian-nb-priors": lambda: GaussianNB(priors=[0.1, 0.2, 0.7], var_smoothing=0.1),
    "quadratic": lambda: QuadraticDiscriminantAnalysis(),
    "quadratic-regularised": lambda: QuadraticDiscriminantAnalysis(
        reg_param=0.2, priors=[0.1, 0.2, 0.7]
    ),
    "linear-least-squares": lambda: LinearDiscriminantAnalysis(solver="lsqr"),
    "linear": lambda: LinearDiscriminantAnalysis(store_covariance=True),
    "linear-shrunk": lambda: LinearDiscriminantAnalysis(
        solver="eigen", shrinkage=0.3, priors=[0.1, 0.2, 0.7]
    ),
}


def _labelled(rng, num_classes=3, per_class=60, dim=3):
    labels = np.repeat(np.arange(num_classes), per_class + 10 * np.arange(num_classes))
    roots = rng.normal(size=(num_classes, dim, dim))
    noise = rng.normal(size=(len(labels), dim))
    return np.einsum("nij,nj->ni", roots[labels], noise) + labels[:, None], labels


@pytest.mark.parametrize("name", DISCRIMINANTS)
def test_the_posterior_of_a_classifier_is_its_predict_proba(name, rng):
    x, labels = _labelled(rng)
    model = DISCRIMINANTS[name]().fit(x, labels)
    points = rng.normal(size=(40, 3)) * 4
    mixture = gs.from_scikit_learn(model)
    np.testing.assert_allclose(mixture.posterior(points), model.predict_proba(points), atol=1e-9)


@pytest.mark.parametrize("kind", [LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis])
def test_two_classes_and_a_label_that_is_no_number(kind, rng):
    x, labels = _labelled(rng, 2)
    model = kind(store_covariance=True).fit(x, np.array(["a", "b"])[labels])
    mixture = gs.from_scikit_learn(model)
    np.testing.assert_allclose(mixture.posterior(x), model.predict_proba(x), atol=1e-9)


def test_every_model_of_these_modules_converts_to_its_own_posterior_or_is_refused(rng):
    """All of scikit-learn's mixtures, naive Bayes models and discriminants, also those to come."""
    x, labels = _labelled(rng)
    modules = ("mixture", "naive_bayes", "discriminant_analysis")
    found = [kind for _, kind in all_estimators() if kind.__module__.split(".")[1] in modules]
    assert len(found) >= 9
    accepted, refusals = set(), {}
    for kind in found:
        parameters = inspect.signature(kind).parameters
        model = (
            kind(n_components=3)
            if "n_components" in parameters and "mix" in kind.__module__
            else kind()
        )
        with pytest.raises(ValueError, match=kind.__name__):
            gs.from_scikit_learn(model)
        model.fit(np.abs(np.round(x)), labels)
        try:
            mixture = gs.from_scikit_learn(model)
        except ValueError as error:
            refusals[kind.__name__] = str(error)
            continue
        accepted.add(kind.__name__)
        points = np.abs(np.round(x[::7]))
        np.testing.assert_allclose(
            mixture.posterior(points), model.predict_proba(points), atol=1e-9
        )
    assert all(name in text and "fitted;" not in text for name, text in refusals.items())
    assert accepted == {"GaussianMixture", "GaussianNB", "QuadraticDiscriminantAnalysis"}


def test_models_that_are_no_gaussian_mixtures_are_refused_with_the_remedy(rng):
    x, labels = _labelled(rng)

    class Sharper(Other):
        def predict_proba(self, X):
            return super().predict_proba(X) ** 2

    for model, message in [
        (BayesianGaussianMixture(n_components=3).fit(x), "averages over its parameters"),
        (Sharper(2).fit(x), "Sharper is not known"),
        (LogisticRegression().fit(x, labels), "LogisticRegression is not known"),
        (object(), "object is not known"),
        (LinearDiscriminantAnalysis().fit(x, labels), "store_covariance=True"),
        (Other(2), "GaussianMixture is not fitted"),
        (GaussianNB(), "GaussianNB is not fitted"),
        (LinearDiscriminantAnalysis(), "LinearDiscriminantAnalysis is not fitted"),
    ]:
        with pytest.raises(ValueError, match=message):
            gs.from_scikit_learn(model)


def test_a_discriminant_that_uses_another_covariance_is_refused(rng):
    """A singular one, and one whose classes are weighted by priors where the rule counts points."""
    x, labels = _labelled(rng)
    flat = np.column_stack([x, x[:, 0]])
    uneven = LinearDiscriminantAnalysis(store_covariance=True, priors=[0.1, 0.1, 0.8])
    singular = LinearDiscriminantAnalysis(solver="lsqr").fit(flat, labels)
    for model in (uneven.fit(x, labels), singular):
        with pytest.raises(ValueError, match="does not predict by its `covariance_`"):
            gs.from_scikit_learn(model)


@pytest.mark.parametrize("kind", ["spherical", "diag", "full", "tied"])
def test_covariances_that_a_model_does_not_predict_by_are_refused(kind, rng):
    x = np.concatenate([rng.normal(size=(60, 3)) + shift for shift in (-2, 0, 3)])
    model = Other(3, covariance_type=kind, random_state=0).fit(x * [1.0, 1e-2, 1e3])
    gs.from_scikit_learn(model)  # ill-conditioned, and its own
    model.covariances_ = 1.01 * model.covariances_
    with pytest.raises(ValueError, match="not those of its `covariances_`"):
        gs.from_scikit_learn(model)
