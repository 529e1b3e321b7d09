"""Tracking recovers the exact posterior from the path alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import tracking

DIM = 16


def _track(mixture, process, times, key, n=400):
    """Tracked posteriors, ratios to the unconditional and exact posteriors on forward paths."""
    x_0, _ = mixture.sample(key, n)
    return _along(mixture, gs.forward_path(x_0, process, times, key=jax.random.key(1)))


@eqx.filter_jit
def _along(mixture, path):

    def step(carry, inputs):
        likelihood, log_ratio = carry
        x, x_next, here, there = inputs
        denoised = gs.class_denoisers(mixture, x, *here)
        pooled = gs.denoiser(mixture, x, *here)[:, None]
        both = jnp.concatenate([denoised, pooled], 1)
        means, variance = tracking.reverse_kernel(x[:, None], both, here, there)
        update = tracking.log_likelihood_update(x_next, jnp.moveaxis(means, 1, 0), variance).T
        likelihood = likelihood + update[:, :-1]
        log_ratio = log_ratio + update[:, :-1] - update[:, -1:]
        exact = mixture.perturb(*there).posterior(x_next)
        tracked = tracking.class_against_class(mixture.log_weights, likelihood)
        return (likelihood, log_ratio), (jnp.exp(tracked), log_ratio, exact)

    levels = (path.alpha, path.sigma)
    here, there = (tuple(level[part] for level in levels) for part in (slice(-1), slice(1, None)))
    start = jnp.zeros((path.states.shape[1], mixture.num_components))
    inputs = (path.states[:-1], path.states[1:], here, there)
    return jax.lax.scan(step, (start, start), inputs)[1]


@pytest.mark.parametrize(
    ("noisy", "cleaner"), [((0.5, 0.8), (0.7, 0.4)), ((1.0, 1.3), (1.0, 0.6)), (1.3, 0.6)]
)
def test_kernel_is_the_posterior_of_the_forward_steps(rng, array, noisy, cleaner):
    """The reverse kernel against Bayes' rule for one Gaussian x_0 that is known: D = x_0."""
    x_0, x_t = rng.normal(size=(2, 5))
    mean, variance = tracking.reverse_kernel(array(x_t), array(x_0), noisy, cleaner)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        level if isinstance(level, tuple) else (1.0, level) for level in (noisy, cleaner)
    )
    ratio = alpha_t / alpha_s
    added = sigma_t**2 - ratio**2 * sigma_s**2
    precision = 1 / sigma_s**2 + ratio**2 / added
    np.testing.assert_allclose(variance, 1 / precision, rtol=1e-12)
    expected = (alpha_s * x_0 / sigma_s**2 + ratio * x_t / added) / precision
    np.testing.assert_allclose(mean, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("process", "start"), [(gs.OrnsteinUhlenbeck(), 5.0), (gs.VarianceExploding(), 80.0)]
)
def test_class_against_class_is_the_posterior(process, start, key):
    """Mean error of p stays at the size set by starting from the prior, for few steps and many."""
    mixture = gs.families.symmetric_pair(DIM)
    for steps in (32, 256):
        times = np.geomspace(start, 0.02, steps + 1)
        tracked, _, exact = _track(mixture, process, times, key)
        assert float(jnp.abs(tracked - exact).mean()) < 0.012


def test_ratio_to_the_unconditional_errs_like_the_root_of_the_step(key):
    """Four times the steps, half the error; class against class is far below at the same steps."""
    mixture = gs.families.symmetric_pair(DIM)
    errors = []
    for steps in (128, 512):
        times = np.geomspace(5, 0.02, steps + 1)
        tracked, log_ratio, exact = _track(mixture, gs.OrnsteinUhlenbeck(), times, key, n=1000)
        read = tracking.ratio_to_unconditional(0.5, log_ratio)
        errors.append(float(jnp.abs(read - exact).mean()))
        assert float(jnp.abs(tracked - exact).mean()) < errors[-1] / 4
        assert float(read.max()) > 1  # not a probability
    np.testing.assert_allclose(errors[0] / errors[1], 2, rtol=0.2)


def test_forced_prior_is_biased_and_its_repair_is_not():
    """With the exact log-ratio of one of two classes, sigmoid(l) is off; the repaired form is exact."""
    base, posterior = 0.5, jnp.linspace(0.02, 0.98, 25)
    log_ratio = jnp.log(posterior / base)
    assert float(jnp.abs(tracking.forced_prior(log_ratio) - posterior).mean()) > 0.1
    np.testing.assert_allclose(
        tracking.repaired_forced_prior(base, log_ratio), posterior, rtol=1e-10
    )
    rare, posterior = 1e-4, jnp.array([1e-5, 1e-4, 1e-3])
    repaired = tracking.repaired_forced_prior(rare, jnp.log(posterior / rare))
    # For a rare class the unconditional is its complement, and nothing needs repair.
    np.testing.assert_allclose(
        tracking.forced_prior(jnp.log(posterior / rare)), repaired, rtol=2e-3
    )


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2)])
def test_the_update_is_the_log_ratio_of_two_normals(rng, array, shape):
    """Of one state, of points and of images; each class against each."""
    x_next, means = rng.normal(size=shape), rng.normal(size=(5, *shape))
    update = np.asarray(tracking.log_likelihood_update(array(x_next), array(means), 0.3))
    squares = ((x_next - means) ** 2).reshape(5, *shape[:1], -1)
    normal = -squares.sum((1, 2) if len(shape) == 1 else 2) / 0.6
    np.testing.assert_allclose(update - update[:1], normal - normal[:1], atol=1e-12)


def test_update_keeps_digits(array):
    """Differences of squares far from the origin, in float32."""
    means = array(np.array([[1e4, 0.0], [1e4, 1.0]], np.float32))
    x_next = array(np.array([1e4, 0.25], np.float32))
    update = tracking.log_likelihood_update(x_next, means, 1.0)
    np.testing.assert_allclose(update[0] - update[1], (0.75**2 - 0.25**2) / 2, rtol=1e-6)


def test_update_transforms():
    """Gradients through the kernel."""

    def summed(x):
        mean, variance = tracking.reverse_kernel(x, x**2, (0.5, 0.8), (0.7, 0.4))
        return tracking.log_likelihood_update(x, jnp.stack([mean, 0 * mean]), variance)[0]

    x = jnp.array([0.3, -0.2])
    slope = jax.jit(jax.grad(summed))(x)
    step = 1e-6 * jnp.array([1.0, 0.0])
    np.testing.assert_allclose(slope[0], (summed(x + step) - summed(x - step)) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("state", "means"), [((4, 1), (3, 4, 2)), ((4, 2), (4, 2)), ((2,), (3, 4, 2))]
)
def test_means_of_other_states_are_refused(state, means, array, unchecked):
    with pytest.raises(ValueError, match="must be those of the state"):
        tracking.log_likelihood_update(array(np.ones(state)), array(np.ones(means)), 1.0)


@pytest.mark.parametrize(
    ("prior", "likelihood"), [((1,), (5, 3)), ((3,), (5, 1)), ((3, 1), (5, 3))]
)
def test_priors_of_other_classes_are_refused(prior, likelihood, unchecked):
    with pytest.raises(ValueError, match=r"`log_prior` must be \(C,\)"):
        tracking.class_against_class(jnp.zeros(prior), jnp.zeros(likelihood))
