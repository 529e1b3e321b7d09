"""Gaussian mixtures: densities, posteriors, scores, and what they refuse."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from theory_contracts import check_mixture, random_mixtures

import gmm_speciation as gs
from gmm_speciation.checks import as_float_array, as_numpy

MIXTURES = random_mixtures()


@pytest.mark.parametrize("name", MIXTURES)
def test_contract(name, key):
    mixture = MIXTURES[name]
    check_mixture(mixture, mixture.sample(key, 9)[0] * 1.5)


def test_special_cases_of_the_general_covariance_agree(rng):
    """Isotropic = diagonal = full where they describe the same law."""
    means, v = rng.normal(size=(3, 5)), np.array([0.3, 1.0, 2.0])
    x = jnp.asarray(rng.normal(size=(11, 5)))
    isotropic = gs.GaussianMixture.isotropic(means, v)
    diagonal = gs.GaussianMixture.diagonal(means, v[:, None] * np.ones(5))
    full = gs.GaussianMixture.full(means, v[:, None, None] * np.eye(5))
    for other in (diagonal, full):
        np.testing.assert_allclose(other.log_posterior(x), isotropic.log_posterior(x), rtol=1e-11)
        np.testing.assert_allclose(other.score(x), isotropic.score(x), rtol=1e-11)
        np.testing.assert_allclose(other.log_prob(x), isotropic.log_prob(x), rtol=1e-11)


def test_equal_variances_are_kept_as_one():
    shared = gs.GaussianMixture.isotropic(np.eye(3), [0.5, 0.5, 0.5])
    assert shared.covariance.shared
    assert not gs.GaussianMixture.isotropic(np.eye(3), [0.5, 0.5, 0.6]).covariance.shared


def test_perturb_composes():
    mixture = MIXTURES["full"]
    twice = mixture.perturb(0.8, 0.6).perturb(0.5, 0.3)
    once = mixture.perturb(0.4, np.sqrt(0.25 * 0.36 + 0.09))
    np.testing.assert_allclose(twice.moments().covariance, once.moments().covariance, rtol=1e-12)


BAD = {
    "negative weight": (lambda: gs.GaussianMixture.isotropic(np.eye(2), 1.0, [1.5, -0.5]), "sum"),
    "weights off": (lambda: gs.GaussianMixture.isotropic(np.eye(2), 1.0, [0.5, 0.4]), "sum of 0.9"),
    "weights shape": (lambda: gs.GaussianMixture.isotropic(np.eye(2), 1.0, [1.0]), r"\(2,\)"),
    "means shape": (lambda: gs.GaussianMixture.isotropic(np.ones(3), 1.0), r"\(K, d\)"),
    "NaN mean": (lambda: gs.GaussianMixture.isotropic([[np.nan]], 1.0), "NaN"),
    "infinite mean": (lambda: gs.GaussianMixture.isotropic([[np.inf]], 1.0), "finite"),
    "negative variance": (lambda: gs.GaussianMixture.isotropic(np.eye(2), -1.0), "negative"),
    "variance shape": (lambda: gs.GaussianMixture.isotropic(np.eye(2), np.ones(3)), r"\(2,\)"),
    "diagonal shape": (lambda: gs.GaussianMixture.diagonal(np.eye(2), np.ones(3)), r"\(2, 2\)"),
    "full shape": (lambda: gs.GaussianMixture.full(np.eye(2), np.eye(3)), r"\(2, 2, 2\)"),
    "asymmetric": (lambda: gs.GaussianMixture.full(np.eye(2), [[1, 0.5], [0, 1]]), "symmetric"),
    "indefinite": (lambda: gs.GaussianMixture.full(np.eye(2), [[1, 2], [2, 1]]), "semi-definite"),
    "text": (lambda: gs.GaussianMixture.isotropic([["a"]], 1.0), "numeric"),
    "no component": (lambda: gs.GaussianMixture.isotropic(np.ones((0, 2)), 1.0), "at least one"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_value_error_that_says_what_was_expected(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_values_under_jit_are_errors_too():
    import equinox as eqx

    build = eqx.filter_jit(
        lambda v: gs.GaussianMixture.isotropic(jnp.eye(2), v).log_prob(jnp.ones(2))
    )
    assert np.isfinite(build(jnp.asarray(1.0)))
    # Which of the two depends on the version of JAX.
    with pytest.raises((RuntimeError, ValueError), match="must not be negative"):
        build(jnp.asarray(-1.0))


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.slow
def test_gradients_in_the_parameters(name, key):
    """d log p / d means against central differences, through construction and perturbation."""
    mixture = MIXTURES[name]
    x = mixture.sample(key, 3)[0]
    direction = jax.random.normal(jax.random.key(3), mixture.offsets.shape)

    def log_prob(shift, alpha):
        import equinox as eqx

        moved = eqx.tree_at(lambda m: m.offsets, mixture, mixture.offsets + shift * direction)
        return moved.perturb(alpha, jnp.sqrt(1 - alpha**2)).log_prob(x).sum()

    for argument in (0, 1):
        at = [0.1, 0.7]
        slope = jax.grad(log_prob, argument)(*at)
        up, down = list(at), list(at)
        up[argument] += 1e-5
        down[argument] -= 1e-5
        np.testing.assert_allclose(slope, (log_prob(*up) - log_prob(*down)) / 2e-5, rtol=1e-6)


def test_bound_methods_are_pytrees_that_a_program_takes():
    """One program serves the methods of all mixtures of a shape, and their arrays are traced."""
    compiled = []

    @jax.jit
    def apply(method, x):
        compiled.append(method)
        return method(x)

    x = np.random.default_rng(0).normal(size=(4, 3))
    for shift in (0.0, 1.0):
        mixture = gs.GaussianMixture.isotropic(shift + np.eye(3), 0.5)
        expected = mixture.score(x)
        np.testing.assert_allclose(apply(mixture.score, jnp.asarray(x)), expected, rtol=1e-12)
        np.testing.assert_allclose(jax.vmap(mixture.score)(x), expected, rtol=1e-12)
    assert len(compiled) == 1
    assert mixture.score.__doc__ == gs.GaussianMixture.score.__doc__
    assert "average of the component scores" in mixture.score.__doc__


@pytest.mark.parametrize("refusal", [RuntimeError, BufferError])
def test_a_dtype_that_numpy_lacks_is_read_and_bound_to_no_device(refusal, monkeypatch):
    """Numpy has refused by either error; what is bound to the host meets no array of an accelerator."""

    def refuse(x):
        raise refusal("Unsupported dtype in DLTensor.")

    monkeypatch.setattr(np, "from_dlpack", refuse)
    given = torch.tensor([0.5, -3.0], dtype=torch.bfloat16)
    for read in (as_float_array(given, "x"), as_float_array(given, "x", copy=False)):
        assert (read.dtype, read.tolist()) == (jnp.bfloat16, [0.5, -3.0])
        assert not read.committed
    assert as_numpy(given, "x").astype(float).tolist() == [0.5, -3.0]


def _of_a_mixture():
    """Every public function of a mixture, at the top and in the modules that are public there."""
    found = {}
    for module in (gs, *(getattr(gs, name) for name in gs.__all__)):
        for name in getattr(module, "__all__", ()) if inspect.ismodule(module) else ():
            function = getattr(module, name)
            if inspect.isfunction(function) and "mixture" in inspect.signature(function).parameters:
                found[f"{module.__name__}.{name}"] = function
    return found


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", _of_a_mixture())
def test_what_is_no_mixture_is_named(name):
    function = _of_a_mixture()[name]
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    rest = [None for p in needed[1:] if p.kind is not p.KEYWORD_ONLY]
    named = {p.name: None for p in needed if p.kind is p.KEYWORD_ONLY}
    for other in ("m", None, 3, np.eye(2)):
        says = rf"^Expected a `\w+Mixture`.*; got a {type(other).__name__}\.$"
        with pytest.raises(TypeError, match=says):
            function(other, *rest, **named)
