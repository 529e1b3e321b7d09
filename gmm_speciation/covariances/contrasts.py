"""Log-odds of Gaussian components by one product with the data, and their digits.

With precisions `diag(p_k)` what all components have in common is a quadratic of the data, any part of
which may be left out. The part left out here is that of a Gaussian at the mean of the means whose
precision is the smallest at hand in every coordinate: no component is singled out, and a sharp one does
not enter the odds of the others. What is left, `y . w_k - (1/2) (y * y) . q_k + b_k`, takes one product.
Two components have one log-ratio, which is taken of the second against the first.

Of a component many standard deviations from the centre this is a difference of large numbers. Where the
components lie so far apart that it shows, the odds that matter are worked out anew, against the likeliest
component j of each point and with everything large taken off before it is multiplied: in a coordinate

    log N_k / N_j = m delta (r_j + r_k) / 2 - (1/2) (p_k - p_j) r^2 + (1/2) log p_k / p_j,
    r_j = y - nu_j,  delta = nu_k - nu_j,  m = min(p_j, p_k),  r that of the sharper,

for those pairs of a point and a component that can count, collected into rows. Derivatives are those of
the product.

Axes: K components, d dimension.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gmm_speciation.covariances.products import Batch, Offsets, Weights, add_row, as_row, product

_ROUNDINGS = 8  # bound on the error of a product, in units of eps times the product of the norms


class ContrastForm(eqx.Module):
    """`log w_k N(y; nu_k, Sigma_k)` up to a term that all components share."""

    offsets: Offsets
    log_weights: Float[Array, " K"]
    precisions: Float[Array, "_ _"] | None  # (1 or K, 1 or d); None where they are not diagonal
    directions: Offsets
    constants: Float[Array, " K"]
    curvatures: Float[Array, "K _"] | None  # None where all components share the precision
    reference: Float[Array, "1 d"]  # the mean of the Gaussian that is left out
    distance: Float[Array, ""]  # largest square of means from the centre, in standard deviations

    @classmethod
    def of_shared(
        cls,
        offsets: Offsets,
        log_weights: Float[Array, " K"],
        apply: Callable[[Offsets], Offsets],
        precisions: Float[Array, "1 _"] | None = None,
    ) -> "ContrastForm":
        """From one precision P: `w_k = P (nu_k - nu)`, `b_k = -w_k . (nu_k + nu) / 2`."""
        reference = _reference(offsets)
        apart = offsets - reference
        directions = apply(apart)
        return cls(
            offsets=offsets,
            log_weights=log_weights,
            precisions=precisions,
            directions=directions,
            constants=log_weights - jnp.sum(directions * (offsets + reference), -1) / 2,
            curvatures=None,
            reference=reference,
            distance=jnp.max(jnp.sum(directions * apart, -1)),
        )

    @classmethod
    def of_each(
        cls,
        offsets: Offsets,
        log_weights: Float[Array, " K"],
        precisions: Float[Array, "K _"],
        flattest: Float[Array, "1 _"],
    ) -> "ContrastForm":
        """From precisions `diag(p_k)`, or `p_k I`, and that of the Gaussian that is left out."""
        reference = _reference(offsets)
        curvatures = precisions - flattest
        bent, straight = curvatures * offsets, flattest * (offsets - reference)
        squares = jnp.sum(bent * offsets, -1) + jnp.sum(straight * (offsets + reference), -1)
        volumes = jnp.sum(jnp.log(precisions / flattest), -1)
        volumes = volumes * (offsets.shape[1] / precisions.shape[1])
        from_centre = jnp.abs(bent * offsets) + jnp.abs(straight * (offsets - reference))
        return cls(
            offsets=offsets,
            log_weights=log_weights,
            precisions=precisions,
            directions=bent + straight,
            constants=log_weights + (volumes - squares) / 2,
            curvatures=curvatures,
            reference=reference,
            distance=jnp.max(jnp.sum(from_centre, -1)),
        )

    def __call__(
        self,
        x: Batch,
        centre: Float[Array, " d"] | None = None,
        near: Callable[[Weights], Array] = lambda log_odds: log_odds,
        far: Callable[[Weights], Array] | None = None,
    ) -> Array:
        """What is made of the log-odds of points, which are relative to a centre still to be taken off.

        `far` gets those by differences, relative to the likeliest component, where it is given.
        """

        def by_product(form, x, centre):
            return near(form._by_product(_centred(x, centre)))

        def by_differences(form, x, centre):
            y = _centred(x, centre)
            return (far or near)(form._by_differences(y, form._by_product(y)))

        if len(self.offsets) == 1 or x.size == 0:
            return by_product(self, x, centre)
        # Each way is whole, so that XLA fuses centring, product and softmax into one pass.
        eps = jnp.finfo(self.offsets.dtype).eps
        # Means no farther from the centre than data from their means: differences round as much.
        apart = (self.distance * eps > eps**0.5 / 100) & (self.distance > 4 * self.offsets.shape[1])
        return jax.lax.cond(apart, by_differences, by_product, self, x, centre)

    def _by_product(self, y: Batch) -> Weights:
        w, q = self.directions, self.curvatures
        if q is None:
            return add_row(product(y, w.T), self.constants)
        if w.shape[0] == 2:
            # One pass over the data; as matrix-vector products it would be three.
            log_odds = jnp.sum(y * (as_row(w[1], y) - y * as_row(q[1] / 2, y)), -1)
            return add_row(jnp.stack([0 * log_odds, log_odds], -1), self.constants)
        return add_row(product(y, w.T) - self._squares(y, q) / 2, self.constants)

    def _squares(self, y: Batch, curvatures: Float[Array, "K _"]) -> Weights:
        if curvatures.shape[1] == 1:
            return jnp.sum(y * y, -1, keepdims=True) * as_row(curvatures[:, 0], y)
        return product(y * y, curvatures.T)

    def _by_differences(self, y: Batch, logits: Weights) -> Weights:
        """The same against the likeliest component, those that count by differences."""
        form, points, given = jax.lax.stop_gradient((self, y, logits))
        values = form._worked_out(
            points.reshape(-1, y.shape[-1]), given.reshape(-1, logits.shape[-1])
        ).reshape(logits.shape)
        return _moving_with(values, logits)

    def _worked_out(self, points: Float[Array, "n d"], given: Float[Array, "n K"]) -> Array:
        num_points, num_components = given.shape
        likeliest = jnp.argmax(given, -1)
        own = likeliest[:, None] == jnp.arange(num_components)[None, :]
        # 0 by name: a product that is compiled into each of its uses need not be the same in all.
        values = given - jnp.take_along_axis(given, likeliest[:, None], -1)
        values = jnp.where(own, 0.0, values)
        error = self._rounding(points)
        error = error + jnp.take_along_axis(error, likeliest[:, None], -1)
        least = jnp.log(jnp.finfo(points.dtype).eps) - 2  # log-odds of what cannot count
        counts = ((values + error >= least) & ~own).ravel()

        def work_out(values):
            size = max(num_points // 8, min(counts.size, 16))
            # What counts, in order, and then none: a sort compiles in a fifth of the time of `nonzero`.
            number = jax.lax.sort(jnp.where(counts, jnp.arange(counts.size), counts.size))
            number = jnp.pad(number, (0, -counts.size % size), constant_values=counts.size)

            def some(state):
                start, values = state
                here = jax.lax.dynamic_slice(number, (start,), (size,))
                i, k = jnp.divmod(jnp.minimum(here, counts.size - 1), num_components)
                found = self._odds(points[i], k, likeliest[i])
                return start + size, values.at[here].set(found, mode="drop")

            total = jnp.sum(counts)
            return jax.lax.while_loop(lambda s: s[0] < total, some, (0 * total, values))[1]

        flat = jax.lax.cond(jnp.any(counts), work_out, lambda values: values, values.ravel())
        return flat.reshape(given.shape)

    def _rounding(self, y: Float[Array, "n d"]) -> Float[Array, "n K"]:
        """Bound on the error of `_by_product`."""
        lengths = jnp.linalg.norm(self.directions, axis=-1)
        terms = jnp.linalg.norm(y, axis=-1, keepdims=True) * lengths[None, :]
        terms = add_row(terms, jnp.abs(self.constants))
        if self.curvatures is not None:
            terms = terms + self._squares(y, jnp.abs(self.curvatures)) / 2
        return _ROUNDINGS * jnp.finfo(y.dtype).eps * terms

    def _odds(
        self, y: Float[Array, "n d"], k: Int[Array, " n"], j: Int[Array, " n"]
    ) -> Float[Array, " n"]:
        """`log w_k N_k / (w_j N_j)` by differences."""
        step = self.offsets[k] - self.offsets[j]
        own, other = y - self.offsets[k], y - self.offsets[j]
        log_prior = self.log_weights[k] - self.log_weights[j]
        if self.precisions is None:
            slope = self.directions[k] - self.directions[j]
            return log_prior + jnp.sum(slope * (own + other), -1) / 2
        if self.curvatures is None:
            return log_prior + jnp.sum(self.precisions * step * (own + other), -1) / 2
        p, q = self.precisions[k], self.precisions[j]
        sharper = jnp.where(p > q, own, other)
        terms = jnp.minimum(p, q) * step * (own + other) - (p - q) * sharper**2
        volume = jnp.sum(jnp.log(p / q), -1) * (step.shape[-1] / p.shape[-1])
        return log_prior + (jnp.sum(terms, -1) + volume) / 2


@jax.custom_jvp
def _moving_with(values: Weights, others: Weights) -> Weights:
    """The values, with the derivative of the others. Not `values + (others - others)`, which a compiler
    that works out one of the two twice need not find to be 0."""
    return values


@_moving_with.defjvp
def _moving_with_jvp(primals, tangents):
    return primals[0], tangents[1]


def _reference(offsets: Offsets) -> Float[Array, "1 d"]:
    return offsets[:1] if len(offsets) == 2 else offsets.mean(0, keepdims=True)


def _centred(x: Batch, centre: Float[Array, " d"] | None) -> Batch:
    return x if centre is None else add_row(x, -centre)
