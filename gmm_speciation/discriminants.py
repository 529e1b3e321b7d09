"""The posterior of a mixture as a fixed form, for many batches at one noise level.

With diagonal precisions `diag(p_k)` and a centre c,

    log pi_k N(x; mu_k, Sigma_k) / N(x; mu_0, Sigma_0) = y . w_k - (1/2) (y * y) . q_k + b_k,   y = x - c,

for weights pi_k; with one precision P of any kind q vanishes and `w_k = P (nu_k - nu_0)` (linear and
quadratic discriminant analysis; Fisher 1936). A mixture works the coefficients out at every call; a
discriminant keeps them, and a posterior is then the product with the data and little else.

Axes: K components, d dimension.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float

from gmm_speciation.checks import takes_states
from gmm_speciation.covariances import ContrastForm, add_row


class Discriminant(eqx.Module):
    """Log-odds against component 0, with their coefficients; made by `GaussianMixture.discriminant`."""

    centre: Float[Array, " d"]
    form: ContrastForm

    @takes_states
    def logits(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`log p(k | x)` in nats, up to a term that all components share."""
        return self.form(add_row(x, -self.centre))

    @takes_states
    @eqx.filter_jit
    def log_posterior(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`log p(k | x)`; -inf for a component of weight 0."""
        return jax.nn.log_softmax(self.logits(x), -1)

    @takes_states
    @eqx.filter_jit
    def posterior(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`p(k | x)`, the probability that component k made `x`."""
        return jax.nn.softmax(self.logits(x), -1)
