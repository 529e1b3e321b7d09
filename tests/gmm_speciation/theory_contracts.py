"""One contract a family: a new member is one line in a test's parameter list."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import DiffusionProcess


@contextlib.contextmanager
def width(dtype):
    """Compute as a user of this width does."""
    with jax.enable_x64(dtype is np.float64):
        yield


def check_process(process: DiffusionProcess, times: np.ndarray) -> None:
    """What every forward process promises, at times inside its range."""
    alpha, sigma, level = process.alpha(times), process.sigma(times), process.log_snr(times)
    np.testing.assert_allclose(level, 2 * (np.log(alpha) - np.log(sigma)), rtol=1e-9, atol=1e-9)
    assert np.all(np.diff(level) < 0)
    assert np.all(np.diff(alpha) <= 0)
    assert np.all(np.diff(sigma) >= 0)
    np.testing.assert_allclose(process.time(level), times, rtol=1e-7, atol=1e-9)
    # The differential quantities against central differences of the definition.
    step = 1e-5 * np.minimum(times, times[-1] - times[0])
    slope = (process.log_snr(times + step) - process.log_snr(times - step)) / (2 * step)
    np.testing.assert_allclose(process.log_snr_slope(times), slope, rtol=2e-5)
    drift = (np.log(process.alpha(times + step)) - np.log(process.alpha(times - step))) / (2 * step)
    np.testing.assert_allclose(process.drift(times), drift, rtol=2e-5, atol=1e-8)
    np.testing.assert_allclose(process.diffusion_squared(times), -(sigma**2) * slope, rtol=2e-5)
    # d(sigma^2)/dt = 2 f sigma^2 + g^2: drift and diffusion belong to this kernel.
    variance = (process.sigma(times + step) ** 2 - process.sigma(times - step) ** 2) / (2 * step)
    expected = 2 * process.drift(times) * sigma**2 + process.diffusion_squared(times)
    np.testing.assert_allclose(variance, expected, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(jax.jit(jax.vmap(process.log_snr))(times), level, rtol=1e-12)


def check_mixture(mixture: GaussianMixture, x: jax.Array) -> None:
    """What every mixture promises, against dense linear algebra in float64, at points `(n, d)`."""
    dim, num = mixture.dim, mixture.num_components
    dense = np.broadcast_to(mixture.covariance.matrices(dim), (num, dim, dim))
    residual = np.asarray(x)[:, None] - np.asarray(mixture.means)[None]
    inverse = np.linalg.inv(dense)
    square = np.einsum("nki,kij,nkj->nk", residual, inverse, residual)
    log_normal = -(square + np.linalg.slogdet(dense)[1] + dim * np.log(2 * np.pi)) / 2
    joint = log_normal + np.asarray(mixture.log_weights)
    log_prob = np.logaddexp.reduce(joint, -1)
    np.testing.assert_allclose(mixture.log_prob(x), log_prob, rtol=1e-9)
    posterior = np.exp(joint - log_prob[:, None])
    np.testing.assert_allclose(mixture.posterior(x), posterior, atol=1e-10)
    np.testing.assert_allclose(mixture.score(x), jax.vmap(jax.grad(mixture.log_prob))(x), rtol=1e-8)
    # One point, a batch and a batch of batches are one method.
    np.testing.assert_allclose(mixture.posterior(x[0]), posterior[0], atol=1e-10)
    np.testing.assert_allclose(mixture.score(x[None]), mixture.score(x)[None], rtol=1e-12)
    # The noisy law is the law of alpha x + sigma eps: same moments as by hand.
    alpha, sigma = 0.6, 0.8
    moments, noisy = mixture.moments(), mixture.perturb(alpha, sigma).moments()
    np.testing.assert_allclose(noisy.mean, alpha * moments.mean, rtol=1e-9, atol=1e-12)
    expected = alpha**2 * moments.covariance + sigma**2 * np.eye(dim)
    np.testing.assert_allclose(noisy.covariance, expected, rtol=1e-9, atol=1e-12)
    # Samples have these moments.
    draws, component = mixture.sample(jax.random.key(1), 20_000)
    error = np.sqrt(np.diag(moments.covariance) / len(draws))
    assert np.all(np.abs(draws.mean(0) - moments.mean) < 5 * error)
    empirical = np.cov(np.asarray(draws).T).reshape(dim, dim)
    scale = np.sqrt(np.outer(np.diag(moments.covariance), np.diag(moments.covariance)))
    assert np.all(np.abs(empirical - moments.covariance) < 6 * np.sqrt(3) * scale / np.sqrt(20_000))
    shares = np.bincount(component, minlength=num) / len(draws)
    weights = np.asarray(mixture.weights)
    assert np.all(np.abs(shares - weights) <= 5 * np.sqrt(weights * (1 - weights) / 20_000))
    # jit and vmap change nothing.
    np.testing.assert_allclose(
        jax.jit(lambda x: mixture.log_posterior(x))(x), mixture.log_posterior(x), rtol=1e-9
    )
    np.testing.assert_allclose(jax.vmap(mixture.score)(x), mixture.score(x), rtol=1e-9)


def random_mixtures(seed: int = 0, num: int = 3, dim: int = 4) -> dict[str, GaussianMixture]:
    """One mixture of every covariance, shared and not."""
    rng = np.random.default_rng(seed)
    means, weights = rng.normal(size=(num, dim)), rng.dirichlet(np.ones(num) * 5)
    roots = rng.normal(size=(num, dim, dim))
    matrices = roots @ roots.swapaxes(1, 2) / dim + 0.1 * np.eye(dim)
    variances = rng.uniform(0.2, 2, size=(num, dim))
    mixture = GaussianMixture
    return {
        "isotropic-shared": mixture.isotropic(means, 0.7, weights),
        "isotropic": mixture.isotropic(means, variances[:, 0], weights),
        "diagonal-shared": mixture.diagonal(means, variances[0], weights),
        "diagonal": mixture.diagonal(means, variances, weights),
        "full-shared": mixture.full(means, matrices[0], weights),
        "full": mixture.full(means, matrices, weights),
        "low-rank-shared": mixture.low_rank(means, roots[0, :, :2], 0.3, weights),
        "low-rank": mixture.low_rank(means, roots[:, :, :2], variances[:, 0], weights),
        "one-component": mixture.full(means[:1], matrices[0]),
        "line": mixture.isotropic(means[:, :1], variances[:, 0], weights),
    }


def products(jaxpr, times: int = 1):
    """Every matrix product of a program, those of its loops and calls too, and how often it runs."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation, times
        inside = times * equation.params.get("length", 1)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner, inside)


def assert_within(estimate, truth, standard_errors: float = 4.0, slack: float = 1e-9) -> None:
    """Every entry of an Estimate within this many of its own standard errors of the truth."""
    deviation = jnp.abs(jnp.asarray(estimate.value) - jnp.asarray(truth))
    allowed = standard_errors * jnp.asarray(estimate.stderr) + slack
    worst = float(jnp.max(deviation - allowed))
    assert worst <= 0, f"off by {float(jnp.max(deviation)):.3g}, beyond the bound by {worst:.3g}"
