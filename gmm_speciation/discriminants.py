"""The posterior of a mixture as a fixed form, for many batches at one noise level.

With diagonal precisions `diag(p_k)` and a centre c the log-odds of the components are

    log pi_k N(x; mu_k, Sigma_k) = y . w_k - (1/2) (y * y) . q_k + b_k + what all share,   y = x - c,

for weights pi_k; with one precision P of any kind q vanishes and `w_k = P (nu_k - nu)` (linear and
quadratic discriminant analysis; Fisher 1936; `covariances.contrasts`). A mixture works the coefficients
out at every call; a discriminant keeps them, and a posterior is then the product with the data and little
else.

Axes: K components, d dimension.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float

from gmm_speciation.checks import state_method
from gmm_speciation.covariances import ContrastForm


class Discriminant(eqx.Module):
    """Log-odds of the components, with their coefficients; made by `GaussianMixture.discriminant`."""

    centre: Float[Array, " d"]
    form: ContrastForm

    @state_method
    def logits(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`log p(k | x)` in nats, up to a term that all components share."""
        return self.form(x, self.centre)

    @state_method
    def log_posterior(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`log p(k | x)`; -inf for a component of weight 0."""
        return self.form(x, self.centre, jax.nn.log_softmax)

    @state_method
    def posterior(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`p(k | x)`, the probability that component k made `x`."""
        return self.form(x, self.centre, jax.nn.softmax)
