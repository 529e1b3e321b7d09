"""Isotropic components whose variances differ: coordinates in the span of the means, and one radius.

With `v_k = alpha^2 lambda_k + sigma^2`, the state given component k has coordinates
`alpha mu_k + sqrt(v_k) z` in the span of the centred means (rank r) and the squared distance
`v_k chi^2_nu`, `nu = d - r`, from it.
`chi^2 = nu + sqrt(2 nu) u` enters by u, and precisions by their differences, formed before anything
large is multiplied: so d = 10^12 costs no digits. Log-odds of j against the true component k:

    -(1/2) [ |y - m_j|^2 / v_j - |y - m_k|^2 / v_k + chi^2 e - d log(1 + e) ],   e = v_k / v_j - 1.

Axes: K components, r rank of the centred means.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import is_concrete
from gmm_speciation.covariances import add_row, product, safe_sqrt
from gmm_speciation.posteriors import within_class
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reduction.base import ReducedMixture, statistics_of
from gmm_speciation.reduction.gram import (
    cholesky,
    principal_axes,
    top_between,
    traced_axes,
)

_HELD = 2**22  # numbers of differences of means that are held at a time


class RadialReduction(ReducedMixture):
    """Isotropic components whose variances differ: coordinates in the span of the means, and a radius."""

    points: Float[Array, "K r"]
    variances: Float[Array, " K"]

    @property
    def num_normals(self) -> int:
        return self.points.shape[1]

    @property
    def component_points(self) -> Float[Array, "K r"]:
        return self.points

    @property
    def component_variances(self) -> Float[Array, " K"]:
        return self.variances

    def clean_means(self) -> Float[Array, "K r"]:
        return self.points

    def statistics(self, log_snr, partition, tilt=None):
        alpha, sigma = variance_preserving(log_snr)
        info = jnp.finfo(self.points.dtype)
        longest = jnp.maximum(
            jnp.max(jnp.abs(self.points), initial=0.0), safe_sqrt(self.variances.max())
        )
        root = jnp.maximum(info.eps * alpha * longest, info.tiny**0.25)  # of the smallest variance
        v = jnp.maximum(alpha**2 * self.variances + sigma**2, root**2)
        nu = jnp.asarray(self.radial_dof, v.dtype)
        held = max(1, _HELD // max(self.points.size, 1))

        def squares(one: tuple[Array, Array]) -> tuple[Array, Array]:
            k, displaced = one
            steps = alpha * (self.points[k][None, :] - self.points)  # m_k - m_j
            linear = jnp.einsum("r,jr->j", displaced, steps, precision="highest")
            return linear, jnp.sum(steps**2, -1)

        def statistics(normals, radial, component):
            own_scale = jnp.sqrt(v[component])[:, None]
            # Of the component k of a draw and any j: v_k / v_j - 1, from the difference of clean variances.
            gap = alpha**2 * (self.variances[component][:, None] - self.variances[None, :])
            excess = jnp.where(gap == 0, 0.0, gap / v[None, :])
            # chi^2_nu excess - d log(1 + excess), with chi^2 = nu + sqrt(2 nu) u. Of the larger variance over
            # the smaller: the inverse of a ratio rounds to 0.
            log_ratio = jnp.log1p(jnp.maximum(excess, 0.0))
            log_ratio -= jnp.log1p(jnp.maximum(-gap / v[component][:, None], 0.0))
            smooth = nu * beyond_log(excess, log_ratio) - self.num_normals * log_ratio
            inverse_gap = -excess / v[component][:, None]  # 1 / v_k - 1 / v_j
            # |y - m_j|^2 / v_j - |y - m_k|^2 / v_k with y = m_k + sqrt(v_k) z.
            z_squared = jnp.sum(normals**2, -1)[:, None]
            draws = component, own_scale * normals
            linear, squared = jax.lax.map(squares, draws, batch_size=min(held, len(normals)))
            quadratic = z_squared * excess + (2 * linear + squared) / v[None, :]
            fluctuation = jnp.sqrt(2 * nu) * radial[:, None] * excess
            logits = -(quadratic + smooth + fluctuation) / 2
            log_posterior = jax.nn.log_softmax(add_row(logits, self.log_weights), -1)
            # Scores relative to that of the component itself: -(x - m_j) / v_j, in the span and across.
            position = alpha * self.points[component] + own_scale * normals
            chi_squared = jnp.maximum(nu + jnp.sqrt(2 * nu) * radial, 0.0)
            posterior, within = jnp.exp(log_posterior), within_class(log_posterior, partition)

            def add(total: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
                probability, c = one
                contrast = within(c) - posterior
                shift = jnp.einsum("nj,nj->n", contrast, inverse_gap, precision="highest")
                offset = product(contrast, alpha * self.points / v[:, None])
                in_span = jnp.sum((shift[:, None] * position + offset) ** 2, -1)
                across = v[component] * chi_squared * shift**2
                return total + probability * (in_span + across), None

            probabilities = jnp.exp(partition.log_sum(log_posterior)).T
            classes = (probabilities, jnp.arange(partition.num_classes))
            spread = jax.lax.scan(add, jnp.zeros_like(radial), classes)[0]
            return statistics_of(log_posterior, sigma**2 * spread, partition, tilt)

        return statistics

    def total_top_eigenvalue(self) -> float:
        weights = np.asarray(self.weights, float)
        within = float(weights @ np.asarray(self.variances, float))
        return within + top_between(np.asarray(self.points, float), weights)


def beyond_log(e: Float[Array, "*shape"], log: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`e - log(1 + e)` of both, without their rounding, which any number of dimensions multiplies.

    Near 0 by `log(1 + e) = 2 artanh(e / (2 + e))`.
    """
    near = jnp.abs(e) < 0.1
    r = jnp.where(near, e / (2 + e), 0.0)
    series = jnp.zeros_like(r)
    for power in range(15, 1, -2):
        series = series * r**2 + 1 / power
    return jnp.where(near, r * e - 2 * r**3 * series, e - log)


def radial_reduction(
    means: Float[Array, "K m"],
    variances: Float[Array, " K"],
    log_weights: Float[Array, " K"],
    dim: int,
) -> RadialReduction:
    """From the means, or coordinates of them, and one isotropic variance a component."""
    if is_concrete(means):
        points = jnp.asarray(principal_axes(means)[0], log_weights.dtype)
    else:
        lengths, frame = traced_axes(means)
        points = product(lengths, cholesky(product(frame, frame.T)))
    return RadialReduction(
        log_weights=log_weights,
        points=points,
        variances=variances,
        dimension=dim,
        has_radius=dim > points.shape[1],
    )
