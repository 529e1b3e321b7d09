"""Other libraries' posteriors, each in its natural form.

scikit-learn   `GaussianMixture.predict_proba` on numpy arrays, parameters set as after a fit
numpyro        softmax of `MixtureSameFamily.component_log_probs`, compiled
torch          softmax of the joint log-probabilities of `MixtureSameFamily`, no gradients
gmmx           `GaussianMixtureModelJax.predict_proba`, compiled; float32 only

A mixture is isotropic with variance 1 or has full covariances `(K, d, d)`. Libraries without an
isotropic kind get the nearest that they have: independent normals or a diagonal.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from cases import PRODUCT, Row, Sizes, data, dtypes, matrices_for, means_for, product
from timing import Measured, in_turn, paired

import gmm_speciation as gs

SECTION = "side by side"
Posterior = Callable[[np.ndarray], Callable[[], object]]  # data -> work that returns (n, K)


class Unavailable(RuntimeError):
    """A library cannot do this case; the message says why."""


def _precision(dtype: type):
    """JAX libraries that assume its default precision get it where the data are float32."""
    return jax.enable_x64(dtype == np.float64)


def _ours(x, means, covariances):
    if covariances is None:
        mixture = gs.GaussianMixture.isotropic(means, means.dtype.type(1.0))
    else:
        mixture = gs.GaussianMixture.full(means, covariances)
    x = jnp.asarray(x)
    return lambda: mixture.posterior(x)


def _scikit_learn(x, means, covariances):
    from sklearn.mixture import GaussianMixture

    if jax.default_backend() != "cpu":
        raise Unavailable("scikit-learn runs on the processor")
    k = len(means)
    model = GaussianMixture(k, covariance_type="spherical" if covariances is None else "full")
    model.weights_ = np.full(k, 1 / k, means.dtype)
    model.means_ = means
    if covariances is None:
        model.covariances_ = np.ones(k, means.dtype)
        model.precisions_cholesky_ = np.ones(k, means.dtype)
    else:
        model.covariances_ = covariances
        inverse = np.linalg.inv(np.linalg.cholesky(covariances.astype(float)))
        model.precisions_cholesky_ = np.swapaxes(inverse, 1, 2).astype(means.dtype)
    x = np.asarray(x)
    return lambda: model.predict_proba(x)


def _numpyro(x, means, covariances):
    import numpyro.distributions as dist

    dtype, k = means.dtype, len(means)
    with _precision(dtype):
        if covariances is None:
            component = dist.Normal(jnp.asarray(means), jnp.ones((), dtype)).to_event(1)
        else:
            component = dist.MultivariateNormal(jnp.asarray(means), jnp.asarray(covariances))
        weights = dist.Categorical(jnp.full(k, 1 / k, dtype))
        mixture = dist.MixtureSameFamily(weights, component)
        x = jnp.asarray(x)
    posterior = jax.jit(lambda mixture, x: jax.nn.softmax(mixture.component_log_probs(x), -1))

    def work():
        with _precision(dtype):
            return posterior(mixture, x)

    return work


def _torch(x, means, covariances):
    import torch
    from torch.distributions import Categorical, Independent, MultivariateNormal, Normal
    from torch.distributions import MixtureSameFamily as Mixture

    on_gpu = jax.default_backend() != "cpu"
    if on_gpu and not torch.cuda.is_available():
        raise Unavailable("this build of torch does not reach the accelerator")
    device = torch.device("cuda" if on_gpu else "cpu")
    tensor = lambda a: torch.tensor(np.asarray(a), device=device)  # noqa: E731
    if covariances is None:
        component = Independent(Normal(tensor(means), tensor(np.ones_like(means))), 1)
    else:
        component = MultivariateNormal(tensor(means), tensor(covariances))
    mixture = Mixture(
        Categorical(tensor(np.full(len(means), 1 / len(means), means.dtype))), component
    )
    x = tensor(x)

    @torch.inference_mode()
    def work():
        log_joint = mixture.component_distribution.log_prob(x[:, None, :])
        posterior = torch.softmax(log_joint + mixture.mixture_distribution.logits, -1)
        if on_gpu:
            torch.cuda.synchronize()
        return posterior

    return work


def _gmmx(x, means, covariances):
    from gmmx import GaussianMixtureModelJax

    if means.dtype != np.float32:
        raise Unavailable("gmmx computes in float32 only")
    with _precision(np.float32):
        model = GaussianMixtureModelJax.from_squeezed(
            jnp.asarray(means),
            jnp.asarray(np.ones_like(means) if covariances is None else covariances),
            jnp.full(len(means), 1 / len(means)),
            covariance_type="diag" if covariances is None else "full",
        )
        x = jnp.asarray(x)

    def work():
        with _precision(np.float32):
            return model.predict_proba(x)

    return work


LIBRARIES: dict[str, Callable] = {
    "gmm-speciation": _ours,
    "scikit-learn": _scikit_learn,
    "numpyro": _numpyro,
    "torch": _torch,
    "gmmx": _gmmx,
}


def posterior_of(library: str, x, means: np.ndarray, covariances: np.ndarray | None = None):
    """The work that computes the posterior `(n, K)` of `x` with a library, all classes alike.

    Raises:
        Unavailable: If the library is not installed or has no such case.
    """
    try:
        return LIBRARIES[library](x, means, covariances)
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from error


def rows(sizes: Sizes) -> Iterator[Row]:
    """The rows of this subject: every library, the same arrays, the same product beside it."""
    n, d = sizes.num_samples, sizes.dim

    def measure(library: str, k: int, full: bool, dtype: type) -> Measured:
        if library in ("numpyro", "torch", "gmmx"):
            # These may hold an (n, K, d) array and two copies of it.
            needed = 3 * n * k * d * np.dtype(dtype).itemsize
            if needed > sizes.memory:
                raise Unavailable(f"would take about {needed / 2**30:.0f} GB")
        means, x = means_for(k, d, dtype), data(n, d, dtype)
        covariances = matrices_for(k, d, dtype) if full else None
        subject = posterior_of(library, x, means, covariances)
        factors = [means.T.copy()] if covariances is None else covariances
        reference = in_turn(*[partial(product(), x, jnp.asarray(y)) for y in factors])
        return paired(subject, reference, sizes.effort)

    # Case by case, so that libraries share the arrays in the caches.
    cases: list[tuple[int, bool, type]] = [(k, False, np.float32) for k in sizes.num_components]
    cases += [(10, True, np.float32)]
    cases += [(10, False, dtype) for dtype in dtypes()[1:]]
    for k, full, dtype in cases:
        kind, against = ("full", "K (n,d)@(d,d)") if full else ("isotropic", PRODUCT)
        for library in LIBRARIES:
            yield Row(
                SECTION,
                f"{kind}, d = {d}, K = {k}, {dtype.__name__}",
                library,
                partial(measure, library, k, full, dtype),
                against=against,
            )
