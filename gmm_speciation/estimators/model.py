"""Posterior means of a diffusion model, as estimators see them, exact ones among them.

    D(x)   = E[x_0 | x_t = x],      D_c(x) = E[x_0 | x_t = x, c]

at `x_t = alpha x_0 + sigma eps`, `alpha^2 + sigma^2 = 1`, for any log-SNR, which may be traced.
Learned networks implement the same interface.
"""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gmm_speciation.inference import class_denoisers, denoiser
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import variance_preserving

State = Float[Array, "n d"]


@runtime_checkable
class Denoisers(Protocol):
    """Interface: the unconditional posterior mean, and that of every class."""

    @property
    def num_classes(self) -> int:
        """C."""

    def overall(self, x: State, log_snr: Float[Array, ""]) -> State:
        """`D(x)`."""

    def classes(self, x: State, log_snr: Float[Array, ""]) -> Float[Array, "n C d"]:
        """`D_c(x)` of every class."""

    def own(self, x: State, log_snr: Float[Array, ""], labels: Int[Array, " n"]) -> State:
        """`D_c(x)` of one class a state."""


class ExactDenoisers(eqx.Module):
    """The closed form of a mixture: what a perfect network would return."""

    mixture: GaussianMixture
    partition: Partition

    @property
    def num_classes(self) -> int:
        return self.partition.num_classes

    def overall(self, x: State, log_snr: Float[Array, ""]) -> State:
        return denoiser(self.mixture, x, *_scales(x, log_snr))

    def own(self, x: State, log_snr: Float[Array, ""], labels: Int[Array, " n"]) -> State:
        alpha, sigma = _scales(x, log_snr)
        log_p = self.mixture.perturb(alpha, sigma).log_posterior(x)
        member = jnp.asarray(self.partition.labels)[None, :] == labels[:, None]
        within = jax.nn.softmax(jnp.where(member, log_p, -jnp.inf), -1)
        return denoiser(self.mixture, x, alpha, sigma, within)

    def classes(self, x: State, log_snr: Float[Array, ""]) -> Float[Array, "n C d"]:
        alpha, sigma = _scales(x, log_snr)
        if not (self.partition.is_trivial and self.mixture.covariance.shared):
            return class_denoisers(self.mixture, x, alpha, sigma, self.partition)
        mixture = self.mixture

        def of(offset: Array) -> Array:
            # One Gaussian at a time: a class mean costs no sum over all the others.
            alone = GaussianMixture(
                jnp.zeros_like(mixture.log_weights[:1]),
                mixture.centre,
                offset[None],
                mixture.covariance,
            )
            return denoiser(alone, x, alpha, sigma)

        return jnp.moveaxis(jax.lax.map(of, mixture.offsets), 0, 1)


def _scales(x: Array, log_snr: Array) -> tuple[Array, Array]:
    alpha, sigma = variance_preserving(log_snr)
    return alpha.astype(x.dtype), sigma.astype(x.dtype)
